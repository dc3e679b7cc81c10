import pandas as pd
import pytest
from IPython.utils.capture import capture_output
from labkit.params.metric_meanings import MEANINGS
from labkit.params.training import CLASSIFICATION_METRICS, REGRESSION_METRICS
from labkit.view import prose


def test_every_metric_is_described_in_words() -> None:
    assert set(MEANINGS) == set(CLASSIFICATION_METRICS + REGRESSION_METRICS)


@pytest.mark.parametrize("name", ["short", "exactly twenty-six letters", "x" * 27, "a" * 500])
def test_shortened_names_fit(name: str) -> None:
    shown = prose.shorten_name(name)
    assert len(shown) <= prose.LONGEST_NAME
    assert shown[:5] == name[:5]
    assert shown[-3:] == name[-3:]


def show(frame: pd.DataFrame, **options: object) -> list[dict[str, str]]:
    with capture_output() as captured:
        prose.show_table(frame, **options)  # type: ignore[arg-type]
    return [output.data for output in captured.outputs]


def count_lines(page: str) -> int:
    return page.count("<tr>") + page.count("<tr ") - 1


def test_table_shows_ten_lines_and_folds_the_others() -> None:
    page, folded = show(pd.DataFrame({"a": range(42)}))
    assert count_lines(page["text/html"]) == 10
    assert folded["text/html"].startswith("<details><summary>32 more lines</summary>")
    assert count_lines(folded["text/html"]) == 32
    assert ">41<" in folded["text/html"]


def test_very_long_table_counts_what_it_leaves_out() -> None:
    _, folded, rest = show(pd.DataFrame({"a": range(1234)}))
    assert count_lines(folded["text/html"]) == 490
    assert rest["text/markdown"] == "… and 734 lines that are not shown."


def test_table_escapes_what_is_in_it() -> None:
    (page,) = show(pd.DataFrame({"<b>x</b>": ["<script>alert(1)</script>", None]}))
    assert "<script" not in page["text/html"]
    assert "<b>" not in page["text/html"]


def test_empty_table_becomes_a_sentence() -> None:
    (page,) = show(pd.DataFrame({"a": []}), empty="There is none.")
    assert page["text/markdown"] == "There is none."


def test_numbers_are_written_for_people_and_missing_values_as_dashes() -> None:
    (page,) = show(pd.DataFrame({"a": [0.123456, None], "b": [1, 2]}), formats={"b": lambda value: f"no. {value}"})
    cells = page["text/html"]
    assert all(escaped in cells for escaped in ("<td>0.123</td>", "<td>–</td>", "<td>no. 1</td>"))


def test_sentences_become_paragraphs_and_items_one_list() -> None:
    with capture_output() as captured:
        prose.report("Two things:", "- one", "", "- two", "That is all.")
    assert captured.outputs[0].data["text/markdown"] == "Two things:\n\n- one\n- two\n\nThat is all."


@pytest.mark.parametrize("name", ["a|b", "`rm`", "line\nbreak", "<script>"])
def test_escaped_names_stay_one_piece_of_code(name: str) -> None:
    escaped = prose.escape(name)
    assert escaped.count("`") == 2
    assert "|" not in escaped
    assert "\n" not in escaped

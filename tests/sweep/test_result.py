"""The result of a sweep, as it is shown."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from labkit.cli.sweep import show_result
from labkit.errors import ParamsError
from labkit.sweep.result import Result, Row, find_page, save_result

from tests.conftest import call_in_process

OPTIMISTIC = "The best of 2 points was chosen by its score, so this score is optimistic, in cross-validation too"


def make_result(*settings: str) -> Result:
    """Return the result of a sweep whose points are all done."""
    rows = [
        Row(number, (setting,), is_done=True, score=float(number), deviation=0.5)
        for number, setting in enumerate(settings, 1)
    ]
    return Result("r1", "diabetes", "mae", "training", tuple(rows), 2)


def test_score_of_the_best_point_is_shown_as_optimistic(params_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = make_result("features.most_categories=10", "features.most_categories=20")
    save_result(result)
    show_result(result)
    assert OPTIMISTIC in " ".join(capsys.readouterr().out.split())
    assert OPTIMISTIC in find_page("diabetes").read_text()


@pytest.mark.parametrize(("settings", "is_refolded"), [(("seed=1", "seed=2"), True), (("eda.x=1", "eda.x=2"), False)])
def test_points_with_folds_of_their_own_are_named(settings: tuple[str, str], is_refolded: bool) -> None:
    assert ("different parts of the rows" in make_result(*settings).describe_choice()) == is_refolded


def test_best_point_is_not_known_until_all_have_run() -> None:
    result = make_result("seed=1", "seed=2")
    assert result.find_row("best").number == 1
    left = replace(result, rows=(*result.rows, Row(3, ("seed=3",)), Row(4, ("seed=4",), failure="stage eda failed")))
    with pytest.raises(ParamsError) as raised:
        left.find_row("best")
    assert str(raised.value) == (
        "--adopt best: 1 of 4 points of r1 are not run: run the same sweep again, which continues it, or adopt a point by "
        "its number"
    )
    assert left.find_row("2").number == 2


def test_page_begins_with_the_best_point_and_what_it_beats(params_root: Path) -> None:
    made = make_result(*(f"training.most_features={number}" for number in (3, 4, 5, 6)))
    rows = [
        replace(row, score=score, validation=1.25) for row, score in zip(made.rows, (1.0, 1.4, 1.5, 1.6), strict=True)
    ]
    save_result(replace(made, rows=(*rows, Row(5, ("training.most_features=7",), failure="stage training failed"))))
    page = find_page("diabetes").read_text()
    words = " ".join(re.sub("<[^>]+>", "", page).split())
    assert "Point 1 is the best, with training.most_features=3: mae 1.00 ± 0.50 in cross-validation." in words
    assert "On the validation rows, which had no part in the choice, it has 1.25." in words
    assert "It is ahead of 1 of 3 other points by more than the standard deviation over its folds." in words
    assert "It is not shown to be better than points 2 and 3." in words
    assert "4 points by mae in cross-validation" in words
    assert page.index("Point 1 is the best") < page.index("data:image/svg+xml") < page.index("Point 5 failed")


def test_latest_sweep_is_shown_again(params_root: Path) -> None:
    done = call_in_process(params_root, "sweep", "diabetes")
    assert (done.returncode, "diabetes: no sweep yet: labkit sweep diabetes -S" in done.stderr) == (2, True)
    save_result(make_result("features.most_categories=10", "features.most_categories=20"))
    done = call_in_process(params_root, "sweep", "diabetes")
    assert (done.returncode, "2 of 2 points done up to training" in done.stdout) == (0, True)
    assert OPTIMISTIC in " ".join(done.stdout.split())


def test_one_point_is_no_choice() -> None:
    assert make_result("seed=1").describe_choice() == ""

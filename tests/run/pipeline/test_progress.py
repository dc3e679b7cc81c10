"""What a person at a terminal sees."""

import io
import time

import pytest
from labkit.run.pipeline.progress import Line, Progress
from rich.console import Console


def test_output_of_others_is_shown_as_it_is() -> None:
    """A column `x [kg]` or an error that names `[/data/in]` is no markup."""
    for is_terminal in (False, True):
        stream = io.StringIO()
        progress = Progress(Console(file=stream, width=120, force_terminal=is_terminal, color_system=None))
        progress.start_stage("eda")
        progress.start_cell(1, 2, "The column [/red] x [kg]")
        progress.end_stage("failed", "nothing in [/data/in], [red]x [kg]")
        progress.show_table("shop", [Line("eda", "restored", None, "nothing in [/data/in], [red]x [kg]")])
        assert stream.getvalue().count("nothing in [/data/in], [red]x [kg]") == 2


RESULT = "336,776 rows; arr_delay alone explains 97 % of whether a flight is late"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_line_of_a_stage_is_broken_between_words_on_a_terminal(width: int) -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=width, force_terminal=True, color_system=None))
    progress.stage, progress.started = "eda", time.monotonic()
    progress.end_stage("ran", RESULT)
    lines = stream.getvalue().splitlines()
    assert " ".join(
        line[44:] if number else line.partition("0.0 s")[2] for number, line in enumerate(lines)
    ).split() == (RESULT.split())
    assert max(map(len, lines)) <= max(width, 64)


def test_line_of_a_stage_stays_one_line_in_a_pipe() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=80))
    progress.stage, progress.started = "eda", time.monotonic()
    progress.end_stage("ran", RESULT)
    assert stream.getvalue().endswith(f"{RESULT}\n")
    assert stream.getvalue().count("\n") == 1


def test_closing_table_has_only_stages_that_have_no_line_yet() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=80))
    ran = Line("training", "ran", 12.0, "linear")
    progress.show_table("shop", [ran])
    assert stream.getvalue() == ""
    progress.show_table("shop", [Line("eda", "up to date", None, "442 rows"), ran])
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == [
        "shop",
        "stage  this time   latest result",
        "eda    up to date  442 rows",
    ]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_long_title_is_not_wrapped_at_the_width_of_a_narrow_table(is_terminal: bool) -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=80, force_terminal=is_terminal, color_system=None))
    title = "diabetes: How far will this patient's diabetes have progressed in one year?"
    progress.show_table(title, [Line("eda", "up to date", None, "")])
    assert stream.getvalue().splitlines()[0].rstrip() == title

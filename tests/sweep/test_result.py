"""The result of a sweep, as it is shown."""

from dataclasses import replace
from pathlib import Path

import pytest
from labkit.cli.sweep import show_result
from labkit.errors import ParamsError
from labkit.sweep.result import Result, Row, find_page, save_result

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


def test_one_point_is_no_choice() -> None:
    assert make_result("seed=1").describe_choice() == ""

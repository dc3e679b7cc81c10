"""Where a split by time is cut."""

from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from labkit.cli.new import confirm
from labkit.data.reading.raw_table import Source
from labkit.new.inspect import Survey, survey_table
from labkit.new.options import Choices
from labkit.new.proposal import Proposal, make_proposal
from labkit.new.split_plan import choose_cuts


def make_times(n_days: int, rows_per_day: int = 3) -> pd.Series:
    """Return rows spread evenly over days, each at another time of its day."""
    start = pd.Timestamp("2024-01-01")
    return pd.Series([start + pd.Timedelta(days=n // rows_per_day, hours=n % 24) for n in range(n_days * rows_per_day)])


@pytest.mark.parametrize(
    ("n_days", "n_training", "n_judged"),
    [(365, 219, 73), (140, 84, 28), (100, 54, 28), (84, 42, 28), (83, 49, 17), (30, 18, 6)],
)
def test_holdout_spans_the_days_that_the_gate_asks_for_where_there_are_enough(
    n_days: int, n_training: int, n_judged: int
) -> None:
    (validation, holdout), found = choose_cuts(make_times(n_days))
    first = pd.Timestamp("2024-01-01")
    assert found == n_judged
    assert ((validation - first).days, (holdout - first).days) == (n_training, n_days - n_judged)


def test_days_without_rows_do_not_count() -> None:
    weekly = pd.Series(np.repeat(pd.date_range("2020-01-06", periods=100, freq="7D").to_numpy(), 2))
    (_, holdout), n_judged = choose_cuts(weekly)
    assert n_judged == 28
    assert holdout == pd.Timestamp("2020-01-06") + 72 * pd.Timedelta(days=7)


INPUTS = {
    f"column_{letter}": [n % (7 + 3 * place) for n in range(300)] for place, letter in enumerate("abcdefghijklmno")
}


def propose(folder: Path, n_inputs: int, *, is_dated: bool = True) -> tuple[Survey, Proposal]:
    """Return the survey of customers who signed up on one day each, and the proposal for them."""
    days = {"signup_date": pd.Timestamp("2024-01-01") + pd.to_timedelta(range(300), unit="D")} if is_dated else {}
    table = pd.DataFrame({**days, **dict(list(INPUTS.items())[:n_inputs])})
    path = folder / "customers.csv"
    table.assign(churned=["yes" if n % 3 else "no" for n in range(300)]).to_csv(path, index=False)
    survey = survey_table("churn", [Source(path, str(path))], ("customers.csv",), "churned", Choices())
    return survey, make_proposal("churn", survey, "churned", Choices())


@pytest.mark.parametrize(
    ("n_inputs", "stated"),
    [
        (1, "this column must be known then: column_a"),
        (2, "these 2 columns must be known then: column_a, column_b"),
        (14, f"these 14 columns must be known then: {', '.join(list(INPUTS)[:12])} and 2 more"),
    ],
)
def test_moment_of_prediction_is_stated_with_what_must_be_known_then(
    tmp_path: Path, n_inputs: int, stated: str
) -> None:
    _, proposal = propose(tmp_path, n_inputs)
    assert proposal.moment == f"this model predicts at signup_date; {stated}"
    assert "prediction: all other columns must be known then" in proposal.comments["data", "time"]


def test_without_a_date_there_is_no_moment(tmp_path: Path) -> None:
    assert propose(tmp_path, 2, is_dated=False)[1].moment == ""


@pytest.mark.parametrize(("answers", "is_created"), [("y\n\n\n\n\ny\n", True), ("n\n", False)])
def test_what_is_known_then_is_asked(tmp_path: Path, answers: str, is_created: bool) -> None:
    found = propose(tmp_path, 2)
    asked = click.command()(lambda: click.echo(f"created: {confirm(*found)}"))
    done = CliRunner().invoke(asked, input=answers)
    assert "Note:      this model predicts at signup_date; these 2 columns must be known then" in done.output
    assert "Are all of them known then? [Y/n]: " in done.output
    assert f"created: {is_created}" in done.output
    assert ("run again with --drop COLUMN" in done.output) is not is_created


def test_days_of_the_split_are_those_of_the_zone_that_the_times_name(tmp_path: Path) -> None:
    """Evenings in New York are the next day in UTC."""
    evenings = pd.date_range("2024-01-01 22:00", periods=300, freq="D", tz="America/New_York")
    table = pd.DataFrame({"asked": [time.isoformat() for time in evenings], "size": INPUTS["column_a"]})
    path = tmp_path / "calls.csv"
    table.assign(late=["yes" if n % 3 else "no" for n in range(300)]).to_csv(path, index=False)
    survey = survey_table("calls", [Source(path, str(path))], ("calls.csv",), "late", Choices())
    data = make_proposal("calls", survey, "late", Choices()).tree["data"]
    assert data["time"]["zone"] == "America/New_York"
    assert (data["split"]["validation_from"], data["split"]["holdout_from"]) == ("2024-06-29", "2024-08-28")

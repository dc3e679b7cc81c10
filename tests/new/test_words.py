"""Words that `labkit new` proposes for the pages, and asks for."""

from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner
from labkit.cli.new import confirm
from labkit.data.reading.raw_table import Source
from labkit.new.inspect import Survey, survey_table
from labkit.new.options import Choices
from labkit.new.proposal import Proposal, make_proposal
from labkit.new.target import TargetPlan
from labkit.new.words import find_labels, propose_words
from labkit.params.describe import write_commented
from labkit.params.load import load_params, parse_file
from labkit.params.subject import Subject
from labkit.params.yaml_text import load_plain

from tests.hostile_strings import HOSTILE


def plan(*values: object, task: str = "classification") -> TargetPlan:
    """Return the plan of a target with these values."""
    return TargetPlan(task, "roc_auc", {}, pd.Series(values), 0)


@pytest.mark.parametrize(
    ("file", "question", "row"),
    [
        ("/tmp/customers.csv", "What is `churned` for this customer?", "customer"),
        ("/tmp/people.xlsx", "What is `churned` for this person?", "person/people"),
        ("/tmp/churn.csv", "What is `churned` for a row of churn.csv?", "row"),
        ("/tmp/a`${b}.csv", "What is `churned` for this row?", "row"),
        ("--sql", "What is `churned` for this row?", "row"),
    ],
)
def test_question_and_noun_come_from_the_names(file: str, question: str, row: str) -> None:
    words, decisions = propose_words(file, "churned", plan(1.5, 2.5, task="regression"))
    assert words == {"question": question, "row": row}
    assert [one.place for one in decisions] == [("question",), *([("row",)] if row != "row" else [])]


def test_hostile_target_can_be_written(params_root: Path) -> None:
    for target in HOSTILE:
        words, _ = propose_words("t.csv", target, plan(1.5, 2.5, task="regression"))
        path = params_root / "params" / "diabetes.yaml"
        tree = {**load_plain(path), **words}
        if "${" not in target:
            assert parse_file(write_commented(tree, {}, "Made.", path), path).params.question == words["question"]


@pytest.mark.parametrize(
    ("target", "values", "labels"),
    [
        ("churned", ("Yes", "No"), {"Yes": "churned", "No": "not churned"}),
        ("is_late", (0.0, 1.0), {"1": "late", "0": "not late"}),
        ("isFraud", (True, False), {"True": "fraud", "False": "not fraud"}),
        ("late", ("late", "punctual"), {}),
        ("y", (0, 1), {}),
        ("target", (0, 1), {}),
        ("rooms", (1, 2, 3), {}),
    ],
)
def test_labels_are_made_for_yes_and_no_only(target: str, values: tuple[object, ...], labels: dict[str, str]) -> None:
    assert find_labels(target, plan(*values)) == labels


@pytest.fixture
def proposed(tmp_path: Path) -> tuple[Survey, Proposal]:
    """Return the proposal for a table of customers."""
    path = tmp_path / "customers.csv"
    lines = [f"{n % 7},{'yes' if n % 3 else 'no'}" for n in range(90)]
    path.write_text("\n".join(["age,churned", *lines]) + "\n")
    survey = survey_table("churn", [Source(path, str(path))], ("customers.csv",), "churned", Choices())
    return survey, make_proposal("churn", survey, "churned", Choices())


def test_words_are_written_with_a_comment(proposed: tuple[Survey, Proposal], params_root: Path) -> None:
    path = params_root / "params" / "churn.yaml"
    path.write_text(content := write_commented(proposed[1].tree, proposed[1].comments, "Made.", path))
    assert "# question: made from the name of the target, shown on every page: say it in your own words\n" in content
    assert "row: customer\n" in content
    assert Subject.from_params(load_params("churn")).count_rows(5, of_class="yes") == "5 churned customers"


def test_words_are_asked_for(proposed: tuple[Survey, Proposal]) -> None:
    answers = "Will this client leave?\nclient\n\nloyal\ny\n"
    asked = click.command()(lambda: click.echo(f"created: {confirm(*proposed)}"))
    done = CliRunner().invoke(asked, input=answers)
    assert "What is predicted, as a question [What is `churned` for this customer?]: Will" in done.output
    assert "Rows of class yes are called [churned]: " in done.output
    assert "created: True" in done.output
    tree = proposed[1].tree
    assert (tree["question"], tree["row"]) == ("Will this client leave?", "client")
    assert tree["data"]["target"]["labels"] == {"yes": "churned", "no": "loyal"}

"""The words of an experiment: declared in its params, generic where nothing is declared."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.params import load
from labkit.params.subject import Subject

LABELS = 'labels: {"1": late, "0": on time}'


def edit(root: Path, *changes: tuple[str, str], name: str = "flights") -> Subject:
    """Return the words of an experiment after changes of its params file."""
    path = root / "params" / f"{name}.yaml"
    content = path.read_text()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new, 1)
    path.write_text(content)
    return Subject.from_params(load.load_params(name))


def test_declared_words_are_used(params_root: Path) -> None:
    subject = edit(params_root)
    assert subject.question.startswith("Will this flight arrive more than 15 minutes late")
    assert subject.count_rows(8374, of_class=1) == "8,374 late flights"
    assert subject.count_rows(1, of_class=1.0) == "1 late flight"
    assert subject.count_rows(0, kind="holdout", of_class=0) == "no holdout on time flights"
    assert subject.name_column("dep_delay") == "departure delay (minutes)"
    assert subject.add_unit("largest error", "dep_delay") == "largest error (minutes)"
    assert subject.format_time(datetime(2013, 10, 15, 9, tzinfo=UTC)) == "2013-10-15 05:00"
    assert load.load_params("flights").evaluation.costs.unit == "points"
    assert set(subject.find_clocks()) == {"departure_minute", "arrival_minute"}


def test_generic_words_where_none_are_declared(params_root: Path) -> None:
    question = load.load_params("flights").question
    subject = edit(params_root, (f"question: {question}\nrow: flight\n", ""), (LABELS, "labels: {}"))
    assert subject.question == "What is `late` for this row?"
    assert subject.count_rows(2, of_class=1) == "2 rows of class `1`"
    assert (subject.name_class(1), subject.name_column("carrier")) == ("1", "carrier")


def test_plural_is_the_noun_with_s_unless_given(params_root: Path) -> None:
    assert edit(params_root).rows == "flights"
    subject = edit(params_root, ("row: flight\n", "row: category/categories\n"))
    assert (subject.count_rows(1), subject.count_rows(2)) == ("1 category", "2 categories")


def test_class_that_is_true_or_false_has_a_label(params_root: Path) -> None:
    subject = edit(params_root, (LABELS, "labels: {true: late, false: on time}"))
    assert (subject.name_class(True), subject.name_class(False)) == ("late", "on time")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("flights", '"0": on time}', '"0": late}', "`labels`: two classes are called 'late': give each its own"),
        (
            "flights",
            '"0": on time}',
            "\"0\": ' '}",
            "`labels`: a label is empty: remove its line to show the class itself",
        ),
        ("diabetes", "task: regression}", "task: regression, labels: {1: a}}", "`labels` is for classification only"),
        ("diabetes", "row: patient", "row: a/b/c", "diabetes.yaml:5: row: 'a/b/c' is no noun: write e.g. flight"),
        ("diabetes", "row: patient", 'row: "patient "', "diabetes.yaml:5: row: 'patient ' is no noun"),
        ("diabetes", "row: patient", 'row: ""', "diabetes.yaml:5: row: '' is no noun"),
        (
            "diabetes",
            "question: How far",
            'question: "two\\nlines" # How far',
            "diabetes.yaml:4: question: it has several lines: write one",
        ),
        ("diabetes", "age: {unit: years}", "age: {units: years}", "unknown key data.columns.age.units"),
    ],
)
def test_words_that_cannot_be_shown_are_refused(params_root: Path, name: str, old: str, new: str, message: str) -> None:
    with pytest.raises(ParamsError) as refused:
        edit(params_root, (old, new), name=name)
    assert message in str(refused.value)

"""The words of a new experiment: its question, what one row is, and what its classes are called.

They are proposals, made from the names of the file and of the target, and meant to be replaced.
"""

import re
from pathlib import Path

from labkit.errors import shorten
from labkit.names import escape
from labkit.new.options import ParamsDecision
from labkit.new.target import TargetPlan, make_label, make_word
from labkit.vocabulary import YES_NO, list_words

LONGEST_TARGET = 100
PLAIN_FILE = re.compile(r"\w[\w .-]{0,99}")
SHOWN = "made from the name of {}, shown on every page: say it in your own words"
IRREGULAR = {
    "people": "person", "children": "child", "women": "woman", "men": "man", "mice": "mouse", "movies": "movie",
    "analyses": "analysis", "buses": "bus", "cookies": "cookie", "calories": "calorie",
}  # fmt: skip
"""Singular of nouns that do not follow the rules below, by their plural."""
NO_PLURAL = {"diabetes", "news", "series", "species", "rows", "sales", "measles", "always", "has", "was"}
"""Words that end in s but are singular, or do not name one row."""
QUESTION_VERBS = {"is", "has", "was", "did", "will"}
NO_NAME = {"target", "label", "class", "outcome", "response", "result", "flag", "yes", "status"}
"""Names of a target that say nothing about its classes."""


def propose_words(where: str, target: str, target_plan: TargetPlan) -> tuple[dict[str, str], list[ParamsDecision]]:
    """Return the question and the noun for a row, and the decisions about them; labels are added to the target's plan.

    Parameters
    ----------
    where
        Path of the table's file, or the option of its query.
    target
        Column to predict.
    target_plan
        Decisions about the target.
    """
    file = Path(where).name if PLAIN_FILE.fullmatch(Path(where).name) else ""
    row = find_row_noun(file)
    asked = f"this {row.partition('/')[0]}" if row != "row" or not file else f"a row of {file}"
    question = f"What is {escape(shorten(' '.join(target.split()), LONGEST_TARGET))} for {asked}?"
    decisions = [ParamsDecision("question", question, SHOWN.format("the target"), ("question",))]
    if row != "row":
        decisions.append(ParamsDecision("one row", row, SHOWN.format(f"the file, {file}"), ("row",)))
    if labels := find_labels(target, target_plan):
        target_plan.fields["labels"] = labels
        value = ", ".join(f"{value}: {label}" for value, label in labels.items())
        decisions.append(ParamsDecision("labels", value, SHOWN.format("the target"), ("data", "target", "labels")))
    return {"question": question, "row": row}, decisions


def find_row_noun(file: str) -> str:
    """Return what one row is, `row` unless the file's name is one English plural; with the plural if it is irregular.

    Examples
    --------
    >>> [find_row_noun(f"{name}.csv") for name in ("customers", "Orders_2023", "people", "cities", "boxes", "houses")]
    ['customer', 'order', 'person/people', 'city/cities', 'box/boxes', 'house']
    >>> [find_row_noun(f"{name}.csv") for name in ("churn", "house_prices", "diabetes", "status", "analysis", "glass")]
    ['row', 'row', 'row', 'row', 'row', 'row']
    """
    words = list_words(file.partition(".")[0])
    plural = words[0] if len(words) == 1 else ""
    if plural in IRREGULAR:
        one = IRREGULAR[plural]
    elif plural in NO_PLURAL or len(plural) < 4 or not plural.isascii() or not plural.endswith("s"):
        return "row"
    elif plural.endswith("ies"):
        one = f"{plural[:-3]}y"
    elif plural.endswith(("sses", "shes", "ches", "xes", "zzes")):
        one = plural[:-2]
    elif plural.endswith(("ss", "us", "is", "ics")):
        return "row"
    else:
        one = plural[:-1]
    return one if plural == f"{one}s" else f"{one}/{plural}"


def find_labels(target: str, target_plan: TargetPlan) -> dict[str, str]:
    """Return labels of a yes/no target made from its name, such as `churned` and `not churned`; else none."""
    classes = {make_word(label): make_label(label) for label in target_plan.values.dropna().unique()}
    pair = next(((yes, no) for yes, no in YES_NO if {yes, no} == set(classes)), None)
    words = [word for word in list_words(target) if word not in QUESTION_VERBS]
    name = " ".join(words)
    if target_plan.task != "classification" or pair is None or len(name) < 3 or NO_NAME & set(words):
        return {}
    yes, no = (str(classes[word]) for word in pair)
    return {yes: name, no: f"not {name}"}

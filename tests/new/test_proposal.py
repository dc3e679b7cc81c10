"""What `labkit new` decides about columns, target and leaks, and what it reports."""

import json
import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from labkit.data.reading.raw_table import Source
from labkit.model.evaluation.gate import describe_limits
from labkit.new.inspect import survey_table
from labkit.new.options import Choices
from labkit.new.proposal import Proposal, make_proposal
from labkit.params.evaluation import Gate
from labkit.params.tables import Data
from labkit.params.wrangling import Wrangling

Row = dict[str, Any]


def make_rows(n: int, make: Callable[[int, random.Random], Row], *, seed: int = 0) -> list[Row]:
    """Return rows, each made of its number and a generator."""
    draw = random.Random(seed)
    return [make(number, draw) for number in range(n)]


def write(folder: Path, rows: list[Row]) -> Path:
    """Write rows as a CSV file; None is an empty cell."""
    path = folder / "t.csv"
    lines = [list(rows[0]), *([("" if value is None else str(value)) for value in row.values()] for row in rows)]
    cells = [[f'"{cell}"' if "," in cell else cell for cell in line] for line in lines]
    path.write_text("".join(",".join(line) + "\n" for line in cells), encoding="utf-8")
    return path


def propose(folder: Path, rows: list[Row], **choices: Any) -> Proposal:
    """Decide about a table whose target is `y`."""
    path, chosen = write(folder, rows), Choices(**choices)
    return make_proposal("t", survey_table("t", [Source(path, "t.csv")], ("t.csv",), "y", chosen), "y", chosen)


def describe(proposal: Proposal) -> list[str]:
    """Return the decisions as lines; warnings begin with an exclamation mark."""
    return [
        f"{'! ' if line.is_warning else ''}{line.subject} | {line.value} | {line.reason}" for line in proposal.decisions
    ]


def find_dropped(proposal: Proposal) -> dict[str, str]:
    """Return the columns left out, with the reasons."""
    return proposal.tree["wrangling"].get("drop", {})


def make_buyer(number: int, draw: random.Random) -> Row:
    age = draw.randint(18, 80)
    label = "yes" if age + draw.gauss(0, 15) > 50 else "no"
    return {"age": None if number == 17 else age, "door": draw.choice("rgb"), "y": label}


def make_customer(number: int, draw: random.Random) -> Row:
    charges = round(draw.uniform(18, 110), 2)
    label = "yes" if draw.random() < 0.2 + charges / 300 else "no"
    return {"plan": draw.choice("abc"), "charges": None if number in (0, 3) else charges, "y": label}


def make_patient(number: int, draw: random.Random) -> Row:
    """Return a patient whose laboratory values are missing at random, more often of the healthy."""
    ill = draw.random() < 0.3
    row = {f"lab{place}": round(draw.gauss(ill, 1), 2) for place in range(8)}
    row |= {name: None for name in row if draw.random() < (0.1 if ill else 0.5)}
    return {**row, "age": draw.randint(20, 90), "y": "ill" if ill else "well"}


def make_price(number: int, draw: random.Random) -> Row:
    day = date(2021, 1, 1) + timedelta(days=number)
    opened = round(100 + draw.gauss(0, 5), 2)
    values = {"open": opened, "volume": draw.randint(2000, 9000), "y": round(opened + draw.gauss(0, 4), 2)}
    return {"day": day, **(dict.fromkeys(values) if number == 27 else values)}


HONEST: dict[str, list[Row]] = {
    "one missing value": make_rows(240, make_buyer),
    "two missing values": make_rows(400, make_customer),
    "laboratory values, missing more often of one class": make_rows(300, make_patient),
    "one blank row": make_rows(60, make_price),
}


@pytest.mark.parametrize("rows", HONEST.values(), ids=HONEST)
def test_honest_columns_stay(tmp_path: Path, rows: list[Row]) -> None:
    assert find_dropped(propose(tmp_path, rows)) == {}


def make_film(number: int, draw: random.Random) -> Row:
    passed = draw.random() < 0.54
    words = ("talk", "late", "twice", "thrice", "short") if passed else ("cut", "mute", "names", "other", "dubbed")
    return {"minutes": draw.randint(70, 190), "verdict": draw.choice(words), "y": "pass" if passed else "fail"}


def make_arrest(number: int, draw: random.Random) -> Row:
    again = draw.random() < 0.44
    day = date(2015, 1, 1) + timedelta(days=draw.randint(0, 1500))
    is_filled = again or draw.random() < 0.06
    return {"age": draw.randint(18, 70), "second": day if is_filled else None, "y": "yes" if again else "no"}


def make_refund(number: int, draw: random.Random) -> Row:
    back = draw.random() < 0.3
    return {"size": draw.gauss(0, 1), "refunded": draw.randint(1, 9) if back else None, "y": "back" if back else "kept"}


def make_code(number: int, draw: random.Random) -> Row:
    kind = draw.choice("abc")
    return {"size": draw.gauss(0, 1), "code": {"a": 7, "b": 3, "c": 5}[kind], "y": kind}


def make_celsius(number: int, draw: random.Random) -> Row:
    degrees = round(draw.gauss(15, 8), 1)
    return {"wind": draw.gauss(5, 2), "fahrenheit": round(1.8 * degrees + 32, 2), "y": degrees}


def make_band(number: int, draw: random.Random) -> Row:
    price = round(draw.uniform(50, 950), 2)
    return {"rooms": draw.randint(1, 9), "band": f"band {int(price // 200)}", "y": price}


LEAKS: dict[str, tuple[list[Row], str, str]] = {
    "each word belongs to one class": (
        make_rows(200, make_film), "verdict",
        "finer classes of the target: each of its 10 values corresponds to one class of the target, in 200 rows",
    ),
    "filled for one class and 6 % of the other": (make_rows(200, make_arrest), "second", "filled after the outcome: "),
    "filled for one class only": (make_rows(200, make_refund), "refunded", "filled after the outcome: filled in "),
    "another code": (make_rows(200, make_code), "code", "copy of the target: the target under another name"),
    "another unit": (make_rows(200, make_celsius), "fahrenheit", "copy of the target: target and column lie on a"),
    "ranges": (make_rows(200, make_band), "band", "ranges of the target: each of its 5 values corresponds to its own range"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "column", "reason"), LEAKS.values(), ids=LEAKS)
def test_leaks_are_left_out_with_the_reason(tmp_path: Path, rows: list[Row], column: str, reason: str) -> None:
    dropped = find_dropped(propose(tmp_path, rows))
    assert list(dropped) == [column]
    assert dropped[column].startswith(reason)
    assert column not in find_dropped(propose(tmp_path, rows, keep=(column,)))


def test_counts_in_a_reason_are_those_of_the_table(tmp_path: Path) -> None:
    rows = make_rows(200, make_arrest)
    filled = {label: sum(row["second"] is not None for row in rows if row["y"] == label) for label in ("yes", "no")}
    sizes = {label: sum(row["y"] == label for row in rows) for label in ("yes", "no")}
    expected = (
        f"filled in {filled['yes']} of {sizes['yes']} rows with 'yes' and in {filled['no']} of {sizes['no']} others"
    )
    assert expected in find_dropped(propose(tmp_path, rows))["second"]


def make_points(number: int, draw: random.Random) -> Row:
    parts = {name: round(draw.uniform(7, 8), 2) for name in ("aroma", "body", "taste")}
    return {**parts, "altitude": draw.randint(800, 2000), "y": round(sum(parts.values()), 2)}


def make_sale(number: int, draw: random.Random) -> Row:
    price, quantity = round(draw.uniform(2, 90), 2), draw.randint(1, 20)
    return {"price": price, "quantity": quantity, "age": draw.randint(18, 80), "y": round(1.19 * price * quantity, 2)}


def make_share(number: int, draw: random.Random) -> Row:
    opened = round(draw.gauss(100, 30), 2)
    return {"open": opened, "volume": draw.randint(1, 9), "y": round(opened + draw.gauss(0, 3), 2)}


def make_branch(number: int, draw: random.Random) -> Row:
    return {
        "branch": f"{draw.randint(0, 50):04d}",
        "amount": draw.randint(1, 900),
        "y": draw.choice(["late", "in time"]),
    }


def make_visit(number: int, draw: random.Random) -> Row:
    patient = random.Random(number * 7 % 65).randint(100_000, 999_999)
    return {"patient_id": patient, "age": draw.randint(18, 90), "y": draw.choice(["positive", "negative"])}


def make_order(number: int, draw: random.Random) -> Row:
    index = random.Random(number).randint(0, 50_000)
    return {"": index, "sales": round(draw.uniform(1, 500), 2), "y": round(draw.gauss(50, 30), 2)}


def make_rain(number: int, draw: random.Random) -> Row:
    rain = "T" if number % 9 == 0 else f"{draw.uniform(0, 2):.2f}"
    return {"rain": rain, "humidity": draw.randint(20, 95), "y": round(draw.gauss(15, 6), 1)}


def make_assay(number: int, draw: random.Random) -> Row:
    """Return a sample whose result is below the limit of detection in a fifth of the rows."""
    level = "ND" if number % 5 == 0 else str(draw.randint(1, 30))
    grade = draw.choice("ABCDEFG") if number % 5 < 3 else str(draw.randint(1, 9))
    return {"level": level, "grade": grade, "acid": round(draw.gauss(5, 1), 2), "y": round(draw.gauss(15, 6), 1)}


def make_titre(number: int, draw: random.Random) -> Row:
    return {"acid": round(draw.gauss(5, 1), 2), "y": "ND" if number % 5 == 0 else str(draw.randint(1, 30))}


def make_gas(number: int, draw: random.Random) -> Row:
    is_out = number % 20 == 3
    values = {"temp": draw.gauss(17, 4), "humidity": draw.gauss(42, 6), "y": draw.gauss(4.7, 0.6)}
    return {name: -200 if is_out else round(value, 1) for name, value in values.items()}


def make_squirrel(number: int, draw: random.Random) -> Row:
    day = date(2018, 8, 20) + timedelta(days=number % 60)
    return {"Date": day.strftime("%m%d%Y"), "seen": draw.randint(0, 9), "y": draw.choice(["near", "far"])}


def make_delivery(number: int, draw: random.Random) -> Row:
    day = date(2018, 1, 5) + timedelta(days=9 * number)
    sent = day + timedelta(days=draw.randint(1, 8))
    return {"Ship Date": sent, "Order Date": day, "pieces": draw.randint(1, 19), "y": round(draw.uniform(1, 99), 2)}


def make_stay(number: int, draw: random.Random) -> Row:
    return {"beds": draw.randint(1, 9), "days": draw.randint(1, 30), "y": f"${draw.randint(1000, 12000):,}"}


def make_strike(number: int, draw: random.Random) -> Row:
    kinds = ["None"] * 15 + ["Heavy"] * 4 + ["Minor"] * 2
    return {"speed": draw.randint(20, 200), "light": draw.choice("dn"), "y": kinds[number % len(kinds)]}


def make_sky(number: int, draw: random.Random) -> Row:
    rare = f"Freezing Drizzle with Blowing Snow and Ice Pellets, variant number {number % 29}"
    label = rare if number % 10 == 0 else ("Clear" if draw.random() < 0.6 else "Cloudy")
    return {"a": draw.gauss(0, 1), "b": draw.randint(0, 9), "y": label}


REPORTED: dict[str, tuple[list[Row], dict[str, Any], Sequence[str], Sequence[str]]] = {
    "sum of other columns": (
        make_rows(80, make_points), {},
        ["! target 'y' | = aroma + body + taste | explains 100 % of it: are all of these columns known before it?"], [],
    ),
    "product of other columns": (make_rows(80, make_sale), {}, ["! target 'y' | = 1.19 * price * quantity | "], []),
    "a strong predictor of a number is kept and named": (
        make_rows(300, make_share), {}, ["! column 'open' | may leak the target | explains the target by itself: 9"],
        ["left out"],
    ),
    "codes with leading zeros": (make_rows(120, make_branch), {}, ["column 'branch' | kept as text"], ["read as numbers"]),
    "repeated number of a patient": (
        make_rows(120, make_visit), {},
        ["column 'patient_id' | left out | identifier: 65 distinct values, each in 1.8 rows, and named like an identifier",
         "! group? | --group patient_id | each value in 1.8 rows on average"], [],
    ),
    "index without a name": (
        make_rows(100, make_order), {},
        ["column 'column_1' | left out | identifier: whole numbers, all distinct, in an unnamed column: an index"],
        [],
    ),
    "words that become missing": (
        make_rows(170, make_rain), {},
        ["! column 'rain' | 19 × 'T' become missing | not numbers: give them a value with wrangling.rules: {rain: {map: "],
        [],
    ),
    "words among few different numbers": (
        make_rows(200, make_assay), {},
        ["! column 'level' | a category | 80 % of its values are numbers; --kind level=number reads them, 40 × 'ND' become"],
        ["'grade'"],
    ),
    "words among few different numbers, given as numbers": (
        make_rows(200, make_assay), {"kinds": {"level": "number"}},
        ["column 'level' | read as numbers | given",
         "! column 'level' | 40 × 'ND' become missing | not numbers: give them a value with wrangling.rules: {level: {map:"],
        ["a category"],
    ),
    "words among few different numbers, given as a category": (
        make_rows(200, make_assay), {"kinds": {"level": "category"}}, [], ["of its values are numbers"],
    ),
    "words among few different numbers of the target": (
        make_rows(600, make_titre), {},
        ["task | classification", "! target 'y' | classes | 80 % of its values are numbers; --task regression predicts them "
         "and leaves out the rows of 120 × 'ND'"], [],
    ),
    "words among few different numbers of the target, given as a number": (
        make_rows(600, make_titre), {"task": "regression"},
        ["target 'y' | read as numbers | amounts such as '", "! target 'y' | 120 × 'ND' become missing | they are not numbers"],
        ["such as 'ND'"],
    ),
    "words among few different numbers of the target, given as classes": (
        make_rows(600, make_titre), {"task": "classification"}, ["task | classification | given"], ["are numbers"],
    ),
    "words declared missing": (
        make_rows(170, make_rain), {"missing": {"rain": ("T",)}}, [], ["become missing"],
    ),
    "code for a fault": (
        make_rows(200, make_gas), {},
        ["! target 'y' | -200 is missing | -200 occurs 10 times, far from all other values, in the same rows as in 'temp' "
         "and 'humidity'",
         "! filter | not missing(y) | 10 of 200 rows without a target",
         "! column 'temp' | -200 is missing | -200 occurs 10 times, far from all other values, in the same rows as in "],
        [],
    ),
    "compact date": (
        make_rows(120, make_squirrel), {}, ["column 'Date' | a date, %m%d%Y | every value fits", "split | by time, 'Date'"],
        ["kept as text", "read as numbers"],
    ),
    "two dates, the first of which splits": (
        make_rows(80, make_delivery), {},
        ["split | by time, 'Order Date' | the first of 2 dates, never later than 'Ship Date'",
         "! column 'Ship Date' | may be known too late | later than 'Order Date' in 100 % of the rows: if not known then, "
         "--drop 'Ship Date'"],
        ["no time"],
    ),
    "amounts of money as the target": (
        make_rows(60, make_stay), {},
        ["task | regression | the target holds 60 different numbers", "target 'y' | read as numbers | amounts such as '$"],
        [],
    ),
    "class called None": (
        make_rows(105, make_strike), {},
        ["! target 'y' | 'None' is a class | in 75 rows; if it stands for a missing target, add --missing y=None",
         "classes | 3 | 'None' 71.4 %; 'Heavy' 19.0 %; 'Minor' 9.5 %"],
        ["not missing(y)"],
    ),
    "class called None, declared missing": (
        make_rows(105, make_strike), {"missing": {"y": ("None",)}}, ["! filter | not missing(y) | 75 of 105 rows without"],
        ["is a class"],
    ),
    "many rare classes": (
        make_rows(600, make_sky), {},
        ["! rare classes | 29 classes become `other` | fewer than 8 rows each, 60 rows in all: ", "; … and 24 more"],
        ["too long"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "choices", "reported", "unreported"), REPORTED.values(), ids=REPORTED)
def test_decision_is_reported(
    tmp_path: Path, rows: list[Row], choices: dict[str, Any], reported: Sequence[str], unreported: Sequence[str]
) -> None:
    proposal = propose(tmp_path, rows, **choices)
    lines = "\n".join(describe(proposal))
    for words in reported:
        assert words in lines
    for words in unreported:
        assert words not in lines
    # What is proposed is within the limits of the params.
    data, wrangling = proposal.tree["data"], proposal.tree["wrangling"]
    Data.model_validate_json(json.dumps(data))
    Wrangling.model_validate_json(json.dumps(wrangling))


@pytest.mark.parametrize(
    ("make", "task", "accepted"),
    [
        (make_buyer, "classification", "a loss of 0.01 does not"),
        (make_price, "regression", "a loss of about 2 % of the target's standard deviation does not"),
    ],
)
def test_proposed_gate_is_not_passed_off_as_chosen_for_the_data(
    make: Callable[[int, random.Random], Row], task: str, accepted: str, tmp_path: Path
) -> None:
    found = propose(tmp_path, make_rows(200, make))
    gate = found.tree["evaluation"]["gate"]
    assert found.tree["data"]["target"]["task"] == task
    shown = describe_limits(Gate.model_validate(gate))
    assert " Proposed by labkit new, not chosen for this data: any gain over the dummy counts, and " in shown
    assert shown.endswith(f"{accepted}.")

"""What row features learn of the training rows: learnt once, the same for a table and for a request, kept in JSON."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.cleaning import clean_table, describe_learnt, drop_outliers
from labkit.errors import DataError, ParamsError
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from labkit.features.tfidf import find_words
from labkit.params.experiment import Params
from labkit.params.wrangling import Fill, Limits, Outliers, Rule, Wrangling
from sklearn.feature_extraction.text import TfidfVectorizer

N = 40


def make_table() -> pd.DataFrame:
    """Return numbers with one outlier, missing values, a text column and one that is nearly empty."""
    frame = pd.DataFrame(
        {
            "size": [*range(1, N), 1000],
            "weight": [float(number % 7) for number in range(N)],
            "colour": ["red", "blue"] * (N // 2),
            "note": ["good and cheap", "bad and dear"] * (N // 2),
            "empty": [1.0] + [None] * (N - 1),
        }
    ).astype({"size": "float64"})
    frame.loc[::10, "weight"] = np.nan
    frame.loc[3, "colour"] = None
    frame.loc[4, "note"] = None
    return frame


SPEC: dict[str, Any] = {
    "outliers": {"size": Outliers(action="clip").model_dump()},
    "fill": {
        "weight": Fill(strategy="median", indicator=True).model_dump(),
        "colour": Fill(strategy="constant", value="none").model_dump(),
    },
    "text": {"note": {"most_words": 3, "fewest_rows": 2}},
    "most_missing": 0.9,
    "interactions": [["size", "weight"], ["colour", "weight"]],
}


def test_outliers_missing_values_and_empty_columns_by_hand() -> None:
    table = make_table()
    made = RowFeatures(columns=SPEC, fewest_rows=1).fit_transform(table)
    low, high = np.quantile(table["size"], [0.25, 0.75])
    assert made["size"].max() == np.float32(high + 3 * (high - low))
    assert made["weight"].isna().sum() == 0
    assert made["weight"][0] == table["weight"].median()
    assert made["weight_is_missing"].tolist() == table["weight"].isna().astype(float).tolist()
    assert made["colour"][3] in ("none", "other")
    assert "empty" not in made
    assert "note" not in made
    assert made["size x weight"][1] == 2.0
    assert made["colour x weight"].iloc[1] == "blue & 1"


def test_words_are_weighed_as_scikit_learn_weighs_them() -> None:
    table = make_table()[["note"]].fillna("")
    features = RowFeatures(columns={"text": {"note": {"most_words": 50, "fewest_rows": 1}}}).fit(table)
    made = features.transform(table)
    theirs = TfidfVectorizer(tokenizer=find_words, token_pattern=None).fit(table["note"])
    expected = theirs.transform(table["note"]).toarray()
    for place, word in enumerate(theirs.get_feature_names_out()):
        np.testing.assert_allclose(made[f"note: {word}"], expected[:, place], rtol=1e-6)
    assert made["note_length"].tolist()[:2] == [3.0, 3.0]


def test_the_same_for_table_arrays_requests_and_after_json() -> None:
    table = make_table()
    fitted = RowFeatures(columns=SPEC).fit(table)
    read = RowFeatures.from_json(json.loads(json.dumps(fitted.to_json())))
    made = fitted.transform(table)
    pd.testing.assert_frame_equal(read.transform(table), made)
    for row in (0, 3, 4, N - 1):
        request = {name: np.array([values[row]], object) for name, values in take_columns(table, read.inputs_).items()}
        for name, values in read.transform_columns(request).items():
            assert values.tolist() == made[name].iloc[[row]].tolist(), name


def test_what_later_rows_hold_changes_nothing_learnt() -> None:
    table = make_table()
    fitted = RowFeatures(columns=SPEC).fit(table)
    before = json.dumps(fitted.to_json())
    fitted.transform(table.assign(size=1e9, weight=np.nan, note="new words only", empty=1.0))
    assert json.dumps(fitted.to_json()) == before


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"outliers": {"colour": Outliers().model_dump()}},
            r"wrangling.outliers.colour: does not hold numbers: convert it",
        ),
        (
            {"fill": {"colour": Fill(strategy="mean").model_dump()}},
            "mean is for numbers: use most_frequent or constant",
        ),
        ({"fill": {"size": Fill(strategy="constant", value="x").model_dump()}}, "value 'x' is not a number"),
        ({"text": {"size": {"most_words": 3, "fewest_rows": 2}}}, r"features.text.size: does not hold text"),
    ],
)
def test_what_cannot_be_learnt_is_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        RowFeatures(columns=columns).fit(make_table())


def test_raw_requests_are_read_as_training_rows_were() -> None:
    raw = pd.DataFrame(
        {
            "price": ["1,200.50", "n/a", "3 kg", None],
            "paid": ["Yes", "no", "?", "TRUE"],
            "day": ["31/12/2020", "01/02/2021", "soon", None],
            "code": [1, 2, 3, 4],
            "colour": [" Red", "red", "ROT", "blue"],
        }
    )
    rules = {
        "price": Rule(type="number", units={"kg": 1000.0}),
        "paid": Rule(type="boolean"),
        "day": Rule(type="date", format="%d/%m/%Y"),
        "code": Rule(type="category"),
        "colour": Rule(trim=True, case="lower", map={"rot": "red"}),
    }
    clean, _ = clean_table(raw, Wrangling(rules=rules))
    assert clean["price"].tolist()[:1] + clean["price"].tolist()[2:3] == [1200.5, 3000.0]
    assert clean["paid"].tolist()[:2] == [1.0, 0.0]
    assert str(clean["day"].iloc[1]) == "2021-02-01 00:00:00"
    assert clean["code"].tolist() == ["1", "2", "3", "4"]
    assert clean["colour"].tolist() == ["red", "red", "red", "blue"]
    again, _ = clean_table(clean, Wrangling(rules=rules))
    pd.testing.assert_frame_equal(again, clean)
    plain = {name: rule.model_dump(mode="json") for name, rule in rules.items()}
    columns = {"dates": {"day": {"zone": "UTC", "parts": ["month"]}}}
    features = RowFeatures(rules=plain, columns=columns, fewest_rows=1).fit(clean)
    pd.testing.assert_frame_equal(features.transform(raw), features.transform(clean))


@pytest.mark.parametrize(
    ("wrangling", "filters", "rows"),
    [
        (Wrangling(duplicates="drop"), ["duplicates: drop"], [0, 1, 3]),
        (Wrangling(duplicates="drop", duplicates_by=("k",)), ["duplicates: drop"], [0, 3]),
        (Wrangling(fill={"x": Fill(strategy="drop")}), ["fill.x: drop"], [0, 1, 2]),
        (Wrangling(most_missing=Limits(rows=0.4)), ["most_missing.rows: 0.4"], [0, 1, 2]),
    ],
)
def test_dropped_rows_are_reported(wrangling: Wrangling, filters: list[str], rows: list[int]) -> None:
    frame = pd.DataFrame({"k": ["a", "a", "a", "b"], "x": [1.0, 2.0, 1.0, None]})
    clean, steps = clean_table(frame, wrangling)
    assert clean.index.tolist() == rows
    assert steps["filter"].tolist() == filters
    assert steps["rows after"].tolist() == [len(rows)]


def test_a_step_that_leaves_no_row_is_refused() -> None:
    frame = pd.DataFrame({"x": [None, None], "k": [1, 2]})
    with pytest.raises(ParamsError, match="wrangling.fill.x: drop leaves none of 2 rows"):
        clean_table(frame, Wrangling(fill={"x": Fill(strategy="drop")}))


def test_only_training_rows_are_left_out_as_outliers() -> None:
    wrangling = Wrangling(outliers={"size": Outliers(action="drop")})
    kept, lines = drop_outliers(make_table(), wrangling)
    assert kept["size"].max() < 100
    assert lines["rows after"].tolist() == [N - 1]
    spec = {"outliers": {"size": wrangling.outliers["size"].model_dump()}}
    assert RowFeatures(columns=spec).fit(kept).transform(make_table())["size"].max() == 1000


def test_what_is_learnt_is_described() -> None:
    params = Params.model_validate(
        {
            "experiment": "t", "seed": 0, "eda": {}, "features": {}, "evaluation": {}, "deploy": {},
            "data": {"tables": {"t": {"path": "t.csv"}}, "target": {"column": "colour", "task": "classification"}},
            "training": {"metric": "log_loss"},
            "wrangling": {"outliers": {"size": {}}, "fill": {"weight": {}}, "most_missing": {"columns": 0.9}},
        }
    )  # fmt: skip
    described = describe_learnt(make_table(), params)
    assert described["column"].tolist() == ["size", "weight", "empty"]
    assert described["choice"].tolist() == ["outliers: clip", "missing: median", "left out: mostly missing"]
    assert described["rows"].tolist() == [1, 4, N - 1]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"format": "%d"}, "`format` is for type date"),
        ({"units": {"kg": 1.0}}, "`units` and `decimal` are for type number"),
        ({"type": "date", "minimum": 1.0}, "are for numbers, not for type date"),
        ({"map": {"a": "b", "b": "c"}}, "'b' would be changed again, to 'c'"),
        ({"case": "lower", "map": {"x": "USA"}}, "'USA' would be changed again, to 'usa'"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**rule)


def test_new_features_name_their_origin() -> None:
    spec = {**SPEC, "outliers": {"size": Outliers(action="flag").model_dump()}}
    fitted = RowFeatures(columns=spec, expressions={"half": "size / 2"}, fewest_rows=1).fit(make_table())
    assert fitted.find_origins() == {
        "size_is_outlier": "outliers",
        "weight_is_missing": "missing values",
        "half": "size / 2",
        "note: and": "text",
        "note: bad": "text",
        "note: dear": "text",
        "note_length": "text",
        "size x weight": "interaction",
        "colour x weight": "interaction",
    }

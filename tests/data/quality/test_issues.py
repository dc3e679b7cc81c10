"""What looks wrong with a table: found, with the line that fixes it, and nothing found where nothing is wrong."""

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.issues import count_repeated, find_all, list_open, set_aside
from labkit.data.quality.profile import profile_table
from labkit.data.quality.text_issues import guess_formats, is_prose
from labkit.data.stability import DRIFT_COLUMNS, LARGE_DRIFT, compute_drift
from labkit.features.parse_text import read_date, read_number
from labkit.params.tables import Data, Table, Target
from labkit.params.training import Training
from labkit.params.wrangling import Rule, Wrangling
from labkit.view.time_plots import plot_drift
from ruamel.yaml import YAML

N = 240
TARGET = Target(column="outcome", task="classification", positive="yes")
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "runs",
    "from",
    "one",
    "big",
    "bad",
    "wolf",
]


def make_table() -> pd.DataFrame:
    """Return a table in which every kind of fault stands once."""
    random = np.random.default_rng(0)
    size = random.normal(size=N)
    labels = np.where(size + random.normal(size=N) / 3 > 0, "yes", "no")
    table = pd.DataFrame(
        {
            "size": size,
            "copy": size * -2 + 1,
            "noise": random.normal(size=N),
            "leak": np.where(labels == "yes", "paid", "open"),
            "near": np.where(labels == "yes", 5.0, 1.0) + random.normal(size=N) / 100,
            "later": np.where(labels == "yes", random.normal(size=N), np.nan),
            "same": "x",
            "nothing": pd.Series([None] * N, dtype="float64"),
            "key: 1": [f"id{row}" for row in range(N)],
            "sparse": np.where(np.arange(N) % 2 == 0, np.nan, random.normal(size=N)),
            "marked": np.where(np.arange(N) % 9 == 0, -999.0, random.normal(size=N)),
            "far": np.where(np.arange(N) == 3, 1e6, random.normal(size=N)),
            "infinite": np.where(np.arange(N) == 3, np.inf, random.normal(size=N)),
            "colour": random.choice(["red", "Red ", "blue", "?"], N),
            "when": pd.date_range("2013-01-01", periods=N),
            "day": pd.date_range("2013-01-01", periods=N).strftime("%d/%m/%Y"),
            "price": [f"{value:,.2f}" for value in random.random(N) * 5000],
            "zip": [f"{value:05d}" for value in random.integers(0, 20, N)],
            "city": [f"city {value}" for value in random.integers(0, 90, N)],
            "note": [" ".join(random.choice(WORDS, 8)) for _ in range(N)],
            "outcome": labels,
        }
    )
    return pd.concat([table, table.iloc[[5]]], ignore_index=True)


def find(table: pd.DataFrame, target: Target = TARGET, **options: object) -> pd.DataFrame:
    """Return the findings of a table without times; `options` are how it is read."""
    profile, drift = profile_table(table, target, seed=0), pd.DataFrame({name: [] for name in DRIFT_COLUMNS})
    data = Data(tables={"t": Table(path="t.csv", **options)}, target=target)  # type: ignore[arg-type]
    return find_all(table, profile, data, correlation_alert=0.95, drift=drift)


def test_every_fault_is_found_worst_first() -> None:
    found = find(make_table())
    reported = set(zip(found["severity"], found["column"], found["what"], strict=True))
    assert reported == {
        ("high", "leak", "copy of the target"),
        ("high", "key: 1", "identifier"),
        ("high", "near", "explains the target by itself"),
        ("high", "later", "filled after the outcome"),
        ("medium", "", "duplicated rows"),
        ("medium", "later", "many missing values"),
        ("medium", "same", "constant"),
        ("medium", "nothing", "empty"),
        ("medium", "sparse", "many missing values"),
        ("medium", "marked", "marker for missing"),
        ("low", "far", "outliers"),
        ("medium", "infinite", "infinite values"),
        ("medium", "colour", "marker for missing"),
        ("medium", "colour", "mixed spellings"),
        ("low", "when", "time"),
        ("medium", "day", "date as text"),
        ("medium", "price", "number as text"),
        ("low", "zip", "leading zeros"),
        ("low", "city", "many categories"),
        ("medium", "note", "free text"),
        ("low", "copy", "duplicates another column"),
    }
    assert list(found["severity"]) == sorted(found["severity"], key=["high", "medium", "low"].index)


def test_what_is_declared_or_for_another_stage_is_not_left_open() -> None:
    found = find(make_table())
    left = list_open(found, Wrangling())
    assert {"leak", "price", "", "key: 1"} <= set(left["column"])
    assert not {"note", "far", "zip"} & set(left["column"]), "for features, or low"
    declared = Wrangling(drop={"leak": "leak"}, rules={"price": Rule(type="number")}, duplicates="drop")
    assert set(left["column"]) - set(list_open(found, declared)["column"]) == {"leak", "price", ""}


def test_evidence_and_fix_are_reported_exactly() -> None:
    found = find(make_table()).set_index(["column", "what"])
    assert found.loc[("colour", "mixed spellings"), "evidence"].startswith("1 in several spellings, such as ")
    fixes = {
        ("leak", "copy of the target"): "wrangling.drop: {leak: known only with the target}",
        ("", "duplicated rows"): "wrangling.duplicates: drop",
        ("marked", "marker for missing"): "wrangling.rules: {marked: {missing: [-999]}}",
        ("colour", "marker for missing"): 'wrangling.rules: {colour: {missing: ["?"], trim: true}}',
        ("day", "date as text"): 'wrangling.rules: {day: {type: date, format: "%d/%m/%Y"}}',
        ("price", "number as text"): "wrangling.rules: {price: {type: number}}",
        ("far", "outliers"): "wrangling.outliers: {far: {method: iqr, action: clip}}",
        ("note", "free text"): "features.text: {note: {}}",
        ("copy", "duplicates another column"): "wrangling.drop: {copy: like size}",
        ("zip", "leading zeros"): "",
    }
    assert {key: found.loc[key, "fix"] for key in fixes} == fixes


def test_every_fix_is_a_line_that_params_take() -> None:
    found = find(make_table().head(N))
    for fix in found["fix"]:
        if not fix:
            continue
        place, _, value = fix.partition(": ")
        section, field = place.split(".")
        content = YAML(typ="safe", pure=True).load(value)
        if section == "wrangling":
            content = tuple(content) if field == "filters" else content
            rules = (
                {
                    name: Rule(**{k: tuple(v) if isinstance(v, list) else v for k, v in rule.items()})
                    for name, rule in content.items()
                }
                if field == "rules"
                else content
            )
            Wrangling(**{field: rules})


@pytest.mark.parametrize(
    ("values", "task", "what", "fix"),
    [
        (
            ["a"] * 50 + ["b"] * 49 + [None],
            "classification",
            "target missing",
            'wrangling.filters: ["not missing(y)"]',
        ),
        (["a"] * 100, "classification", "one class", ""),
        (
            ["a"] * 60 + ["b"] * 38 + ["c"] * 2,
            "classification",
            "rare classes",
            "data.target.rare: {fewest_rows: 8, action: drop}",
        ),
        ([1] * 96 + [0] * 4, "classification", "imbalanced classes", "training.class_weight: balanced"),
        ([*np.exp(np.arange(100) / 10)], "regression", "skewed target", "training.target_transform: log"),
        ([1.0] * 50 + [2.0] * 49 + [np.inf], "regression", "infinite target", 'wrangling.filters: ["abs(y) < 1e300"]'),
    ],
)
def test_faults_of_the_target_are_found(values: list[object], task: str, what: str, fix: str) -> None:
    table = pd.DataFrame({"x": np.arange(100) % 7 * 1.0, "y": values})
    found = find(table, Target(column="y", task=task)).set_index("what")
    assert found.loc[what, "fix"] == fix


def test_a_clean_table_has_no_findings_and_the_target_is_never_a_leak() -> None:
    random = np.random.default_rng(0)
    size = random.normal(size=N)
    table = pd.DataFrame({"size": size, "noise": random.normal(size=N), "kind": random.choice(["a", "b"], N)})
    table["outcome"] = np.where(size + random.normal(size=N) > 0, "yes", "no")
    assert find(table).empty
    priced = table.assign(outcome=size * 10 + random.normal(size=N) / 100)
    assert set(find(priced, Target(column="outcome", task="regression"))["column"]) == {"size"}


def test_drift_becomes_a_finding() -> None:
    table = make_table().head(N)[["noise", "outcome"]].assign(drifting=np.arange(N) // 120 * 5.0 + np.arange(N) % 7)
    table["predict_at"] = pd.date_range("2020-01-01", periods=N, tz="UTC").as_unit("us")
    data = Data(tables={"t": {"path": "t.csv"}}, target=TARGET)  # type: ignore[dict-item]
    drift = compute_drift(table, data, ["noise", "drifting"])
    profile = profile_table(table, TARGET, seed=0)
    found = find_all(table, profile, data, correlation_alert=0.95, drift=drift)
    assert found.loc[found["what"] == "drift", "column"].tolist() == ["drifting"]


def test_drift_of_few_rows_that_luck_explains_is_no_finding() -> None:
    """As LK205 judges the clean rows, so that one page does not contradict the other."""
    table = pd.DataFrame({"noise": np.random.default_rng(3).normal(size=60), "outcome": ["yes", "no", "no"] * 20})
    table["predict_at"] = pd.date_range("2020-01-01", periods=60, tz="UTC").as_unit("us")
    data = Data(tables={"t": {"path": "t.csv"}}, target=TARGET)  # type: ignore[dict-item]
    drift = compute_drift(table, data, ["noise"])
    assert LARGE_DRIFT < drift["drift"][0] < drift["by_luck"][0]
    found = find_all(table, profile_table(table, TARGET, seed=0), data, correlation_alert=0.95, drift=drift)
    assert "drift" not in found["what"].tolist()
    fact = plot_drift(drift, most=5).fact
    assert fact.startswith("0 of 1 column drifted strongly")
    assert fact.endswith(" 1 more above 0.25 may be luck: the rows are few.")
    moved = compute_drift(table.assign(noise=np.arange(60.0) // 36 * 9 + table["noise"]), data, ["noise"])
    assert plot_drift(moved, most=5).fact.startswith("1 of 1 column drifted strongly")
    assert "luck" not in plot_drift(moved, most=5).fact


def test_no_column_is_redundant_with_one_that_is_dropped() -> None:
    size = np.random.default_rng(0).normal(size=N)
    table = pd.DataFrame({"size": size, "twin": 2 * size, "outcome": np.arange(N) % 2})
    data, profile = Data(tables={"t": Table(path="t.csv")}, target=TARGET), profile_table(table, TARGET, seed=0)
    options = {"correlation_alert": 0.95, "drift": pd.DataFrame({name: [] for name in DRIFT_COLUMNS})}
    found, rest = (find_all(table, profile, data, **options, dropped=names) for names in ([], ["size"]))  # type: ignore[arg-type]
    assert found.loc[found["what"] == "duplicates another column", "column"].tolist() == ["twin"]
    assert rest.empty


def test_no_column_is_redundant_with_one_that_leaks_the_target() -> None:
    table = make_table()
    found = find(table.assign(leaking=table["leak"], leaked_again=table["leak"]))
    redundant = found[found["what"] == "duplicates another column"]
    assert not redundant["fix"].str.contains("leak").any()
    assert "copy" in set(redundant["column"])


@pytest.mark.parametrize(
    ("string", "options", "number"),
    [
        ("12", {}, 12.0),
        ("1,234,567.8", {}, 1234567.8),
        ("1.234,5", {"decimal": ","}, 1234.5),
        ("-3e2", {}, -300.0),
        ("−4", {}, -4.0),
        (" 5 kg ", {"units": {"kg": 1.0}}, 5.0),
        ("250 g", {"units": {"kg": 1.0, "g": 0.001}}, 0.25),
        ("5 %", {"units": {"%": 0.01}}, 0.05),
        ("5 apples", {}, None),
        ("1,2", {}, None),
        ("1.2.3", {}, None),
        ("", {}, None),
        ("-", {}, None),
        ("nan", {}, None),
        ("0x10", {}, None),
        ("12/3", {}, None),
    ],
)
def test_numbers_are_read_from_strings(string: str, options: dict[str, object], number: float | None) -> None:
    read = read_number(string, **options)  # type: ignore[arg-type]
    assert read is None if number is None else read == pytest.approx(number)


def test_dates_are_read_by_their_format_only() -> None:
    assert guess_formats(["2020-01-03", "2020-12-31"]) == ["%Y-%m-%d"]
    assert guess_formats(["2020-01-03", "soon"]) == []
    assert str(read_date("2020-01-03T10:00:00+02:00", None)) == "2020-01-03 08:00:00"
    assert read_date("13/13/2020", "%d/%m/%Y") is None


def test_prose_is_distinguished_from_names() -> None:
    assert is_prose(pd.Series([" ".join(WORDS[n % 7 : n % 7 + 6]) + str(n) for n in range(40)]))
    assert not is_prose(pd.Series([f"New York {n}" for n in range(40)]))


def test_training_knows_what_findings_propose() -> None:
    assert Training(metric="log_loss", class_weight="balanced").class_weight == "balanced"
    assert Training(metric="mae", target_transform="log").target_transform == "log"


def test_repeated_rows_and_missing_targets_are_counted_among_all_rows() -> None:
    every = make_table()[["size", "noise", "outcome"]].assign(later=np.arange(N + 1) >= 200)
    every.loc[220:224, "outcome"] = None
    explored = every[~every["later"]].drop(columns="later")
    profile, drift = profile_table(explored, TARGET, seed=0), pd.DataFrame({name: [] for name in DRIFT_COLUMNS})
    data = Data(tables={"t": Table(path="t.csv")}, target=TARGET)
    options = {"correlation_alert": 0.95, "drift": drift}
    alone = find_all(explored, profile, data, **options)  # type: ignore[arg-type]
    found = find_all(explored, profile, data, **options, every=every.drop(columns="later"))  # type: ignore[arg-type]
    assert not {"target missing", "duplicated rows"} & set(alone["what"])
    assert {"target missing", "duplicated rows"} <= set(found["what"])
    assert found.set_index("what").loc["target missing", "evidence"] == "5 rows without a target"


def test_columns_that_are_no_inputs_are_set_aside_with_the_reason() -> None:
    table = make_table()
    profile = set_aside(profile_table(table, TARGET, seed=0), find(table), {"noise": "noise", "leak": "leak"})
    reasons = dict(zip(profile["column"], profile["set_aside"], strict=True))
    assert {name: reason for name, reason in reasons.items() if reason} == {
        "noise": "dropped",
        "leak": "dropped",
        "key: 1": "identifier",
        "near": "explains the target by itself",
        "later": "filled after the outcome",
        "same": "constant",
        "nothing": "empty",
    }


def test_repeated_rows_are_counted_as_pandas_counts_them() -> None:
    random = np.random.default_rng(0)
    for n_values in (1, 2, 3, 50):
        drawn = random.integers(0, n_values, (400, 9)).astype(float)
        frame = pd.DataFrame(drawn, columns=list("abcdefghi")).assign(a=lambda table: table["a"].map(str))
        frame = pd.concat([frame, frame.head(7)]).mask(random.random((407, 9)) < 0.1)
        assert count_repeated(frame) == frame.duplicated().sum()
    assert count_repeated(frame.head(0)) == 0

"""The user's own functions and transformers: computed row by row, or refused with the file and line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.column_references import check_features
from labkit.errors import DataError, LabkitError, ModelError, ParamsError
from labkit.features import own_functions, own_transformers
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from labkit.model.release.feature_files import make_arrays
from labkit.params.features import Features
from labkit.params.load import load_params
from labkit.params.section import find_own_code
from ruamel.yaml import YAML

from tests.features.own_code import MISTAKES, TRANSFORMERS, write_package
from tests.own_library import open_library

PACKAGE = "shopfeatures"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of a package in the `lib` folder of a checkout."""
    with open_library(tmp_path, monkeypatch, PACKAGE):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "params" / "shop.yaml").touch()
        holdout = tmp_path / HOLDOUT
        holdout.parent.mkdir(parents=True)
        holdout.write_text("1\n")
        yield write_package(tmp_path, PACKAGE)


def find_line(source: str, start: str) -> int:
    """Return the number of the first line that starts like that."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if line.strip().startswith(start))


def make_table(n_rows: int = 40) -> pd.DataFrame:
    """Return customers with dates, strings and missing values."""
    random = np.random.default_rng(1)
    joined = pd.Timestamp("2020-01-31") + pd.to_timedelta(random.integers(0, 900, n_rows), "D")
    left = pd.Series(joined + pd.to_timedelta(random.integers(30, 900, n_rows), "D"))
    left[::7] = pd.NaT
    email = pd.Series([f"c{row}@{random.choice(['A.example', 'b.example'])}" for row in range(n_rows)], dtype=object)
    email[3] = None
    total = random.gamma(2, 50, n_rows).round(2)
    total[5] = np.nan
    visits = random.integers(0, 9, n_rows)
    return pd.DataFrame({"joined": joined, "left": left, "email": email, "total": total, "visits": visits})


def make_features(functions: dict[str, str], transformers: dict[str, Any] | None = None) -> RowFeatures:
    """Return unfitted features with functions and transformers of the package."""
    spec = own_functions.make_function_specs({name: f"{PACKAGE}.{path}" for name, path in functions.items()})
    own = {
        name: {"options": {}, **one, "path": f"{PACKAGE}.{one['path']}"} for name, one in (transformers or {}).items()
    }
    return RowFeatures(drop=["joined", "left"], columns={"functions": spec, "transformers": own}, fewest_rows=1)


FUNCTIONS = {"tenure": "features:tenure_months", "domain": "features:domain", "worth": "features:per_visit"}
LEVELS = {"levels": {"path": "transformers:Levels", "columns": ["total"], "names": ["level", "is_largest"]}}


def test_functions_compute_dates_strings_and_numbers(own: Path) -> None:
    table = make_table()
    made = make_features(FUNCTIONS).fit(table).transform(table)
    months = (table["left"] - table["joined"]).dt.days / 30.44
    np.testing.assert_allclose(made["tenure"], months, rtol=1e-6)
    assert made["tenure"].isna().sum() == 6
    assert made["domain"].tolist()[:4] == [*(str(one).rpartition("@")[2].lower() for one in table["email"][:3]), ""]
    np.testing.assert_allclose(made["worth"], table["total"] / table["visits"].clip(lower=1), rtol=1e-6)
    assert list(made) == ["email", "total", "visits", "tenure", "domain", "worth"]


def test_a_single_row_and_no_row_give_what_the_table_gives(own: Path) -> None:
    table = make_table()
    features = make_features(FUNCTIONS, LEVELS).fit(table)
    whole = features.transform(table)
    for row in (0, 3, 5, 7):
        pd.testing.assert_frame_equal(features.transform(table.iloc[[row]]), whole.iloc[[row]])
    assert features.transform(table.iloc[:0]).shape == (0, 8)


def test_declared_functions_are_kept_as_plain_data(own: Path) -> None:
    table = make_table()
    features = make_features(FUNCTIONS).fit(table)
    read = RowFeatures.from_json(features.to_json())
    pd.testing.assert_frame_equal(read.transform(table), features.transform(table))
    assert features.find_origins()["tenure"] == f"{PACKAGE}.features:tenure_months"
    assert features.inputs_ == {
        "joined": "time",
        "left": "time",
        "email": "category",
        "total": "number",
        "visits": "number",
    }


HOLDOUT = "data/shop/clean/holdout.csv"
LOOKS = "looks at other rows: row "
FAULTS = {
    "centred": LOOKS,
    "ranked": LOOKS,
    "shuffled": "gives another value for row 1 (total=",
    "seeded": LOOKS,
    "counted": "gives another value for row 1 (total=",
    "numbered": "row 40 (email='c39@A.example') gives 39 here and 0 in a new process: keep nothing from one call to",
    "from_first_mean": "row 40 (total=",
    "hashed": "row 40 (email='c39@A.example') gives ",
    "filled": f"changes its input, at lib/{PACKAGE}/mistakes.py:{find_line(MISTAKES, 'total[')}: work on a copy",
    "short": "gives 39 values for 40 rows: return an array with one value per row, in order",
    "single": "gives a single float64 for 40 rows",
    "table": "gives 40 x 2 values for 40 rows",
    "ragged": "gives lists of different lengths for 40 rows: return an array with one value per row",
    "nothing_returned": "gives nothing for 40 rows",
    "huge": "gives 1000",
    "surrogate": "gives '\\ud800', which no model takes",
    "moment": "gives the type datetime64[us], which no model takes: return numbers, booleans or strings",
    "objects": "gives {'total': ",
    "picky": "fails for row 4 (email=None): TypeError: object of type 'NoneType' has no len(), at lib/",
    "leaving": "fails for row 1 (total=64.67): RuntimeError: raises SystemExit(3), which would end labkit, at lib/",
    "peeking": f"lib/{PACKAGE}/mistakes.py:{find_line(MISTAKES, 'return total + float(')} reads {HOLDOUT}: own code uses",
    "whole": "fails for all rows together, but for none of them alone: RuntimeError: too many",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_function_that_may_not_be_a_feature_is_refused(own: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        make_features({"new": f"mistakes:{name}"}).fit(make_table())
    lead = f"features.functions.new: lib/{PACKAGE}/mistakes.py:{find_line(MISTAKES, f'def {name}(')}: "
    assert str(caught.value).startswith(lead + FAULTS[name])


def test_the_check_shows_both_values_and_the_remedy(own: Path) -> None:
    with pytest.raises(DataError, match=r"among all rows and .* in another order: compute each value from its own row"):
        make_features({"new": "mistakes:seeded"}).fit(make_table())
    with pytest.raises(
        DataError, match=r"without the other rows: .*what is learned from many rows belongs in features"
    ):
        make_features({"new": "mistakes:centred"}).fit(make_table())


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("mistakes:nothing", "takes no column"),
        ("mistakes:several", "parameter '*totals' is not the name of a column"),
        ("mistakes:aged", "uses the current time (now), so the same row would give other values later: compute from a"),
        ("mistakes:aged_by_string", "uses the current time (datetime64)"),
        ("mistakes:NUMBER", "is of type int, not a function"),
        ("mistakes:centered", "has no 'centered': did you mean 'centred'?"),
        (
            "mistake:centred",
            f"there is no module {PACKAGE}.mistake in lib/ or installed: did you mean '{PACKAGE}.mistakes'?",
        ),
    ],
)
def test_what_is_no_function_of_columns_is_refused_by_name(own: Path, path: str, fault: str) -> None:
    with pytest.raises(ParamsError, match="^features.functions.new: ") as caught:
        make_features({"new": path})
    assert fault in str(caught.value)


def test_a_transformer_is_fitted_to_the_training_rows(own: Path) -> None:
    table = make_table()
    features = make_features({}, LEVELS).fit(table.iloc[:30])
    made = features.transform(table)
    edges = np.nanquantile(table["total"].iloc[:30], [0, 0.25, 0.5, 0.75, 1])
    expected = np.where(table["total"].isna(), np.nan, np.searchsorted(edges, table["total"]) / 4)
    np.testing.assert_array_equal(made["level"], expected.astype("float32"))
    assert made["is_largest"].tolist() == (table["total"] > edges[-1]).astype(float).tolist()
    assert features.find_origins() == dict.fromkeys(["level", "is_largest"], f"{PACKAGE}.transformers:Levels")


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("BatchScaler", "looks at other rows: row "),
        ("Greedy", "gives other values for the training rows after other rows were transformed: learn in fit only"),
        ("Random", "gives other values for the training rows when it is fitted again: learn in fit only"),
        ("Remembering", "row 40 (total="),
        ("NeedsTarget", "cannot be fitted to total: TypeError: "),
        ("Overwriting", "fit changes its input, at lib/"),
        (
            "Leaving",
            "cannot be fitted to total: RuntimeError: raises KeyboardInterrupt(), which would end labkit, at lib/",
        ),
        ("Peeking", f"lib/{PACKAGE}/transformers.py:{find_line(TRANSFORMERS, 'return X + float(')} reads {HOLDOUT}: "),
        ("PeekingInFit", f"lib/{PACKAGE}/transformers.py:{find_line(TRANSFORMERS, 'open(')} reads {HOLDOUT}: "),
        ("NoTransform", "has no method transform: give a scikit-learn transformer"),
        (
            "make_levels",
            f"{PACKAGE}.transformers:make_levels is not a class: name the class of a scikit-learn transformer",
        ),
    ],
)
def test_a_transformer_that_may_not_be_a_feature_is_refused(own: Path, kind: str, fault: str) -> None:
    spec = {"new": {"path": f"transformers:{kind}", "columns": ["total"], "names": ["a"]}}
    with pytest.raises(LabkitError) as caught:
        make_features({}, spec).fit(make_table())
    source = (own / "transformers.py").read_text()
    line = find_line(source, f"def {kind}(" if kind == "make_levels" else f"class {kind}")
    place = f"lib/{PACKAGE}/transformers.py:{line}"
    assert str(caught.value).startswith(f"features.transformers.new: {place}: {fault}")


def test_a_transformer_that_cannot_be_stored_is_refused_with_the_remedy(own: Path) -> None:
    spec = {"new": {"path": "transformers:Unsaved", "columns": ["total"], "names": ["a", "b"]}}
    features = make_features({}, spec).fit(make_table())
    named = own_transformers.list_types(features.get_declared("transformers"))
    fault = r"^features\.transformers: holds types that are not trusted: .*<lambda>: keep arrays and numbers, or name"
    with pytest.raises(ModelError, match=fault):
        make_arrays(features, own=named)


def test_a_transformer_that_gives_another_number_of_columns_is_refused(own: Path) -> None:
    spec = {"new": {"path": "transformers:Levels", "columns": ["total"], "names": ["a"]}}
    with pytest.raises(DataError, match=r"shape \(40, 2\) for 40 rows and 1 names: list one name per new column"):
        make_features({}, spec).fit(make_table())
    spec["new"] |= {"options": {"step": 3}}
    with pytest.raises(ParamsError, match=r"cannot be made with the options \{'step': 3\}: TypeError"):
        make_features({}, spec).fit(make_table())


def test_later_rows_change_nothing_that_was_learned(own: Path) -> None:
    table = make_table()
    features = make_features({}, LEVELS).fit(table.iloc[:30])
    before = features.transform(table.iloc[:30])
    features.transform(table.iloc[30:].assign(total=1e9))
    pd.testing.assert_frame_equal(features.transform(table.iloc[:30]), before)
    perturbed = own_transformers.perturb(take_columns(table, features.inputs_))
    assert all((perturbed["total"] != table["total"]) | table["total"].isna())


DOCS = Path(__file__).resolve().parents[2] / "docs" / "own-features.md"


def test_the_documented_package_gives_the_documented_features(own: Path) -> None:
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", DOCS.read_text(), re.DOTALL))
    (own.parent / "documentedshop").mkdir()
    (own.parent / "documentedshop" / "features.py").write_text(blocks["python"])
    content = YAML(typ="safe").load(blocks["yaml"].replace("churn.features", "documentedshop.features"))
    declared = Features.model_validate_json(json.dumps(content["features"]))
    spec = {name: one.model_dump(mode="json") for name, one in declared.transformers.items()}
    columns = {"functions": own_functions.make_function_specs(declared.functions), "transformers": spec}
    table = make_table().dropna(subset="total")
    made = RowFeatures(drop=list(declared.drop), columns=columns, fewest_rows=1).fit(table).transform(table)
    months = (table["left"] - table["joined"]).dt.days / 30.44
    np.testing.assert_allclose(made["tenure_months"], months, rtol=1e-6)
    assert set(made["domain"]) == {"", "a.example", "b.example"}
    assert set(made["total_level"]) == {0.0, 1.0, 2.0, 3.0}
    assert [code.stages for code in find_own_code(declared)] == [("features", "evaluation", "deploy")] * 3


def test_columns_are_checked_before_anything_runs(own: Path, params_root: Path) -> None:
    params = load_params("diabetes")
    (params_root / "lib").symlink_to(own.parent)
    for path, fault in {
        "features:tenure_months": f"features.functions.new: {PACKAGE}.features:tenure_months: lib/{PACKAGE}/features.py:6: no column 'joined'",
        "mistakes:of_target": f"{PACKAGE}.mistakes:of_target: lib/{PACKAGE}/mistakes.py:1: uses the target, which is not known at prediction time",
    }.items():
        (own / "mistakes.py").write_text("def of_target(target):\n    return target\n")
        features = params.features.model_copy(update={"functions": {"new": f"{PACKAGE}.{path}"}, "expressions": {}})
        changed = params.model_copy(update={"features": features})
        with pytest.raises(ParamsError, match=re.escape(fault)):
            check_features(changed, ["total", "visits", "target"])


def test_features_without_own_code_have_no_trace_of_it() -> None:
    features = RowFeatures(drop=["joined", "left"], fewest_rows=1).fit(make_table())
    assert "transformers_" not in vars(features)
    assert "functions" not in str(features.to_json())

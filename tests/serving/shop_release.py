"""A release of a shop whose model needs joined tables and a history."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from labkit.data import contract, needed_tables
from labkit.data.joins import join_tables
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from labkit.model.estimators import candidates, preprocessing
from labkit.model.onnx import converters
from labkit.model.onnx.compact import compact
from labkit.model.release import bundle
from labkit.model.release.main_table_files import make_main_table_files
from labkit.model.training import comparison
from labkit.params.experiment import Params
from labkit.params.tables import Target
from labkit.serving.engine import Engine

from tests.timed_shop import DATA, make_contract, make_tables

TABLES = make_tables(n_orders=400)
NEEDED = ["customer", "price", "gift", "hour_of_day", "customer_city", "region_name", "rate_value"]
FACTS = {"task": "classification", "classes": [0, 1], "positive": 1, "threshold": 0.4, "experiment": "shop",
         "estimator": "linear", "target": "returned", "metric": "m", "metrics": {}}  # fmt: skip


def write_shop_release(
    folder: Path,
    *,
    has_main_table: bool = True,
    columns: list[str] = NEEDED,
    tables: dict[str, pd.DataFrame] = TABLES,
) -> Path:
    """Write a release of a model that was trained on the orders."""
    joined = join_tables(tables, DATA)
    row_features = RowFeatures(
        histories={"customer": {"keys": ["customer"], "days": [14]}}, target={"column": "returned", "positive": 1}
    )
    rows = joined[[*columns, "predict_at", "outcome_known_at"]]
    row_features.fit(rows, joined["returned"])
    features = row_features.transform(rows)
    target = Target(column="returned", task="classification", positive=1)
    candidate = candidates.make_candidate("linear", target, preprocessing.find_kinds(features), seed=0)
    model = comparison.fit_model(candidate, row_features, [(features, joined["returned"])], target=target, seed=0)
    inputs, agreed = row_features.inputs_, make_contract(tables)
    schema = contract.join_schemas(agreed, DATA, {}).remove_columns(["returned"])
    bundle.write_release(
        folder,
        model,
        graph=compact(converters.convert(model), row_features),
        facts=FACTS,
        contract=schema.to_json(),
        card="# Card",
        example=rows[[*inputs]],
    )
    if has_main_table:
        main_table, _ = needed_tables.find_main_table(DATA, tables, agreed, inputs)
        bundle.extend_release(folder, make_main_table_files(main_table))
    return folder


def make_orders(n_rows: int = 40) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return orders that came later, and the same joined as training joins them."""
    orders = make_tables(n_orders=n_rows, seed=1)["orders"]
    return orders, join_tables({**TABLES, "orders": orders}, DATA)


def list_orders(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as a request holds them."""
    return list(json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15)))


def take_rates(names: list[str]) -> dict[str, Any]:
    """Return columns of the table that is joined by time."""
    return take_columns(TABLES["rates"], dict.fromkeys(names, ""))


def feed(engine: Engine, table: str, *rows: Any) -> dict[str, int]:
    """Send rows of a joined table to one process of a service."""
    assert engine.fed is not None
    return engine.fed.add(table, json.dumps({"rows": list(rows)}).encode())


def make_shop_params(root: Path) -> Params:
    """Write the tables and return the params of the shop."""
    data = DATA.model_dump(mode="json")
    data["tables"]["orders"]["times"], data["tables"]["rates"]["times"] = ["ordered"], ["at"]
    for name, table in {**TABLES, "orders": make_orders()[0]}.items():
        table.to_csv(root / f"{name}.csv", index=False)
    sections = {name: {} for name in ("eda", "wrangling", "features", "evaluation", "deploy")}
    content = {"experiment": "shop", "seed": 0, "data": data, "training": {"metric": "roc_auc"}, **sections}
    return Params.model_validate_json(json.dumps(content))

"""A checkout whose champion has a history, and rows that came after its release."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from labkit.artifacts import CONTRACT, PLACES
from labkit.data.joins import join_tables
from labkit.model.release import bundle
from labkit.params.load import load_params
from labkit.run.records import registry
from labkit.run.records.champion_moves import CHAMPION
from labkit.stages import publish
from labkit.stages.source import place_tables
from labkit.storage import digests

from tests.own_store import work_in
from tests.run.small import make_small
from tests.serving.shop_release import TABLES, write_shop_release
from tests.timed_shop import DATA, make_tables

NAME = "shop"
LATER = make_tables(n_orders=80, seed=2)["orders"]
LATER["ordered"] += pd.Timedelta(days=75)
"""Orders after all of those that the release was trained on; half of them become known, the others are asked about."""
SENT, ASKED = LATER[:40], LATER[40:].assign(customer=LATER["customer"][:40].to_numpy())
RATES = TABLES["rates"].assign(at=TABLES["rates"]["at"] + pd.Timedelta(days=75))
ORDERS = TABLES["orders"].copy()
ORDERS.loc[0, "days_until_known"] = 400  # so that the contract allows it
ALL = {
    **TABLES,
    "orders": ORDERS,
    "rates": pd.concat([TABLES["rates"], RATES[RATES["at"] > TABLES["rates"]["at"].max()]]),
}
JOINED_SENT, JOINED_ASKED = (join_tables({**ALL, "orders": rows}, DATA) for rows in (SENT, ASKED))


@contextmanager
def work_in_shop(folder: Path, store: Path) -> Iterator[Path]:
    """Work in a checkout with a finished run and a champion, and files of later orders."""
    with work_in(make_small(folder, "eda", store=store)) as root:
        data = DATA.model_dump(mode="json")
        data["tables"] = {name: {"path": f"data/{name}.csv"} for name in ALL}
        data["tables"]["orders"]["times"], data["tables"]["rates"]["times"] = ["ordered"], ["at"]
        data["tables"]["customers"]["times"] = ["since"]
        content: dict[str, Any] = {
            "experiment": NAME,
            "seed": 0,
            "data": {name: value for name, value in data.items() if value not in (None, [], {})},
            "training": {"metric": "roc_auc"},
            "features": {"history": {"customer": {"keys": ["customer"], "days": [14]}}},
            **{section: {} for section in ("eda", "wrangling", "evaluation", "deploy")},
        }
        (root / "params" / f"{NAME}.yaml").write_text(json.dumps(content))
        for name, table in ALL.items():
            save(root / "data" / f"{name}.csv", table)
        save(root / "sent.csv", SENT)
        save(root / "asked.csv", ASKED)
        params = load_params(NAME)
        place = root / "data" / NAME
        place_tables(params, place / PLACES["raw"], place / CONTRACT)
        promote(write_shop_release(place / PLACES["release"]))
        yield root


def promote(release: Path) -> None:
    """Register a release and make it the champion."""
    version = publish.register(load_params(NAME), bundle.load_release(release), digests.compute_digest(release))
    registry.set_alias(NAME, CHAMPION, version)


def save(path: Path, table: pd.DataFrame) -> Path:
    """Write rows as a file."""
    path.parent.mkdir(exist_ok=True)
    table.to_csv(path, index=False)
    return path

"""Orders of a shop, joined with customers, their regions, and rates that change with time."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
from labkit.data import contract
from labkit.params.tables import Data

DATA = Data.model_validate_json(
    json.dumps(
        {
            "tables": {name: {"path": f"{name}.csv"} for name in ("orders", "customers", "regions", "rates")},
            "derived": {"hour_of_day": "minute // 60"},
            "time": {"predict_at": "ordered", "outcome_known_at": "ordered + days(days_until_known)"},
            "joins": [
                {"table": "customers", "keys": {"customer": "id"}, "prefix": "customer_"},
                {"table": "regions", "keys": {"customer_city": "city", "kind": "kind"}, "prefix": "region_"},
                {"table": "rates", "keys": {"kind": "kind"}, "as_of": "at", "within_hours": 30, "prefix": "rate_"},
            ],
            "target": {"column": "returned", "task": "classification", "positive": 1},
        }
    )
)
KINDS, CITIES = ("book", "shoe", "coat"), ("Rome", "Oslo", "Århus", " x ")


def make_tables(*, n_orders: int, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Return the tables: keys are missing, unseen, whole numbers with gaps, pairs, and brought by an earlier join."""
    random = np.random.default_rng(seed)
    n_customers, start = 40, np.datetime64("2024-01-01", "us")
    days = random.integers(0, 60 * 24, n_orders)
    orders = pd.DataFrame(
        {
            "customer": random.integers(0, n_customers + 6, n_orders).astype(float),
            "price": random.lognormal(3, 1, n_orders).round(2),
            "gift": random.random(n_orders) < 0.3,
            "kind": random.choice([*KINDS, "new", None], n_orders),
            "minute": random.integers(0, 24 * 60, n_orders),
            "ordered": start + days.astype("timedelta64[h]"),
            "days_until_known": random.integers(1, 15, n_orders),
        }
    )
    orders.loc[::9, "customer"] = np.nan
    orders["returned"] = ((orders["kind"] == "shoe") ^ (random.random(n_orders) < 0.2)).astype(int)
    customers = pd.DataFrame(
        {
            "id": range(n_customers),
            "city": random.choice([*CITIES, None], n_customers),
            "since": start - random.integers(0, 9000, n_customers).astype("timedelta64[h]"),
            "note": "never needed",
        }
    )
    pairs = [(city, kind) for city in CITIES for kind in KINDS][:-2]
    regions = pd.DataFrame(pairs, columns=["city", "kind"])
    regions = regions.assign(name=[f"region {n % 4}" for n in range(len(pairs))], open=np.arange(len(pairs)) % 2 == 0)
    at = np.arange(0, 60 * 24, 37)
    rates = pd.concat(
        [pd.DataFrame({"kind": kind, "at": start + at.astype("timedelta64[h]")}).iloc[n::2] for n, kind in
         enumerate(KINDS)]
    )  # fmt: skip
    rates["value"] = random.normal(size=len(rates)).round(3)
    rates.iloc[::7, 2] = np.nan
    return {"orders": orders, "customers": customers, "regions": regions, "rates": rates.reset_index(drop=True)}


def make_contract(tables: dict[str, pd.DataFrame]) -> contract.Contract:
    """Return the contract that is inferred from tables."""
    agreed = {}
    for name, frame in tables.items():
        inference = contract.Inference()
        inference.add(pa.Table.from_pandas(frame, preserve_index=False))
        agreed[name] = inference.make_schema()
    return agreed

"""A small shop: its tables and params, and what a command changed in a checkout."""

from pathlib import Path

import numpy as np
import pandas as pd


def list_files(root: Path) -> dict[str, int]:
    """Return every file of a checkout with its time of change, caches of Python and git left out."""
    kept = (path for path in root.rglob("*") if path.is_file() and not {".git", "__pycache__"} & set(path.parts))
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in kept if ".dvc/tmp" not in str(path)}


SHOP = """
experiment: shop
seed: 1
data:
  tables:
    orders: {path: tables/orders.csv, times: [ordered]}
    customers: {path: tables/customers.csv}
  joins:
  - {table: customers, keys: {customer: id}, prefix: customer_}
  target: {column: returned, task: classification, positive: 1}
eda: {}
wrangling:
  filters: [price > 0]
features:
  expressions: {price_per_item: price / items}
  drop: [ordered]
training: {metric: roc_auc, models: [dummy, linear], folds: 3}
evaluation: {bootstrap_samples: 100}
deploy: {}
"""


def write_tables(root: Path) -> None:
    """Write the shop's tables, the same each time."""
    random = np.random.default_rng(0)
    n_orders, n_customers = 400, 50
    customers = pd.DataFrame({"id": range(n_customers), "city": random.choice(["Rome", "Oslo", None], n_customers)})
    orders = pd.DataFrame(
        {
            "customer": random.integers(0, n_customers + 3, n_orders),
            "price": random.lognormal(3, 1, n_orders).round(2),
            "items": random.integers(1, 5, n_orders),
            "kind": random.choice(["book", "shoe", "coat"], n_orders),
            "ordered": pd.date_range("2024-01-01", periods=n_orders, freq="6h").astype(str),
        }
    )
    orders["returned"] = ((orders["kind"] == "shoe") ^ (random.random(n_orders) < 0.2)).astype(int)
    (root / "tables").mkdir(exist_ok=True)
    orders.to_csv(root / "tables" / "orders.csv", index=False)
    customers.to_csv(root / "tables" / "customers.csv", index=False)


def change(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))

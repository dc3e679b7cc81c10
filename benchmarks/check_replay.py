"""Compute the numbers of a replay again, from the raw table and the recorded predictions, without labkit.

python benchmarks/check_replay.py data/flights/monitoring/replays/<time>.json flights.csv.zip \\
    --true "arr_delay > 15" --asked time_hour --minutes "minute - 120" --zone America/New_York --months 2013-07 2013-12

Areas under the ROC curve and costs of two classes. Exit code 1 if a number differs from the record by more than 1e-9.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

TOLERANCE = 1e-9
N_DRAWS, RUN_DAYS = 300, 7
"""Bootstrap draws, and consecutive days that are drawn together."""


def load_rows(options: argparse.Namespace, unit: str) -> pd.DataFrame:
    """Return period, day and true value of each row of the raw table."""
    reader = pd.read_parquet if options.table.suffix == ".parquet" else pd.read_csv
    raw = reader(options.table)
    asked = pd.to_datetime(raw[options.asked], utc=True)
    if options.minutes:
        asked += pd.to_timedelta(raw.eval(options.minutes), unit="min")
    local = asked.dt.tz_convert(options.zone).dt.tz_localize(None)
    period = local.dt.to_period("M" if unit == "month" else "W-SUN").astype(str)
    return pd.DataFrame({"period": period, "day": local.dt.floor("D"), "true": raw.eval(options.true).astype(int)})


def compute_costs(true: pd.Series, probability: pd.Series, costs: tuple[float, float]) -> pd.Series:
    """Return the cost of each row if the positive class is predicted from the fair threshold on."""
    false_positive, false_negative = costs
    is_predicted = probability >= false_positive / (false_positive + false_negative)
    return false_positive * (is_predicted & (true == 0)) + false_negative * (~is_predicted & (true == 1))


def check_months(rows: pd.DataFrame, record: dict, months: list[str], costs: tuple[float, float] | None) -> float:
    """Print the numbers of some periods, and return the largest difference from the record."""
    largest = 0.0
    for month in months:
        place, part = record["periods"].index(month), rows[rows["period"] == month]
        for policy in record["policies"]:
            probability = part[policy["policy"]]
            found = {"values": roc_auc_score(part["true"], probability)}
            if costs:
                found["costs"] = compute_costs(part["true"], probability, costs).mean()
            apart = max(abs(value - policy[name][place]) for name, value in found.items())
            shown = ", ".join(f"{value:.9f}" for value in found.values())
            print(f"{month} {policy['policy']}: {len(part):,} rows, {shown}; differs by {apart:.1e}")
            largest = max(largest, apart)
    return largest


def compare(rows: pd.DataFrame, first: str, second: str, costs: tuple[float, float]) -> None:
    """Print by how much two policies differ, on average over the periods, with intervals by runs of days."""
    days, codes = np.unique(rows["day"], return_inverse=True)
    random, parts = np.random.default_rng(0), [one for _, one in rows.assign(code=codes).groupby("period")]

    def measure(n_drawn: np.ndarray) -> list[float]:
        found = []
        for part in parts:
            weight = n_drawn[part["code"]]
            kept = weight > 0
            true, weight = part["true"][kept], weight[kept]
            if true.nunique() < 2:  # none of the days of this period was drawn
                continue
            ours, theirs = part[first][kept], part[second][kept]
            pairs = [
                [roc_auc_score(true, one, sample_weight=weight), log_loss(true, one, sample_weight=weight),
                 np.average(compute_costs(true, one, costs), weights=weight)]
                for one in (ours, theirs)
            ]  # fmt: skip
            found.append(np.subtract(*pairs))
        return np.mean(found, axis=0).tolist()

    value, draws = measure(np.ones(len(days), int)), []
    for _ in range(N_DRAWS):
        begins = random.integers(0, len(days), -(-len(days) // RUN_DAYS))
        drawn = (begins[:, None] + np.arange(RUN_DAYS)).ravel()[: len(days)] % len(days)
        draws.append(measure(np.bincount(drawn, minlength=len(days))))
    for name, at, low, high in zip(
        ["AUC", "log loss", "cost"], value, *np.quantile(draws, [0.025, 0.975], axis=0), strict=True
    ):
        print(f"{first} - {second}, {name}: {at:+.4f} [{low:+.4f}, {high:+.4f}]")


def main() -> int:
    """Check a replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("table", type=Path, help="raw main table, CSV or Parquet")
    parser.add_argument("--true", required=True, help="expression of the positive class")
    parser.add_argument("--asked", required=True, help="column with a time in UTC")
    parser.add_argument("--minutes", help="expression of the minutes from it to the prediction")
    parser.add_argument("--zone", default="UTC")
    parser.add_argument("--costs", type=float, nargs=2, help="of a false positive and a false negative")
    parser.add_argument("--months", nargs="+", required=True, help="periods to check")
    parser.add_argument("--compare", nargs=2, metavar="POLICY", help="policies to compare over all periods")
    options = parser.parse_args()
    record = json.loads(options.record.read_text())
    predicted, rows = pd.read_parquet(options.record.with_suffix(".parquet")), load_rows(options, record["unit"])
    if not (rows.loc[predicted.index, "period"] == predicted["period"]).all():
        print("rows are in other periods")
        return 1
    rows = rows.join(predicted.drop(columns="period"), how="right")
    largest = check_months(rows, record, options.months, options.costs)
    if options.compare:
        compare(rows, *options.compare, options.costs or (1, 1))
    print(f"largest difference {largest:.1e}")
    return int(largest > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

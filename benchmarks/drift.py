"""Measure drift detection: alarms on calm and on planted streams of flights, and the cost of one window.

`python benchmarks/drift.py --data data/flights --release data/flights/release`, in a checkout with a finished run of
flights. Calm streams of two kinds, 90 days of about 900 rows each: rows drawn from the reference, and blocks of three
real days in a row. The reference is the odd weeks of the training rows, the blocks come from the even weeks. A stream
is alarmed if any of its days is; a planted change is found if its series alarms on its first or second day. The domain
classifier judges weeks: a calm stream is alarmed if any of its weeks is, a change is found if its first week is. With
`--cost`, the CPU time of one thread and the peak memory of counting one window of 0.2 and 2 million rows of 15 columns
from Parquet, beside one pass of numpy that computes means, standard deviations and counts of categories, and
`DataDriftPreset` of Evidently on tables in memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.row_features import RowFeatures
from labkit.model.release.bundle import load_release
from labkit.monitoring.domain_classifier import LENGTH, RowComparison, compare_rows
from labkit.monitoring.drift import Drift, measure_drift
from labkit.monitoring.reference_profile import Profile, make_profile
from labkit.monitoring.row_batches import read_frame, read_parquet
from labkit.monitoring.row_sample import Sampler
from labkit.monitoring.window_counts import WindowCounter

ZONE = "America/New_York"
DAYS, EVENT, BLOCK = 90, 45, 3
FIRST = pd.Timestamp("2014-01-06", tz=ZONE)
"""A Monday after all real days."""
COLUMNS = (
    "carrier", "tailnum", "origin", "dest", "distance", "departure_minute", "arrival_minute", "weather_temp",
    "weather_dewp", "weather_humid", "weather_wind_speed", "weather_pressure", "weather_visib", "plane_manufacturer",
    "plane_seats",
)  # fmt: skip
EVIDENTLY = """
import json, sys, time, pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

current, reference = pd.read_parquet(sys.argv[1]), pd.read_parquet(sys.argv[2])
begin = time.process_time()
Report([DataDriftPreset()]).run(current, reference)
print(json.dumps({"cpu": time.process_time() - begin}))
"""
Change = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def shift(column: str, deviations: float) -> Change:
    """Return a change by some standard deviations of all training rows, not of a day."""
    return lambda rows, _: rows.assign(**{column: rows[column] + deviations * rows.attrs["sd"][column]})


def shuffle(column: str) -> Change:
    """Return a change that gives each row the value of another one of the day: only combinations of columns change."""
    return lambda rows, random: rows.assign(**{column: random.permutation(rows[column].to_numpy())})


def spoil(column: str, value: object, share: float) -> Change:
    """Return a change that sets a share of a column to a value."""

    def change(rows: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
        return rows.assign(**{column: rows[column].where(random.uniform(size=len(rows)) >= share, value)})

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "+0.5 sd distance": (shift("distance", 0.5), "distance"),
    "+0.5 sd departure time": (shift("departure_minute", 0.5), "departure_minute"),
    "+0.5 sd seats": (shift("plane_seats", 0.5), "plane_seats"),
    "+0.5 sd temperature": (shift("weather_temp", 0.5), "weather_temp"),
    "+0.5 sd humidity": (shift("weather_humid", 0.5), "weather_humid"),
    "+0.5 sd wind": (shift("weather_wind_speed", 0.5), "weather_wind_speed"),
    "+0.5 sd pressure": (shift("weather_pressure", 0.5), "weather_pressure"),
    "°F to °C": (lambda rows, _: rows.assign(weather_temp=(rows["weather_temp"] - 32) / 1.8), "weather_temp"),
    "new category 2 %": (spoil("carrier", "XX", 0.02), "carrier"),
    "new category 0.5 %": (spoil("carrier", "XX", 0.005), "carrier"),
    "missing distance 0 to 10 %": (spoil("distance", np.nan, 0.1), "distance"),
    "missing temperature 0 to 10 %": (spoil("weather_temp", np.nan, 0.1), "weather_temp"),
    "three times the rows": (lambda rows, _: pd.concat([rows] * 3, ignore_index=True), ""),
    "carriers shuffled among the rows of a day": (shuffle("carrier"), "carrier"),
    "half as many rows again": (lambda rows, random: pd.concat([rows, rows.sample(frac=0.5, random_state=random)]), ""),
}


def number_days(rows: pd.DataFrame) -> np.ndarray:
    """Return the local day of each row."""
    local = rows[PREDICT_AT].dt.tz_convert(ZONE).dt.tz_localize(None)
    return local.to_numpy().astype("datetime64[D]").astype(int)


def move_to(rows: pd.DataFrame, day: int) -> pd.DataFrame:
    """Return rows moved to a day of the stream, at their local times of day."""
    local = rows[PREDICT_AT].dt.tz_convert(ZONE)
    return rows.assign(**{PREDICT_AT: FIRST + pd.Timedelta(days=day) + (local - local.dt.normalize())})


def make_stream(pool: pd.DataFrame, sizes: np.ndarray, seed: int, *, is_drawn: bool) -> Iterator[pd.DataFrame]:
    """Yield the days of a calm stream: rows of the whole pool, or blocks of its days with rows drawn in each."""
    random = np.random.default_rng(seed)
    by_day = dict(list(pool.groupby(number_days(pool))))
    starts = [day for day in by_day if all(day + step in by_day for step in range(BLOCK))]
    for day in range(DAYS):
        if day % BLOCK == 0:
            start = int(random.choice(starts))
        if is_drawn:
            rows = pool.sample(int(random.choice(sizes)), random_state=random)
        else:
            rows = by_day[start + day % BLOCK].sample(frac=1, replace=True, random_state=random)
        yield move_to(rows, day)


def count_days(days: list[pd.DataFrame], row_features: RowFeatures, profile: Profile) -> Drift:
    """Return the drift of a stream."""
    counter = WindowCounter(profile.inputs.layout)
    for rows in days:
        for batch in read_frame(rows, row_features):
            counter.add(batch.columns, profile.inputs.windows.assign(batch, 0))
    return measure_drift(profile.inputs, counter.get_counts(), profile.relations)


def compare_days(
    days: list[pd.DataFrame], row_features: RowFeatures, profile: Profile, areas: np.ndarray | None = None
) -> RowComparison:
    """Return how well a classifier tells the days from the reference."""
    assert profile.sample is not None
    counter = WindowCounter(profile.inputs.layout)
    sampler = Sampler(profile.inputs.layout, profile.sample.quota, seed=0)
    for rows in days:
        for batch in read_frame(rows, row_features):
            numbers = profile.inputs.windows.assign(batch, 0)
            counter.add(batch.columns, numbers)
            sampler.add(batch.columns, numbers)
    return compare_rows(profile.inputs, profile.sample, sampler.get_sample(), counter.get_counts(), areas=areas)


def measure_detection(data: Path, release: Path, *, n_streams: int, seed: int) -> None:
    """Print alarmed calm streams and found changes, by kind of stream."""
    kept = load_release(release).row_features
    rows = pd.read_parquet(data / "clean/training.parquet")
    row_features = RowFeatures(rules=kept.rules).fit(rows[list(COLUMNS)])
    rows = rows[[*COLUMNS, PREDICT_AT]]
    week = (number_days(rows) + 3) // 7
    reference, even = rows[week % 2 == 1], rows[week % 2 == 0]
    profile = make_profile(
        "flights", lambda: read_frame(reference, row_features), row_features, zone=ZONE, n_sampled=10_000
    )
    sizes = profile.inputs.counts.rows[profile.inputs.complete]
    first = int(number_days(pd.DataFrame({PREDICT_AT: [FIRST]}))[0])
    for kind, pool, is_drawn in (("drawn", reference, True), ("blocks", even, False)):
        alarmed, series = 0, Counter[tuple[str, str]]()
        found, found_as_whole, alarmed_as_whole = dict.fromkeys(CHANGES, 0), dict.fromkeys(CHANGES, 0), 0
        largest, usual = 0.0, None
        for number in range(n_streams):
            days = list(make_stream(pool, sizes, seed + number, is_drawn=is_drawn))
            for rows in days:
                rows.attrs["sd"] = {name: cells.sd for name, cells in profile.inputs.layout.items()}
            drift = judge_inputs(count_days(days, row_features, profile))
            whole = compare_days(days, row_features, profile, usual)
            largest, usual = max([largest, *(one.area.value for one in whole.stretches)]), whole.areas
            alarmed_as_whole += bool(whole.alarms)
            alarmed += bool(drift)
            series.update((column, change) for column, change, _ in drift)
            for name, (change, column) in CHANGES.items():
                random = np.random.default_rng(seed + number)
                after = [change(rows, random) for rows in days[EVENT : EVENT + LENGTH]]
                found_as_whole[name] += bool(compare_days(after, row_features, profile, usual).alarms)
                drift = judge_inputs(count_days([*days[EVENT - 5 : EVENT], *after[:2]], row_features, profile))
                found[name] += any(one == column and day >= first + EVENT for one, _, day in drift)
        print(f"{kind}: {alarmed} of {n_streams} calm streams alarmed; streams by series: {dict(series)}")
        print(f"{kind}: {alarmed_as_whole} of {n_streams} alarmed as a whole; area up to {largest:.3f} in a calm week")
        for name, n in found.items():
            as_whole = f"as a whole within a week in {found_as_whole[name]}"
            print(f"{kind}: {name}: found within two days in {n} of {n_streams}, {as_whole}", flush=True)


def judge_inputs(drift: Drift) -> list[tuple[str, str, int]]:
    """Return column, kind and last day of each series that alarms."""
    return [(change.column, change.kind, change.last) for change in drift.changes]


def write_table(rows: pd.DataFrame, path: Path, n_rows: int) -> None:
    """Write a table of resampled rows with jitter, in row groups of 100,000."""
    random, writer = np.random.default_rng(0), None
    for start in range(0, n_rows, 100_000):
        part = rows.iloc[random.integers(0, len(rows), min(100_000, n_rows - start))].reset_index(drop=True)
        numbers = part.select_dtypes("number").columns
        part[numbers] = part[numbers] + random.normal(0, 1e-3, part[numbers].shape)
        table = pa.Table.from_pandas(part, preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def run_numpy_pass(path: Path) -> None:
    """Compute missing values, mean and deviation of numbers, and counts of categories, batch by batch."""
    names = pq.read_schema(path).names
    strings = [name for name in names if not pa.types.is_floating(pq.read_schema(path).field(name).type)]
    with pq.ParquetFile(path, read_dictionary=strings, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=65_536, use_threads=False):
            for name in names:
                values = batch.column(name)
                if name in strings:
                    np.bincount(values.indices.fill_null(0).to_numpy(zero_copy_only=False))
                else:
                    numbers = values.to_numpy(zero_copy_only=False)
                    np.isnan(numbers).sum(), np.nanmean(numbers), np.nanstd(numbers)


def run_count(path: Path, reference: Path) -> None:
    """Count one window against a profile, after the profile is made; print the CPU seconds of the counting."""
    rows = pd.read_parquet(reference)
    row_features = RowFeatures().fit(rows)
    profile = make_profile("flights", lambda: read_frame(rows, row_features), row_features)
    begin = time.process_time()
    counter = WindowCounter(profile.inputs.layout)
    for batch in read_parquet(path, row_features):
        counter.add(batch.columns, np.zeros(batch.n_rows, int))
    measure_drift(profile.inputs, counter.get_counts(), profile.relations)
    print(json.dumps({"cpu": time.process_time() - begin}))


def measure_cost(data: Path, evidently: Path | None) -> None:
    """Print CPU seconds and peak memory of all passes, each in a process of its own with one thread."""
    rows = pd.read_parquet(data / "clean/training.parquet")[list(COLUMNS)]
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference.parquet"
        numbers = rows.select_dtypes("number").columns
        rows.astype(dict.fromkeys(numbers, "float64")).head(50_000).to_parquet(reference)
        for n_rows in (200_000, 2_000_000):
            path = Path(scratch) / f"{n_rows}.parquet"
            write_table(pd.read_parquet(reference), path, n_rows)
            own = [sys.executable, __file__, "--file", str(path), "--reference", str(reference), "--one"]
            commands = {"numpy": [*own, "numpy"], "labkit": [*own, "labkit"]}
            if evidently is not None:
                commands["Evidently"] = [str(evidently), "-W", "ignore", "-c", EVIDENTLY, str(path), str(reference)]
            for what, command in commands.items():
                one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=True)
                print(f"{n_rows:,} rows, {what}: {done.stdout.strip()}", flush=True)


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--release", type=Path)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20_261_129)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--evidently", type=Path, help="Python of an environment with Evidently")
    parser.add_argument("--one", choices=("numpy", "labkit"))
    parser.add_argument("--file", type=Path)
    parser.add_argument("--reference", type=Path)
    options = parser.parse_args()
    if options.one == "numpy":
        begin = time.process_time()
        run_numpy_pass(options.file)
        print(json.dumps({"cpu": time.process_time() - begin}))
    elif options.one == "labkit":
        run_count(options.file, options.reference)
    elif options.cost:
        measure_cost(options.data, options.evidently)
    else:
        measure_detection(options.data, options.release, n_streams=options.streams, seed=options.seed)
    if options.one:
        print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()

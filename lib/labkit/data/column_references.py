"""Check that the columns named in the params exist.

Runs before any kernel starts: on the raw tables while they are put in place, and before every later stage on the
columns that the contract lists. So the tables need not be read again because of params that later stages read. For
checks of the values, see `labkit.data.contract`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from labkit.data.computed_columns import list_computed
from labkit.data.joins import list_brought
from labkit.errors import ParamsError, name_nearest
from labkit.features import date_parts, expressions, outcome_rates, own_functions, own_transformers
from labkit.features.imputation import MISSING, OUTLIER
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.tfidf import LENGTH
from labkit.params.experiment import Params
from labkit.params.import_path import locate_code, resolve_callable
from labkit.params.load import locate_message
from labkit.params.named_columns import list_named_columns
from labkit.params.tables import Data, Join
from labkit.storage.atomic import parse_json

Tables = Mapping[str, pd.DataFrame]


def check_columns(params: Params, tables: Tables) -> None:
    """Raise an error if the params name a table or column that does not exist.

    Raises
    ------
    ParamsError
        A name does not exist or cannot be used there; names the params field, the column and the closest match.
    """
    data, target = params.data, params.data.target.column
    known = check_data(data, tables)
    require(params.wrangling.drop, known, "wrangling.drop")
    check_wrangling(params, known)
    for name in (target, *([PREDICT_AT, OUTCOME_KNOWN_AT] if data.time else [])):
        if name in params.wrangling.drop:
            what = "the target" if name == target else "needed"
            raise ParamsError(f"wrangling.drop: {name} is {what}: it cannot be dropped")
    for number, expression in enumerate(params.wrangling.filters):
        require(expressions.find_names(expression), known, f"wrangling.filters.{number}")
    if data.split.group is not None:
        require([data.split.group], [name for name in known if name not in params.wrangling.drop], "data.split.group")
    check_features(params, known)
    check_own_rows(params, known)
    if params.evaluation.gate.fairness is not None:
        kept = [name for name in known if name not in (*params.wrangling.drop, target)]
        require(params.evaluation.gate.fairness.columns, kept, "evaluation.gate.fairness.columns")


def check_against_contract(params: Params, path: Path) -> None:
    """Raise an error if the params name a column that the raw tables do not have, as their contract lists them.

    Parameters
    ----------
    path
        The contract. If it is missing, damaged or lacks a table, the stage that needs it says so.

    Raises
    ------
    ParamsError
        See `check_columns`; the message begins with the line of the params file.
    """
    try:
        listed = {name: list(table["columns"]) for name, table in parse_json(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return
    if not set(params.data.tables) <= set(listed):
        return
    try:
        check_columns(params, {name: pd.DataFrame(columns=listed[name]) for name in params.data.tables})
    except ParamsError as error:
        raise ParamsError(locate_message(params.experiment, str(error))) from error


def check_own_rows(params: Params, known: list[str]) -> None:
    """Reject columns that checks and plots of the user's own name and that their rows do not have."""
    kept = [name for name in known if name not in params.wrangling.drop]
    named = [(f"evaluation.checks.{code}", path) for code, path in params.evaluation.checks.items()]
    named += [(f"evaluation.plots.{number}", path) for number, path in enumerate(params.evaluation.plots)]
    for where, path in named:
        for column, place in list_named_columns(resolve_callable(path, where=where)):
            require([column], kept, f"{where}: {path}: {place}")


def check_wrangling(params: Params, known: list[str]) -> None:
    """Reject wrangling of columns that do not exist, are dropped, or are the target."""
    wrangling, target = params.wrangling, params.data.target.column
    kept = [name for name in known if name not in wrangling.drop]
    require(wrangling.rules, known, "wrangling.rules")
    require(wrangling.duplicates_by, known, "wrangling.duplicates_by")
    if wrangling.duplicates_by and wrangling.duplicates == "keep":
        raise ParamsError("wrangling.duplicates_by: set wrangling.duplicates: drop, or remove it")
    for place, names in (("fill", wrangling.fill), ("outliers", wrangling.outliers)):
        require(names, kept, f"wrangling.{place}")
        if target in names:
            raise ParamsError(f"wrangling.{place}.{target}: is the target: leave rows out with wrangling.filters")


def check_data(data: Data, tables: Tables) -> list[str]:
    """Return the columns of the joined table, rejecting names in `data` that do not exist."""
    known = [str(name) for name in tables[data.main_table].columns]
    for name, expression in list_computed(data).items():
        where = f"data.time.{name}" if data.time and name in (PREDICT_AT, OUTCOME_KNOWN_AT) else f"data.derived.{name}"
        check_new(name, known, where)
        require(expressions.find_names(expression), known, where)
        known.append(name)
    for number, join in enumerate(data.joins):
        known += check_join(join, known, tables, f"data.joins.{number}")
    if data.target.expression is not None:
        check_new(data.target.column, known, "data.target.column")
        require(expressions.find_names(data.target.expression), known, "data.target.expression")
        known.append(data.target.column)
    require([data.target.column], known, "data.target.column")
    return known


def check_join(join: Join, known: list[str], tables: Tables, where: str) -> list[str]:
    """Return the columns that a join adds, rejecting names that do not exist."""
    require([join.table], tables, f"{where}.table", "table")
    columns = [str(name) for name in tables[join.table].columns]
    require(join.keys, known, f"{where}.keys")
    require(join.keys.values(), columns, f"{where}.keys ({join.table})")
    require(join.columns, columns, f"{where}.columns ({join.table})")
    if join.as_of is not None:
        require([join.as_of], columns, f"{where}.as_of ({join.table})")
        if join.cardinality == "one_to_one":
            raise ParamsError(
                f"{where}.cardinality: one_to_one cannot be used with as_of: several rows may match the same one"
            )
    elif join.within_hours is not None:
        raise ParamsError(f"{where}.within_hours: is only for joins with as_of")
    return list(list_brought(columns, join).values())


def check_features(params: Params, known: list[str]) -> None:
    """Reject features of columns that do not exist or are not known at prediction time."""
    target, features = params.data.target.column, params.features
    later = {target: "the target", OUTCOME_KNOWN_AT: OUTCOME_KNOWN_AT}
    inputs = [name for name in known if name not in params.wrangling.drop and name not in later]
    made: list[str] = []

    def check_inputs(names: Iterable[str], usable: list[str], where: str) -> None:
        for name in names:
            if name in later and name in known:
                raise ParamsError(f"{where}: uses {later[name]}, which is not known at prediction time")
        require(names, usable, where)

    for name, expression in features.expressions.items():
        check_new(name, known, f"features.expressions.{name}")
        check_inputs(expressions.find_names(expression), inputs, f"features.expressions.{name}")
        made.append(name)
    for name, path in features.functions.items():
        where = f"features.functions.{name}"
        check_new(name, [*known, *made], where)
        place = f"{where}: {path}: {locate_code(own_functions.resolve_function(path, where=where))}"
        check_inputs(own_functions.list_function_columns(path, where=where), inputs, place)
        made.append(name)
    for name, transformer in features.transformers.items():
        where = f"features.transformers.{name}"
        own_transformers.make_transformer(name, transformer.model_dump(mode="json"))
        check_inputs(transformer.columns, inputs, f"{where}.columns")
        for new in transformer.names:
            check_new(new, [*known, *made], f"{where}.names")
            made.append(new)
    for name, parts in features.dates.items():
        check_inputs([name], inputs, f"features.dates.{name}")
        date_parts.find_clock_changes(parts.zone)
        for part in parts.parts:
            check_new(f"{name}_{part}", [*known, *made], f"features.dates.{name}")
            made.append(f"{name}_{part}")
    flags = [f"{name}_{MISSING}" for name, fill in params.wrangling.fill.items() if fill.indicator]
    flags += [f"{name}_{OUTLIER}" for name, rule in params.wrangling.outliers.items() if rule.action == "flag"]
    check_inputs(features.text, inputs, "features.text")
    for name in [*flags, *(f"{name}_{LENGTH}" for name in features.text)]:
        check_new(name, [*known, *made], "wrangling" if name in flags else "features.text")
        made.append(name)
    for number, pair in enumerate(features.interactions):
        check_inputs(pair, [*inputs, *made], f"features.interactions.{number}")
        check_new(" x ".join(pair), [*known, *made], f"features.interactions.{number}")
        made.append(" x ".join(pair))
    raw = [*inputs, *made]
    require(features.categories, raw, "features.categories")
    if not [name for name in raw if name not in features.drop and name != PREDICT_AT]:
        raise ParamsError(f"data.tables: no column is left besides the target {target!r}: nothing to predict it from")
    for name, spec in features.history.items():
        where = f"features.history.{name}"
        check_inputs(spec.keys, raw, f"{where}.keys")
        for feature in outcome_rates.list_rate_names(name, spec.days):
            check_new(feature, [*known, *made], where)
            made.append(feature)
    check_answers(params)
    require(params.data.columns, [*known, *made], "data.columns")
    require(features.drop, [name for name in [*inputs, *made] if name != PREDICT_AT], "features.drop")


def check_answers(params: Params) -> None:
    """Reject history features without outcome times, without a positive class, or with a window below one day."""
    if not params.features.history:
        return
    if params.data.time is None:
        raise ParamsError("features.history: needs data.time, which states when an outcome is known")
    if params.data.target.task == "classification" and params.data.target.positive is None:
        raise ParamsError("features.history: needs data.target.positive, the class whose rate is counted")
    days = {name: min(spec.days) for name, spec in params.features.history.items() if min(spec.days) < 1}
    if days:
        raise ParamsError(f"features.history.{next(iter(days))}.days: at least 1 day, not {next(iter(days.values()))}")


def check_new(name: str, known: Iterable[str], where: str) -> None:
    """Reject a new column whose name is already taken."""
    if name in known:
        raise ParamsError(f"{where}: a column of that name exists: choose another name")


def require(names: Iterable[str], known: Iterable[str], where: str, kind: str = "column") -> None:
    """Raise an error for the first name that is not among the known ones.

    Raises
    ------
    ParamsError
        With the place in the params and the closest match.
    """
    found = [str(name) for name in known]
    for name in names:
        if name not in found:
            blank = next((column for column in found if column.strip() == name.strip()), None)
            hint = f"there is {blank!r}, with a space" if blank else name_nearest(name, found)
            raise ParamsError(f"{where}: no {kind} {name!r}: {hint}")

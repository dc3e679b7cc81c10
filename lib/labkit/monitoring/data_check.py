"""Check of a file of rows before it becomes part of the data: contract, new findings, and the champion's reference.

Nothing is changed or recorded. What is wrong with the data is a result; only what prevents the check is an error.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from labkit import paths
from labkit.artifacts import CONTRACT, PLACES
from labkit.checks import CheckResult, describe_counts, make_check, mute, sort_by_weight
from labkit.data.contract import check_table, load_contract
from labkit.data.joins import join_tables
from labkit.data.quality.issues import find_all, list_open
from labkit.data.quality.open_findings import NO_PAIRS
from labkit.data.quality.profile import profile_table
from labkit.data.reading.raw_table import RawTable, Source, open_file
from labkit.data.stability import DRIFT_COLUMNS
from labkit.data.table_files import load_table
from labkit.errors import DataError, MissingDataError, ParamsError, list_briefly
from labkit.model.evaluation.method_checks import LEAKS
from labkit.model.release.bundle import load_release
from labkit.monitoring.current_rows import open_rows
from labkit.monitoring.health import judge
from labkit.monitoring.performance import measure_performance
from labkit.monitoring.performance_checks import list_performance_checks
from labkit.monitoring.profile_files import load_profile
from labkit.monitoring.reference_performance import load_performance
from labkit.monitoring.scored_rows import score_current
from labkit.params.experiment import Params
from labkit.run.records import registry
from labkit.run.records.champion_moves import load_champion
from labkit.serving.batch_files import check_source
from labkit.serving.batch_input import follow_ending, name_by_format, restrict
from labkit.serving.known_outcomes import count_known_outcomes
from labkit.stages.publish import fetch_release
from labkit.units import format_count

FEWEST_ROWS = 50
"""Rows from which findings about the data are looked for."""
MOST_ROWS = 50_000
"""Rows, evenly spread over the file, in which they are looked for."""
NO_TABLE = "the file cannot be read as the main table"


@dataclass(frozen=True)
class DataCheck:
    """What was found about a file.

    Attributes
    ----------
    version
        Version of the champion that the rows were compared for; None without one.
    checks
        The most urgent first; muted as the params say.
    """

    experiment: str
    source: str
    n_rows: int | None
    version: int | None
    checks: Sequence[CheckResult]
    notes: Sequence[str]

    @property
    def headline(self) -> str:
        """Return what was checked and found, in a line."""
        rows = "" if self.n_rows is None else f", {format_count(self.n_rows, 'row')}"
        return f"{self.experiment}: {self.source}{rows}: {describe_counts(self.checks)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "experiment": self.experiment,
            "source": self.source,
            "rows": self.n_rows,
            "version": self.version,
            "checks": [check.to_dict() for check in self.checks],
            "notes": list(self.notes),
        }


def check_rows_file(params: Params, source: Path, *, now: datetime) -> DataCheck:
    """Check a file with rows of the main table: all of them up to now, or new ones, with or without the target.

    Parameters
    ----------
    now
        Time of the check, in UTC.

    Raises
    ------
    MissingDataError
        The file does not exist, or there is no contract yet.
    DataError
        Its format is not supported.
    """
    check_source(source)
    contract = paths.find_data_dir(params.experiment) / CONTRACT
    if not contract.is_file():
        raise MissingDataError(f"{params.experiment}: no contract yet: run `labkit run {params.experiment}` first")
    checks, notes, table = [], [], None
    try:
        table = read_raw_file(params, params.data.main_table, source)
        checks.append(check_contract_of_table(params, table, source, contract))
    except DataError as error:
        # The remedy is that of the check.
        evidence = paths.make_printable_name(str(error).partition(": fix the data")[0])
        checks.append(make_check("LK731", False, evidence, failed="issue"))
    checks += check_findings(params, table)
    try:
        champion = load_champion(params.experiment)
    except ParamsError as error:
        champion = None
        notes.append(f"not compared with what a model was trained on: {error}")
    if champion is not None:
        found, more = judge_file(params, champion, source, now)
        checks, notes = [*checks, *found], [*notes, *more]
    ordered = sort_by_weight(mute(checks, params.checks.mute))
    shown, n_rows = paths.make_printable_name(str(source)), None if table is None else len(table)
    return DataCheck(params.experiment, shown, n_rows, champion.number if champion else None, ordered, notes)


def read_raw_file(params: Params, name: str, source: Path) -> pd.DataFrame:
    """Read all columns of a file by the rules of a table."""
    with name_by_format(source) as path:
        file = Source(path, str(source))
        spec = follow_ending(params.data.tables[name], path)
        names = open_file(file, restrict(spec, [], {})).names
        batches = list(RawTable(name, restrict(spec, names, {}), [file]).read())
    return pa.concat_tables(batches).combine_chunks().to_pandas()


def check_contract_of_table(params: Params, table: pd.DataFrame, source: Path, contract: Path) -> CheckResult:
    """Check a table against the contract of the main table; the target may be absent, as it is of rows to predict."""
    schema, target = load_contract(contract)[params.data.main_table], params.data.target.column
    if target in schema.columns and target not in table:
        schema = schema.remove_columns([target])
    check_table(table, schema, str(source))
    evidence = f"{format_count(len(table), 'row')} and {format_count(table.shape[1], 'column')} as agreed"
    return make_check("LK731", len(table) > 0, evidence if len(table) else "the file has no rows", failed="issue")


def check_findings(params: Params, table: pd.DataFrame | None) -> list[CheckResult]:
    """Look for what is wrong with the data and was not found in those of the last run: leakage, and all else."""
    codes, data_dir = ("LK732", "LK733"), paths.find_data_dir(params.experiment)
    known_path = data_dir / PLACES["findings"]
    if table is None:
        return [CheckResult(code, "skipped", NO_TABLE) for code in codes]
    if len(table) < FEWEST_ROWS:
        why = f"{format_count(len(table), 'row')}, {FEWEST_ROWS} are needed"
        return [CheckResult(code, "skipped", why) for code in codes]
    if not known_path.is_file():
        return [CheckResult(code, "skipped", "there is no finished run to compare with") for code in codes]
    try:
        frame = join_last_tables(params, table.iloc[:: len(table) // MOST_ROWS + 1])
    except (DataError, ParamsError) as error:
        return [CheckResult(code, "skipped", paths.make_printable_name(str(error))) for code in codes]
    if params.data.target.column not in frame:
        return [CheckResult(code, "skipped", "the rows have no target") for code in codes]
    none = pd.DataFrame({name: [] for name in DRIFT_COLUMNS})
    profile = profile_table(frame, params.data.target, seed=params.seed)
    found = find_all(frame, profile, params.data, correlation_alert=NO_PAIRS, drift=none)
    left, known = list_open(found, params.wrangling), load_table(known_path)
    before = set(zip(known["column"], known["what"], strict=True))
    is_new = [pair not in before for pair in zip(left["column"], left["what"], strict=True)]
    new = left[np.array(is_new, dtype=bool)]
    named = (new["column"] + ": " + new["what"] + " (" + new["evidence"] + ")").tolist()
    is_leak = new["what"].isin(LEAKS).tolist()
    pairs = list(zip(named, is_leak, strict=True))
    leaks, others = ([one for one, leaking in pairs if leaking == kind] for kind in (True, False))
    return [
        make_check("LK732", not leaks, list_briefly(leaks) or "no column that leaks the target", failed="issue"),
        make_check("LK733", not others, list_briefly(others) or "nothing that the last run had not found"),
    ]


def join_last_tables(
    params: Params, table: pd.DataFrame, given: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Return rows of the main table joined with the other tables: those that are given, else those of the last run."""
    folder, main, others = paths.find_data_dir(params.experiment) / PLACES["raw"], params.data.main_table, given or {}
    absent = {*params.data.tables} - {main, *others}
    others = {**others, **{name: load_table(folder / f"{name}.parquet") for name in absent}}
    target = params.data.target
    if target.expression is None and target.column not in table:
        return table
    return join_tables({main: table.reset_index(drop=True), **others}, params.data)


def judge_file(
    params: Params, champion: registry.Version, source: Path, now: datetime
) -> tuple[list[CheckResult], list[str]]:
    """Compare a file with the champion's reference profile and performance; return the checks, and notes."""
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        release = load_release(fetch_release(champion, Path(scratch)))
        count_known_outcomes(release, params.experiment)
        try:
            profile = load_profile(release.folder)
            current = open_rows(params, release, source, keys=(), required="")
        except DataError as error:
            return [], [f"not compared with the champion: {paths.make_printable_name(str(error))}"]
        with release.code.active():
            scored = score_current(params, current, None, now, seen_until=profile.seen_until)
            performance = measure_performance(params, release, load_performance(release.folder), scored)
            health = judge(current, profile, now=now, policy=params.monitoring)
    # How old data and model are says nothing about a file.
    rows = [check for check in health.checks if check.definition.section != "Age"]
    return [*rows, *list_performance_checks(performance)], list(health.notes)

"""Watching experiments: check the champion on a schedule or when files arrive, and train again if the policy asks.

Files are looked for every ten seconds rather than waited for: notifications of the system do not exist on network file
systems, miss what arrives before the process starts, and come while a file is still being written. Looking costs
nothing and has one rule for all of these.

What was decided is never only in memory. A check is in the history before its alert, a retraining has a journal, and a
finding leads to one training on the same data (`labkit.monitoring.retraining`): a process that is killed at any moment
continues when it is started again.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import DiskError, LabkitError, ParamsError, TrackingError, get_first_line
from labkit.monitoring.alerts import FAILING, UNFED, end_alerts, open_alert, raise_unmonitored
from labkit.monitoring.champion_check import find_incoming
from labkit.monitoring.delivery import parse_time
from labkit.monitoring.observation import observe_files
from labkit.monitoring.retraining_journal import is_interrupted
from labkit.monitoring.retraining_records import HELD_BACK, REPEATED
from labkit.monitoring.routine_check import RoutineCheck, check_routinely
from labkit.monitoring.watch_state import (
    CHECKING,
    LOOK_SECONDS,
    STOPPED,
    TRAINING,
    WAITING,
    State,
    hold_watch,
    load_watch_state,
    save_state,
)
from labkit.monitoring.webhook import find_webhook
from labkit.params.experiment import Params
from labkit.params.load import list_experiments, load_params
from labkit.run.records.champion_moves import load_champion, load_history
from labkit.serving.prediction_log import SUFFIX
from labkit.serving.settings import LOG
from labkit.units import format_count, format_time_span

SETTLE_SECONDS = 10
"""A file counts as whole once it has not changed for that long."""
FIRST_PAUSE = timedelta(minutes=1)
"""Pause after a failure, doubled with each further one."""
SHORTEST_LIMIT = timedelta(hours=1)
"""Pauses after failures do not exceed the time between checks, or this if it is longer."""
MOST_CHECKS = 2
"""Checks of a source in one look: the second one is that of a champion that was just published."""
PUBLISHED, POSTPONED = "published", "postponed"
Report = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """How to watch.

    Attributes
    ----------
    every
        Time between checks.
    retrain
        Trains an experiment again on a file, or on the tables as they are if that is None, and returns the record; None
        if only checks are wanted.
    report
        Called with one line for people.
    stopping
        Not empty once the process was told to stop: nothing else is begun then.
    """

    every: timedelta
    retrain: Callable[[str, Path | None], dict[str, Any]] | None
    report: Report
    stopping: Sequence[int] = ()


def watch_experiments(names: Sequence[str], work: Work, *, is_once: bool) -> int:
    """Watch experiments until the process is told to stop, or make one look; return the exit code.

    SIGTERM lets the check or training under way finish; a second one, or SIGINT, interrupts it.

    Returns
    -------
    int
        Of one look: that of the first failure; 4 if a champion must not be relied on; else 0.

    Raises
    ------
    LabkitError
        Another process watches one of the experiments, or the webhook is not an address.
    """
    find_webhook()
    with ExitStack() as held, drain() as stopping:
        for name in names:
            held.enter_context(hold_watch(name))
        work = replace(work, stopping=stopping)
        states = [load_watch_state(name) for name in names]
        try:
            for state in states:
                begin_watch(state, work, now=datetime.now(UTC))
            if is_once:
                codes = [look(one, work, now=datetime.now(UTC), is_forced=True) for one in states if not stopping]
                return next(filter(None, codes), 0)
            while not stopping:
                for state in states:
                    if not stopping:
                        look(state, work, now=datetime.now(UTC))
                wait(LOOK_SECONDS, stopping)
        finally:
            for state in states:
                resume(state)
                save_state(state, now=datetime.now(UTC), doing=STOPPED)
    return 0


def choose_experiments(names: Sequence[str]) -> list[str]:
    """Return the experiments to watch: those named, or all that have a champion.

    Raises
    ------
    ParamsError
        One that is named has no champion, or none has.
    """
    for name in names:
        load_champion(load_params(name).experiment)
    known = [*dict.fromkeys(names)] or [name for name in list_experiments() if load_history(name)[0] is not None]
    if not known:
        raise ParamsError("no experiment has a champion yet: run one, e.g. `labkit run diabetes`")
    return known


@contextmanager
def drain() -> Iterator[list[int]]:
    """Yield a list to which the first SIGTERM is added; the second one interrupts as before."""
    stopping: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, _: object) -> None:
        stopping.append(number)
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)


def begin_watch(state: State, work: Work, *, now: datetime) -> None:
    """Give the first sign of life; a check is due no later than the time between checks from now."""
    resume(state)
    if state.due:
        state.due = min(parse_time(state.due), now + work.every).isoformat(timespec="seconds")
    save_state(state, now=now, doing=WAITING)


def resume(state: State) -> None:
    """Make a check due now if the last one, or the training that followed, did not come to its end."""
    if state.doing in (CHECKING, TRAINING) or is_interrupted(state.experiment):
        state.due = ""


def wait(seconds: float, stopping: Sequence[int]) -> None:
    """Sleep, but only until the process is told to stop."""
    until = time.monotonic() + seconds
    while not stopping and time.monotonic() < until:
        time.sleep(0.5)


def look(state: State, work: Work, *, now: datetime, is_forced: bool = False) -> int:
    """Check an experiment if that is due or files have arrived, act on the result, and return an exit code.

    Parameters
    ----------
    is_forced
        Check it in any case.
    """
    code = 0
    try:
        params = load_params(state.experiment)
        code = check_sources(params, state, work, now=now, is_forced=is_forced)
    except Exception as error:  # Whatever fails in one experiment, the others are still watched.
        state.failures += 1
        pause = min(FIRST_PAUSE * 2 ** min(state.failures - 1, 20), max(work.every, SHORTEST_LIMIT))
        state.due = (now + pause).isoformat(timespec="seconds")
        what = get_first_line(error) if isinstance(error, LabkitError) else f"{type(error).__name__}: {error}"
        again = "" if is_forced else f" (again in {format_time_span(pause.total_seconds())})"
        say(work, f"{state.experiment}: failed: {what}{again}")
        note_unmonitored(state.experiment, work, now)
        code = error.exit_code if isinstance(error, LabkitError) else 1
    save_state(state, now=datetime.now(UTC), doing=WAITING)
    return code


def check_sources(params: Params, state: State, work: Work, *, now: datetime, is_forced: bool) -> int:
    """Check the sources of rows that are due or have arrived, and return an exit code; see `look`."""
    found = {source: sign(source) for source in list_row_sources(params)}
    settled = [one for one, signature in found.items() if is_settled(one, signature, state, now, is_forced=is_forced)]
    is_due = is_forced or not state.due or now >= parse_time(state.due)
    is_due = is_due or (state.is_postponed and len(settled) == len(found))
    wanted = [source for source in settled if is_due or state.taken.get(str(source)) != found[source]]
    if is_due and not found:
        raise ParamsError(describe_missing(params))
    for source in set(found) - set(settled) if is_forced else ():
        what = f"{paths.show_path(source)} is still being written: left for the next check"
        say(work, f"{params.experiment}: {what}")
    if not wanted:
        return 0
    state.due, state.is_postponed = (now + work.every).isoformat(timespec="seconds"), False
    state.taken |= {str(source): found[source] for source in wanted}
    if work.retrain and is_interrupted(params.experiment):
        train(params, state, work)
    if params.monitoring.observe and (incoming := find_incoming(params)) in wanted and not work.stopping:
        observe_incoming(params, incoming, work)
    verdicts = [check_source_of_rows(params, source, state, work) for source in wanted if not work.stopping]
    state.failures = 0
    if work.stopping:
        state.due = ""  # What was left out is made up for by the next start.
    return 4 if "stop" in verdicts else 0


def observe_incoming(params: Params, incoming: Path, work: Work) -> None:
    """Feed the outcomes in a file that arrived back to the champion; without those that someone has undone.

    Outcomes that contradict others are left out and reported. A file that is refused opens an alert and keeps nothing
    else from happening: the check names what is wrong with it.

    Raises
    ------
    TrackingError, DiskError
        The store or the disk failed: the watch tries again.
    """
    experiment, now = params.experiment, datetime.now(UTC)
    version = load_champion(experiment).number
    given: dict[str, Any] = {"now": now, "report": lambda line: say(work, line)}
    try:
        options: dict[str, Any] = {"is_new_only": True, "is_unattended": True}
        found = observe_files(params, [incoming], reason="labkit watch", now=now, **options)
    except (TrackingError, DiskError):
        raise
    except LabkitError as error:
        evidence = get_first_line(error)
        say(work, f"{experiment}: outcomes not observed: {evidence}")
        open_alert(experiment, UNFED, evidence, version=version, **given)
    else:
        for line in filter(None, (str(found).partition("\n")[0], found.describe_uncounted())):
            say(work, line)
        end_alerts(experiment, UNFED, f"observed at {now.isoformat(timespec='seconds')}", **given)


def check_source_of_rows(params: Params, source: Path, state: State, work: Work) -> str:
    """Check the champion on a source, train again if the verdict asks for it, and return the last verdict."""
    for _ in range(MOST_CHECKS):
        save_state(state, now=datetime.now(UTC), doing=CHECKING)
        routine = check_routinely(params, source, now=datetime.now(UTC), report=lambda line: say(work, line))
        verdict = routine.checked.health.verdict
        say(work, describe_routine_check(routine))
        is_wanted = verdict == "retrain" and work.retrain is not None and not work.stopping
        if not is_wanted or train(params, state, work) != PUBLISHED or work.stopping:
            break
        params = load_params(params.experiment)
    return verdict


def train(params: Params, state: State, work: Work) -> str:
    """Train again on the data up to now, and return the decision; later if these are still being written."""
    assert work.retrain is not None
    source = find_incoming(params)
    if source is not None and not source.is_file():
        source = None
    if source is not None and state.taken.get(str(source)) != sign(source):
        state.is_postponed = True
        say(work, f"{params.experiment}: training postponed: {paths.show_path(source)} is still being written")
        return POSTPONED
    save_state(state, now=datetime.now(UTC), doing=TRAINING)
    record = work.retrain(params.experiment, source)
    if record.get("state") == HELD_BACK:
        say(work, f"{params.experiment}: not trained: {record['headline']}")
        given: dict[str, Any] = {"version": record["champion"], "now": datetime.now(UTC)}
        open_alert(params.experiment, FAILING, record["headline"], **given, report=lambda line: say(work, line))
        return HELD_BACK
    what = "nothing new to train on" if record.get("state") == REPEATED else "trained again"
    say(work, f"{params.experiment}: {what}: {record['headline']}")
    if record.get("state") == REPEATED:
        return REPEATED
    return str(record["decision"])


def describe_routine_check(routine: RoutineCheck) -> str:
    """Return the result of a check on one line."""
    record = routine.checked.record
    reasons = record["reasons"]
    more = f" (and {format_count(len(reasons) - 1, 'other finding')})" if len(reasons) > 1 else ""
    why = f": {reasons[0]}{more}" if reasons else ""
    alerts = f"; {format_count(len(routine.alerts), 'open alert')}" if routine.alerts else ""
    return f"{record['experiment']} v{record['version']}: {record['verdict']}{why}{alerts} [{record['source']}]"


def note_unmonitored(experiment: str, work: Work, now: datetime) -> None:
    """Raise an alert if the champion could not be checked for long; without a champion there is nothing to say."""
    with suppress(LabkitError):
        champion, moves = load_history(experiment)
        if champion is not None:
            since = moves[-1].at if moves else None
            report = lambda line: say(work, line)  # noqa: E731
            raise_unmonitored(experiment, version=champion.number, since=since, now=now, report=report)


def list_row_sources(params: Params) -> list[Path]:
    """Return where rows come from: the log of the service, and the file that the params name, if they exist."""
    log, incoming = paths.find_serving_dir(params.experiment) / LOG, find_incoming(params)
    found = [log] if any(log.glob(f"*{SUFFIX}")) else []
    return [*found, incoming] if incoming is not None and incoming.is_file() else found


def describe_missing(params: Params) -> str:
    """Return that there is nothing to check, and what to do."""
    if params.monitoring.incoming is not None:
        return f"{params.monitoring.incoming} (monitoring.incoming) has not arrived, and there is no log of predictions"
    return (
        f"no log of predictions: serve the model with `labkit serve {params.experiment}`, or name the file in which "
        "new rows arrive as monitoring.incoming"
    )


def sign(source: Path) -> list[int]:
    """Return what changes when rows arrive: size and time of a file, the number of parts of a log."""
    if source.is_dir():
        return [sum(1 for _ in source.glob(f"*{SUFFIX}"))]
    stat = source.stat()
    return [stat.st_size, stat.st_mtime_ns]


def is_settled(source: Path, signature: list[int], state: State, now: datetime, *, is_forced: bool) -> bool:
    """Return whether nobody writes to a file any more; logs are read while they grow.

    What counts is that two looks saw the same, as the clock of a file server may be wrong. Only where there is one look
    (`is_forced`), the file's time counts as well.
    """
    if source.is_dir():
        return True
    *seen, since = state.seen.get(str(source), [0])
    if seen != signature or since > now.timestamp():
        since = int(now.timestamp())
        state.seen[str(source)] = [*signature, since]
    ages = [now.timestamp() - since, *([now.timestamp() - source.stat().st_mtime] if is_forced else [])]
    return max(ages) >= SETTLE_SECONDS


def say(work: Work, line: str) -> None:
    """Report a line with the time in UTC."""
    work.report(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}")

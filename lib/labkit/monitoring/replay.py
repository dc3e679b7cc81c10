"""Replay of the past: what would have come of each policy of training again, had the rows arrived one after another.

The champion's recipe (features, preparation and estimator with their settings) is trained on the first periods. Then,
period by period, the rows are predicted by the champion of the day; outcomes come when they become known; and the
policy decides whether to train again on all rows whose outcome is known by then. A new version is judged like a
release: fitted without the last days whose outcomes are known, it is compared on these with what the champion
predicted, by days. It is accepted if the lower end of the gain is within the tolerance of the gate, or if nothing can
be compared; then it is fitted on all known rows. A version depends on its time only, so policies share them.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from labkit.errors import DataError, ParamsError
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.model.evaluation.blocks import find_blocks
from labkit.model.evaluation.bootstrap import compare_paired
from labkit.model.evaluation.gate import check_champion
from labkit.model.evaluation.metrics import compute_losses, compute_metric
from labkit.model.evaluation.predictions import Predictions, align_proba, make_predictions
from labkit.model.training.refit import refit_model
from labkit.monitoring.drift import measure_drift, name_series
from labkit.monitoring.health import choose_action
from labkit.monitoring.reference_profile import Profile, make_profile
from labkit.monitoring.row_batches import read_frame
from labkit.monitoring.window_counts import WindowCounter
from labkit.params.experiment import Params
from labkit.params.monitoring import GROWTH
from labkit.units import format_count, format_share

JUDGED_DAYS = {"month": 28, "week": 7}
"""Last days with known outcomes on which a version is judged, by unit of the periods: at most one period.

Fewer refuse good versions by chance. With more, the version fitted without them would be older than the champion.
"""
POLICIES = {
    "never": "never trained again, and rates of past outcomes as they were at the release",
    "observe": "never trained again, but past outcomes become known to the features",
    "monthly": "trained again every period, with past outcomes known",
    "rule": "trained again when monitoring.rules of the params ask for it by growth (LK712), one check a "
    "period, with past outcomes known",
}
FEWEST_PERIODS = 4
FEWEST_MONTHS = 6


@dataclass(frozen=True)
class Version:
    """A model of the replay.

    Attributes
    ----------
    at
        Time of the training: only rows whose outcome was known by then took part.
    is_known
        Which rows these are, shape (n_rows,).
    """

    at: pd.Timestamp
    is_known: np.ndarray
    pipeline: Pipeline

    @property
    def n_rows(self) -> int:
        """How many rows it was trained on."""
        return int(self.is_known.sum())


@dataclass(frozen=True)
class Decision:
    """What a policy decided at the beginning of a period.

    Attributes
    ----------
    cause
        Why a training was or was not asked for.
    outcome
        `kept` without a training, else `promoted` or `refused`.
    evidence
        How the new version compared with the champion, or why it was not compared; empty without a training.
    """

    period: str
    policy: str
    cause: str
    outcome: str
    n_rows: int
    evidence: str = ""
    drift: Sequence[str] = ()


@dataclass
class PolicyRun:
    """The course of one policy.

    Attributes
    ----------
    predicted
        Predictions of the champion of the day for every row, by period.
    found
        Codes of what the check of each period found about the champion, for `in_a_row` of the rules.
    """

    name: str
    champion: Version
    predicted: list[Predictions] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    found: list[set[str]] = field(default_factory=list)

    @property
    def n_trainings(self) -> int:
        """How often it trained again, whether the version was promoted or refused."""
        return sum(one.outcome != "kept" for one in self.decisions)


class Replay:
    """The rows of an experiment in the order of their predictions, divided into periods.

    Parameters
    ----------
    rows
        Clean rows with `PREDICT_AT`, `OUTCOME_KNOWN_AT` and the target, shape (n_rows, n_columns).
    recipe
        Row features, preparation and estimator of the champion; they are cloned, never changed.
    begin
        First day that is replayed; None for the period after the first quarter.

    Attributes
    ----------
    fit
        Returns the recipe fitted on the rows whose outcome is known at a time; by default it is fitted here.

    Raises
    ------
    ParamsError
        The experiment declares no times, or no period is left to replay.
    DataError
        There are too few periods.
    """

    def __init__(
        self,
        params: Params,
        rows: pd.DataFrame,
        recipe: Pipeline,
        *,
        begin: pd.Timestamp | None = None,
    ) -> None:
        if params.data.time is None:
            raise ParamsError(f"{params.experiment}: a replay needs times: declare data.time")
        self.params, self.recipe, self.target = params, recipe, params.data.target
        self.rows = rows.sort_values(PREDICT_AT, kind="stable")
        self.known = self.rows[OUTCOME_KNOWN_AT]
        local = self.rows[PREDICT_AT].dt.tz_convert(params.data.time.zone).dt.tz_localize(None)
        months = local.dt.to_period("M")
        self.unit = "month" if months.nunique() >= FEWEST_MONTHS else "week"
        self.periods = months if self.unit == "month" else local.dt.to_period("W-SUN")
        every = sorted(self.periods.unique())
        if len(every) < FEWEST_PERIODS:
            raise DataError(
                f"{params.experiment}: a replay needs rows of at least four weeks, "
                f"found {format_count(len(every), 'week')}"
            )
        first = every[-(-len(every) // 4)] if begin is None else begin.to_period(every[0].freq)
        self.replayed = [one for one in every if one >= first]
        if first <= every[0] or not self.replayed:
            raise ParamsError(
                f"--from: name a day after {every[0].end_time:%Y-%m-%d}, up to {every[-1].end_time:%Y-%m-%d}"
            )
        is_numeric = self.target.task == "regression"
        self.classes = () if is_numeric else tuple(sorted(self.rows[self.target.column].unique().tolist(), key=str))
        self.fit: Callable[[pd.Timestamp], Pipeline] = self.fit_here
        self.versions: dict[pd.Timestamp, Version] = {}
        self.scored: dict[tuple[pd.Timestamp, Any, bool], Predictions] = {}
        self.profiles: dict[pd.Timestamp, Profile] = {}

    def find_begin(self, period: pd.Period) -> pd.Timestamp:
        """Return when a period or a day begins, in UTC."""
        assert self.params.data.time is not None
        begin = period.start_time.tz_localize(self.params.data.time.zone, nonexistent="shift_forward", ambiguous=True)
        return begin.tz_convert("UTC")

    def fit_here(self, at: pd.Timestamp) -> Pipeline:
        """Return the recipe fitted on the rows whose outcome is known at a time."""
        known = self.rows[(self.known <= at).to_numpy()]
        return refit_model(self.recipe, known, target=self.target, seed=self.params.seed)

    def train(self, at: pd.Timestamp) -> Version:
        """Return the version that can be trained at a time."""
        if at not in self.versions:
            is_known = (self.known <= at).to_numpy()
            training = self.rows[is_known]
            if self.target.task == "classification" and training[self.target.column].nunique() < 2:
                raise DataError(f"fewer than two classes are known on {at:%Y-%m-%d}: begin later with --from")
            self.versions[at] = Version(at, is_known, self.fit(at))
        return self.versions[at]

    def predict(self, version: Version, wanted: np.ndarray, *, key: Any, is_fed: bool) -> Predictions:
        """Return a version's predictions of rows; with `is_fed`, each sees the outcomes known when it is predicted.

        Parameters
        ----------
        wanted
            Mask of the rows, shape (n_rows,).
        key
            Identifies the mask.
        """
        place = (version.at, key, is_fed)
        if place not in self.scored:
            rows = self.rows[wanted]
            features = deepcopy(version.pipeline[0])
            if is_fed:
                # A row is only looked up among outcomes known by then, so later ones in the state change nothing.
                later = ~version.is_known & (self.known <= rows[PREDICT_AT].max()).to_numpy()
                features.observe(self.rows[later])
            model, made = version.pipeline[1:], features.transform(rows)
            if self.target.task == "regression":
                output = np.asarray(model.predict(made), "float64")
            else:
                output = align_proba(model.predict_proba(made), model.classes_.tolist(), self.classes)
            self.scored[place] = make_predictions(rows[self.target.column], output, self.classes, self.target)
        return self.scored[place]

    def list_trainings(self, policy: str) -> list[pd.Timestamp]:
        """Return the times of the fits that a policy is certain to need, in order."""
        first, *later = map(self.find_begin, self.replayed)
        if policy != "monthly":
            return [first]
        known = [begin for begin in later if (self.known <= begin).any()]
        return [first, *(at for begin in known for at in (self.find_judged(begin), begin))]

    def run(self, policy: str, report: Callable[[str], None]) -> PolicyRun:
        """Replay one policy."""
        done = PolicyRun(policy, self.train(self.find_begin(self.replayed[0])))
        for number, period in enumerate(self.replayed):
            if number:
                done.decisions.append(self.decide(done, period))
                report(f"{policy} {period}: {done.decisions[-1].outcome}")
            wanted = (self.periods == period).to_numpy()
            done.predicted.append(self.predict(done.champion, wanted, key=period, is_fed=policy != "never"))
        return done

    def decide(self, done: PolicyRun, period: pd.Period) -> Decision:
        """Decide at the beginning of a period, and make the new version the champion if it is accepted."""
        at = self.find_begin(period)
        n_known = int((self.known <= at).sum())
        cause, is_asked = self.find_cause(done, n_known)
        drift = self.list_drift(done.champion, period - 1) if done.name == "rule" else ()
        if not is_asked:
            return Decision(f"{period}", done.name, cause, "kept", n_known, drift=drift)
        evidence, passed = self.judge(done, at)
        if passed:
            done.champion, done.found = self.train(at), []
        return Decision(f"{period}", done.name, cause, "promoted" if passed else "refused", n_known, evidence, drift)

    def find_cause(self, done: PolicyRun, n_known: int) -> tuple[str, bool]:
        """Return why a policy trains again or not, and whether it does."""
        if done.name in ("never", "observe"):
            return "this policy never trains again", False
        growth = n_known / done.champion.n_rows - 1
        found = f"the rows have grown by {format_share(growth)}"
        if done.name == "monthly":
            return f"every {self.unit}; {found}", True
        rules, earlier = self.params.monitoring, [*done.found]
        has_grown = growth >= rules.growth
        done.found.append({GROWTH} if has_grown else set())
        rule = rules.find_rule(GROWTH)
        if not has_grown or rule.action != "retrain":
            return found, False
        is_due = choose_action(rule, GROWTH, earlier) == "retrain"
        return found if is_due else f"{found}, not yet in {format_count(rule.in_a_row, 'check')} in a row", is_due

    def judge(self, done: PolicyRun, at: pd.Timestamp) -> tuple[str, bool]:
        """Compare a version fitted without the last days with what the champion predicted on them, if possible."""
        begin, n_days = self.find_judged(at), JUDGED_DAYS[self.unit]
        if (self.known <= begin).sum() <= done.champion.n_rows:
            return f"not compared: fitted without the last {n_days} days, it would know no more than the champion", True
        wanted = ((self.rows[PREDICT_AT] >= begin) & (self.known <= at)).to_numpy()
        ours = self.predict(self.train(begin), wanted, key=at, is_fed=True)
        served = self.find_served(done, wanted)
        blocks = find_blocks(self.rows[wanted], self.params.data).fit_length(compute_losses(ours))
        drawn: dict[str, Any] = {"confidence": self.params.evaluation.confidence, "blocks": blocks}
        metric, n_samples = self.params.training.metric, min(self.params.evaluation.bootstrap_samples, 200)
        gain = compare_paired(metric, ours, served, n_samples=n_samples, seed=self.params.seed, **drawn)
        if np.isnan(gain.low):
            return f"not compared: {metric} has no interval on the last {n_days} days", True
        value, gate = compute_metric(metric, served), self.params.evaluation.gate
        check = check_champion(metric, gain, gate, champion="the champion", value=value, **drawn)
        return check.evidence, check.passed

    def find_judged(self, at: pd.Timestamp) -> pd.Timestamp:
        """Return when the last days with known outcomes begin, on which a version is judged."""
        assert self.params.data.time is not None
        last = self.rows.loc[(self.known <= at).to_numpy(), PREDICT_AT].max()
        day = last.tz_convert(self.params.data.time.zone).tz_localize(None).to_period("D")
        return self.find_begin(day - (JUDGED_DAYS[self.unit] - 1))

    def find_served(self, done: PolicyRun, wanted: np.ndarray) -> Predictions:
        """Return what the champions of the day predicted for rows of the periods so far."""
        so_far = np.flatnonzero(self.periods.isin(self.replayed[: len(done.predicted)]).to_numpy())
        return join_predictions(done.predicted).take(np.flatnonzero(np.isin(so_far, np.flatnonzero(wanted))))

    def list_drift(self, version: Version, period: pd.Period) -> tuple[str, ...]:
        """Return the series of a period that alarm against the rows that a version was trained on."""
        assert self.params.data.time is not None
        features = version.pipeline[0]
        if version.at not in self.profiles:
            training = self.rows[version.is_known]
            self.profiles[version.at] = make_profile(
                self.params.experiment,
                lambda: read_frame(training, features),
                features,
                zone=self.params.data.time.zone,
            )
        profile = self.profiles[version.at]
        counter, n_before = WindowCounter(profile.inputs.layout), 0
        for batch in read_frame(self.rows[(self.periods == period).to_numpy()], features):
            counter.add(batch.columns, profile.inputs.windows.assign(batch, n_before))
            n_before += batch.n_rows
        found = measure_drift(profile.inputs, counter.get_counts(), profile.relations).changes
        return tuple(name_series((one.column, one.kind)) for one in found)


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of consecutive periods as one; all have the same classes in the same order."""
    y_true, y_pred = (np.concatenate([getattr(one, name) for one in parts]) for name in ("y_true", "y_pred"))
    y_proba = np.concatenate([one.y_proba for one in parts])
    return Predictions(y_true, y_pred, y_proba, parts[0].classes, parts[0].positive)

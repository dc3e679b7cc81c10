"""Proposes the points of a sweep with Optuna, each from what the points before it scored.

What is proposed depends on the space, the seed and the scores alone: not on which point ends first, and not on how
often the sweep was interrupted. So the same sweep again proposes the same points, whose stages are done already.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from labkit.model.evaluation.metrics import is_greater_better
from labkit.params.plain_values import write_number
from labkit.sweep.search_space import Range, Space

N_AT_RANDOM = 5
"""Trials that have to end before the scores of others are made use of; until then points are drawn at random."""
STUDY = "study.journal"
"""File of the study, which Optuna's dashboard opens."""


class Search:
    """A search for the best point.

    Parameters
    ----------
    space
        The parameters and their ranges or values.
    metric
        What is optimised; the trials have its score in cross-validation.
    seed
        Seed of the proposals.
    path
        File of the study; replaced.
    first
        Point to propose first, values by parameter; empty for none.
    """

    def __init__(self, space: Space, *, metric: str, seed: int, path: Path, first: Mapping[str, str | float]) -> None:
        self.space, self.seed, self.first = space, seed, dict(first)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(path))),
                study_name=f"cv_{metric}",
                direction="maximize" if is_greater_better(metric) else "minimize",
            )
        finally:
            optuna.logging.set_verbosity(before)
        if first:
            self.study.enqueue_trial(self.first)
        self.distributions: dict[str, BaseDistribution] = {name: make_distribution(one) for name, one in space.items()}
        self.open: dict[int, optuna.Trial] = {}

    def propose(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of the next trial and its settings."""
        # A sampler's random numbers are not stored: each trial has its own, whatever was proposed by this process.
        seed = int(np.random.SeedSequence([self.seed, len(self.study.trials)]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_AT_RANDOM, constant_liar=True)
        trial = self.study.ask(self.distributions)
        self.open[trial.number] = trial
        if self.first and trial.number == 0:  # as the params file has them, whose stages may be up to date
            return 0, tuple(f"{name}={format_own_value(self.first[name])}" for name in self.space)
        settings = tuple(f"{name}={format_proposal(one, trial.params[name])}" for name, one in self.space.items())
        return trial.number, settings

    def conclude(self, number: int, score: float | None) -> None:
        """Record the score of a trial; None if it failed.

        For Optuna a failed point is a pruned trial, which counts as worse than all others: trials that failed are
        unknown to it, so it would propose their neighbours again and again.
        """
        if score is None:
            self.study.tell(self.open.pop(number), state=TrialState.PRUNED)
        else:
            self.study.tell(self.open.pop(number), score)

    def close(self) -> None:
        """Record that the trials that were interrupted have no result."""
        for trial in self.open.values():
            self.study.tell(trial, state=TrialState.FAIL)
        self.open.clear()


def make_distribution(one: Range | object) -> BaseDistribution:
    """Return Optuna's description of a range or of values."""
    if not isinstance(one, Range):
        return CategoricalDistribution(list(one))  # type: ignore[call-overload]
    kind = IntDistribution if one.is_whole else FloatDistribution
    return kind(one.low, one.high, log=one.is_log)  # type: ignore[arg-type]


def count_drawn(round_size: int) -> int:
    """Return the number of points that are drawn at random, as scores are known only after whole rounds.

    >>> count_drawn(4), count_drawn(5), count_drawn(6)
    (8, 5, 6)
    """
    return math.ceil(N_AT_RANDOM / round_size) * round_size


def format_own_value(value: str | float) -> str:
    """Return a value of the params file as it is written in a setting, with all of its digits."""
    return value if isinstance(value, str) else write_number(value)


def format_proposal(one: Range | object, value: object) -> str:
    """Return a proposed value as it is written in a setting."""
    return one.write(float(value)) if isinstance(one, Range) else str(value)  # type: ignore[arg-type]

"""Blocks of rows that are resampled together because they are not independent of each other.

All flights of one day share its weather, and all visits of one patient share the patient. A bootstrap that draws rows
one by one treats them as independent observations, and its intervals can be several times too narrow. The bootstrap
therefore draws whole blocks: days where rows have a time, groups where the split keeps them together, else single rows.
Days that are correlated with the days before them are drawn in runs, whose length follows from the correlation (Politis
and White, Automatic block-length selection for the dependent bootstrap, 2004; Patton, Politis and White, 2009).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from labkit.data.timeline import GROUP
from labkit.features.outcome_rates import PREDICT_AT
from labkit.params.tables import Data

DAY, ROW = "day", "row"
FEWEST_DAYS_FOR_RUNS = 8
"""Minimum number of days to estimate their correlation; fewer days are drawn one by one."""


@dataclass(frozen=True)
class Blocks:
    """Assignment of rows to the blocks that are drawn together.

    Attributes
    ----------
    codes
        Number of each row's block, 0 to n_blocks - 1, in chronological order if `unit` is `day`; shape (n_rows,).
    unit
        `row`, `day`, or the name of the column whose equal values form a block.
    length
        Number of consecutive blocks that are drawn as one run; 1 unless `unit` is `day`.
    """

    codes: np.ndarray
    unit: str = ROW
    length: int = 1

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(self.codes.max()) + 1 if len(self.codes) else 0

    @property
    def n_independent(self) -> float:
        """Effective number of independent observations: runs rather than days where days are correlated."""
        return self.n_blocks / self.length

    def take(self, rows: np.ndarray) -> "Blocks":
        """Return the blocks of a subset of rows, renumbered consecutively.

        Parameters
        ----------
        rows
            Positions of the rows.
        """
        _, codes = np.unique(self.codes[rows], return_inverse=True)
        return replace(self, codes=codes)

    def fit_length(self, losses: np.ndarray) -> "Blocks":
        """Return the blocks with the run length that the correlation between successive days requires.

        Parameters
        ----------
        losses
            One number per row, shape (n_rows,); the statistic that the intervals are computed for should depend on it.
        """
        if self.unit != DAY or self.n_blocks < FEWEST_DAYS_FOR_RUNS:
            return self
        means = np.bincount(self.codes, losses) / np.bincount(self.codes)
        if not np.isfinite(means).all() or np.ptp(means) < 1e-12 * max(1.0, float(np.abs(means).max())):
            return self
        # The correlation of independent days is normal with standard error 1 / sqrt(n): one in twenty exceeds this.
        if np.corrcoef(means[:-1], means[1:])[0, 1] < 1.645 / np.sqrt(self.n_blocks):
            return self
        from arch.bootstrap import optimal_block_length

        length = float(optimal_block_length(means)["circular"].iloc[0])
        return replace(self, length=int(np.clip(round(length), 1, self.n_blocks // 3)))

    def merge_runs(self) -> np.ndarray:
        """Return the number of each row's run of blocks, shape (n_rows,); such runs are nearly independent."""
        return self.codes // self.length

    def compute_error(self, values: np.ndarray) -> float:
        """Return the standard error of the mean of one number per row; NaN with fewer than two runs.

        Parameters
        ----------
        values
            One number per row, shape (n_rows,).
        """
        sums = np.bincount(self.merge_runs(), values - values.mean())
        n_runs = len(sums)
        return float(np.sqrt((sums**2).sum() * n_runs / (n_runs - 1)) / len(values)) if n_runs > 1 else np.nan

    def compute_reach(self, values: np.ndarray, confidence: float) -> float:
        """Return half the width of the t interval of the mean of one number per row; NaN with fewer than two runs.

        Parameters
        ----------
        values
            One number per row, shape (n_rows,).
        """
        return float(stats.t.ppf((1 + confidence) / 2, max(self.n_independent - 1, 1))) * self.compute_error(values)

    def draw_weights(self, *, seed: int) -> Iterator[np.ndarray]:
        """Yield an infinite sequence of bootstrap draws of `n_blocks` blocks each, with replacement.

        Days are treated as a circle when runs are drawn, so that each day is equally likely to be drawn (circular block
        bootstrap, Politis and Romano, 1992).

        Yields
        ------
        numpy.ndarray
            How often each row was drawn, integers of shape (n_rows,).
        """
        random, n_blocks = np.random.default_rng(seed), self.n_blocks
        n_runs = -(-n_blocks // self.length)
        while True:
            drawn = random.integers(0, n_blocks, n_runs)
            if self.length > 1:
                drawn = ((drawn[:, None] + np.arange(self.length)) % n_blocks).ravel()[:n_blocks]
            yield np.bincount(drawn, minlength=n_blocks)[self.codes]

    def __str__(self) -> str:
        """Return a description of the blocks.

        >>> str(Blocks(np.arange(1200))), str(Blocks(np.arange(61), "day", 3)), str(Blocks(np.arange(40), "patient"))
        ('1,200 rows', '61 days, in runs of 3', '40 values of patient')
        """
        if self.unit not in (DAY, ROW):
            return f"{self.n_blocks:,} value{'s' * (self.n_blocks != 1)} of {self.unit}"
        named = f"{self.n_blocks:,} {self.unit}{'s' * (self.n_blocks != 1)}"
        return f"{named}, in runs of {self.length}" if self.length > 1 else named


def make_rows(n_rows: int) -> Blocks:
    """Return one block per row, for independent rows."""
    return Blocks(np.arange(n_rows))


def find_blocks(rows: pd.DataFrame, data: Data) -> Blocks:
    """Return the blocks of rows that have to be drawn together; days are those of the experiment's time zone.

    Parameters
    ----------
    rows
        Clean rows, or features with their labels: see `labkit.data.timeline`.
    """
    if data.split.group is not None:
        groups = rows[GROUP] if GROUP in rows else rows[data.split.group]
        return Blocks(pd.factorize(groups, sort=True)[0], data.split.group)
    if PREDICT_AT in rows:
        times = pd.DatetimeIndex(rows[PREDICT_AT])
        days = times.tz_convert(data.time.zone if data.time else "UTC").tz_localize(None).floor("D")
        return Blocks(pd.factorize(days, sort=True)[0], DAY)
    return make_rows(len(rows))

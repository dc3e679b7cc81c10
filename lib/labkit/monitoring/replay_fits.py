"""The fits of a replay by the workers of a Dask cluster, ahead of the time at which they are needed.

A version depends on the time of its training only. Those that the policy `monthly` trains are known before the replay
begins, so workers fit them while it goes on; they are the versions of all other policies as well.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from sklearn.pipeline import Pipeline

from labkit.features.outcome_rates import OUTCOME_KNOWN_AT
from labkit.model.release import skops_file
from labkit.model.release.bundle import Release, load_release
from labkit.model.release.runtime import list_own_types
from labkit.model.training.refit import refit_model
from labkit.params.tables import Target
from labkit.run.capacity import count_cores
from labkit.run.cluster.address import open_cluster

VERSION = "the version of a worker"


@dataclass(frozen=True)
class FitWork:
    """What workers need: the release with the recipe, which they read from the checkout, and the rows.

    Attributes
    ----------
    rows
        Clean rows with `OUTCOME_KNOWN_AT`, in the order of the replay.
    """

    folder: Path
    rows: pd.DataFrame
    target: Target
    seed: int

    @cached_property
    def release(self) -> Release:
        """The release."""
        return load_release(self.folder)

    def fit(self, at: pd.Timestamp) -> bytes:
        """Return the recipe, fitted on the rows whose outcome is known at a time, as a model file.

        Dask could not send its classes, which may be those of the release's own code.
        """
        known = self.rows[(self.rows[OUTCOME_KNOWN_AT] <= at).to_numpy()]
        release = self.release
        with release.code.active():
            fitted = refit_model(release.pipeline, known, target=self.target, seed=self.seed)
            own = list_own_types(release.facts)
            return skops_file.dump_object(fitted, VERSION, own=own, carried=release.code.names)


def fit_version(work: FitWork, at: pd.Timestamp) -> bytes:
    """Fit the version of a time on a worker; see `FitWork.fit`."""
    return work.fit(at)


@contextmanager
def open_fits(
    release: Release, work: FitWork, address: str, times: Iterable[pd.Timestamp]
) -> Iterator[Callable[[pd.Timestamp], Pipeline]]:
    """Start fits on a cluster, and yield what waits for one of them, or for that of another time.

    Parameters
    ----------
    release
        The release of `work`, whose own code is active.
    address
        See `labkit.run.cluster.address.open_cluster`.
    times
        Times of the versions that will be needed, in this order.

    Raises
    ------
    ParamsError
        There is no such cluster.
    """
    with open_cluster(address, n_workers=count_cores()) as cluster:
        from labkit.run.cluster.ordered_calls import OrderedCalls

        calls = OrderedCalls(cluster, fit_version, work, unit="fit")
        started = {at: calls.submit(at) for at in times}

        def take(at: pd.Timestamp) -> Pipeline:
            content, own = (started.pop(at, None) or calls.submit(at))(), list_own_types(release.facts)
            fitted: Pipeline = skops_file.load_object(content, VERSION, own=own, carried=release.code.names)
            return fitted

        yield take

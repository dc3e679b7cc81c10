"""Effect sizes from counts are those of the rows."""

import numpy as np
import pytest
from labkit.monitoring import effects
from labkit.monitoring.reference_profile import Scan, make_cells
from labkit.monitoring.row_batches import Batch
from labkit.monitoring.window_counts import WindowCounter
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

RANDOM = np.random.default_rng(4)
SHAPES = {
    "normal": (RANDOM.normal(size=20_000), RANDOM.normal(0.05, 1, size=5_000)),
    "long tail": (RANDOM.lognormal(0, 1.5, 20_000), RANDOM.lognormal(0.1, 1.5, 5_000)),
    "mostly zero": tuple(
        RANDOM.exponential(size=n) * (RANDOM.uniform(size=n) > share) for n, share in ((20_000, 0.8), (5_000, 0.75))
    ),
    "few values": (RANDOM.integers(0, 5, 20_000).astype(float), RANDOM.integers(1, 6, 5_000).astype(float)),
    "beyond": (RANDOM.uniform(size=20_000), RANDOM.uniform(10, 11, size=5_000)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_wasserstein_distance_is_that_of_the_rows(name: str) -> None:
    before, after = SHAPES[name]
    scan = Scan()
    scan.add(Batch(len(before), {"x": before}), "UTC")
    cells = make_cells(scan, "x", "number")
    counter = WindowCounter({"x": cells})
    for number, values in enumerate((before, after)):
        counter.add({"x": values}, np.full(len(values), number))
    counts = counter.get_counts()
    first, second = counts.take(np.array([0])), counts.take(np.array([1]))
    [found] = effects.compute_wasserstein(
        second.cells["x"],
        second.tails["x"],
        first.cells["x"],
        first.tails["x"],
        edges=cells.edges,
        sd=cells.sd,
        is_discrete=cells.is_discrete,
    )
    exact = wasserstein_distance(before, after) / before.std()
    assert found == pytest.approx(exact, abs=0.003, rel=0.03)


def test_jensen_shannon_distance_is_that_of_scipy() -> None:
    first, second = RANDOM.integers(0, 50, (2, 6, 30))
    found = effects.compute_jensen_shannon(first, second)
    assert found == pytest.approx([jensenshannon(*pair) for pair in zip(first, second, strict=True)])


def test_share_changes_by_its_ratio_near_zero_and_by_its_difference_elsewhere() -> None:
    found = effects.compute_share_change(np.array([0.0, 0.01, 0.51]), np.array([0.0, 0.0, 0.50]))
    assert found.round(3).tolist() == [0.0, 0.1, 0.01]


def test_no_rows_are_infinitely_few() -> None:
    assert effects.compute_volume_change(np.array([0, 50, 100, 200]), np.full(4, 100)).round(2).tolist() == [
        np.inf, 0.69, 0.0, 0.69
    ]  # fmt: skip

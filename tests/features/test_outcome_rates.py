"""Histories: keys that a request may bring. What a history may know, and when, is in `test_leakage`."""

import tracemalloc

import numpy as np
import pytest
from labkit.features import outcome_rates


def test_one_long_key_does_not_make_all_others_long() -> None:
    times = np.array(["2024-01-01", "2024-01-02"], "datetime64[us]")
    state = outcome_rates.make_state(["k"])
    state = outcome_rates.add_outcomes(state, times.astype("int64"), np.ones(2), {"k": np.array(["a", "b"], object)})
    keys = np.array(["a", None, "b", "x" * 100_000, "never"] * 200, object)
    tracemalloc.start()
    index = outcome_rates.HistoryIndex(state, {"k": [7]})
    found = index.look_up({"k": keys.tolist()}, np.full(len(keys), times[1]))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert index.names == ["k_rate_7d", "k_count_7d"]
    assert found[1, :5].tolist() == [1, 0, 1, 0, 0]
    assert peak_bytes < 10_000_000


@pytest.mark.parametrize("n_outcomes", [0, 3, 400])
@pytest.mark.parametrize("scale", [1.0, 0.1], ids=["exact in float32", "not exact"])
def test_rates_are_those_of_the_outcomes_in_each_window(n_outcomes: int, scale: float) -> None:
    random = np.random.default_rng(0)
    days = {"all": [3], "one": [1, 7], "other": [2]}
    times = random.integers(0, 20, n_outcomes) * outcome_rates.DAY // 2
    outcomes = random.integers(0, 5, n_outcomes) * scale
    keys = {
        "all": [""] * n_outcomes,
        "one": random.choice(["a", "b", None], n_outcomes).tolist(),
        "other": random.choice(["b", "c"], n_outcomes).tolist(),
    }
    state = outcome_rates.add_outcomes(outcome_rates.make_state(days), times, outcomes, keys)
    index = outcome_rates.HistoryIndex(state, days)
    n_rows = outcome_rates.MANY_ROWS + 7
    asked_at = (random.integers(-3, 25, n_rows) * outcome_rates.DAY // 2).astype("datetime64[us]")
    asked_at[::11] = np.datetime64("NaT")
    asked = {name: random.choice(["a", "b", "", "never", None], n_rows).tolist() for name in days}
    together = index.look_up(asked, asked_at)
    for row in range(n_rows):
        alone = index.look_up({name: [found[row]] for name, found in asked.items()}, asked_at[row : row + 1])
        np.testing.assert_array_equal(together[:, row : row + 1], alone)
    for row in range(0, n_rows, 5):
        is_time, expected = not np.isnat(asked_at[row]), []
        at = asked_at[row].astype("int64") if is_time else np.int64(0)
        for name, lengths in days.items():
            own = np.array([key is not None and key == asked[name][row] for key in keys[name]], bool)
            for length in lengths:
                chosen = own & (times <= at) & (times >= at - length * outcome_rates.DAY) & is_time
                expected += [outcomes[chosen].mean() if chosen.any() else np.nan, chosen.sum()]
        np.testing.assert_allclose(together[:, row], np.array(expected, "float64"), rtol=1e-9)

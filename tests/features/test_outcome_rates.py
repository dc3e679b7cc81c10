"""Histories: keys that a request may bring. What a history may know, and when, is in `test_leakage`."""

import tracemalloc

import numpy as np
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

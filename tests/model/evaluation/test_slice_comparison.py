"""Groups of rows won and lost: what was put in is found, and equal models have none."""

import numpy as np
import pandas as pd
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.slice_comparison import compare_slices

N_ROWS = 600


def test_groups_won_and_lost_are_found_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"place": random.choice(list("ABC"), N_ROWS), "noise": random.normal(size=N_ROWS)})
    own, other = (np.abs(random.normal(size=N_ROWS)) for _ in range(2))
    own = own + 2 * (frame["place"] == "A").to_numpy()
    other = other + 2 * (frame["place"] == "B").to_numpy()
    first, second = (Predictions(np.zeros(N_ROWS), errors) for errors in (own, other))
    found = compare_slices(frame, first, second, confidence=0.95, blocks=make_rows(N_ROWS))
    assert sorted(found["slice"]) == ["place = A", "place = B"]
    gains = found.set_index("slice")
    assert gains.loc["place = A", "high"] < -1 < 1 < gains.loc["place = B", "low"]
    assert compare_slices(frame, first, first, confidence=0.95, blocks=make_rows(N_ROWS)).empty

"""The loss of single holdout rows, with which the errors of later rows are compared group by group.

A release holds them for a sample of rows: the loss, the number of the row's day or group, and of each column only which
condition of `labkit.monitoring.reference_performance` the row meets. It holds no value, no time and no identifier.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labkit.errors import ModelError
from labkit.model.evaluation.blocks import DAY, Blocks
from labkit.model.release.runtime import LOSSES


@dataclass(frozen=True)
class ReferenceLosses:
    """Losses of holdout rows.

    Attributes
    ----------
    losses
        Shape (n_rows,).
    codes
        Index of the condition that each row meets, their number if it meets none, by column; shape (n_rows,).
    blocks
        Days or groups that rows share.
    """

    losses: np.ndarray
    codes: Mapping[str, np.ndarray]
    blocks: Blocks


def make_loss_files(
    losses: np.ndarray, codes: Mapping[str, np.ndarray], blocks: Blocks, *, most_rows: int, seed: int
) -> dict[str, bytes]:
    """Return the file of a release that holds the losses of holdout rows, by name; none if it is to hold no row.

    Parameters
    ----------
    losses, codes, blocks
        Of all holdout rows; see `ReferenceLosses`.
    most_rows
        If there are more, as many are drawn at random.
    """
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(losses))[:most_rows]
    if not len(drawn):
        return {}
    taken = blocks.take(drawn)
    # Groups are numbered in the order of their names, which need not be known.
    numbers = taken.codes if blocks.unit == DAY else random.permutation(taken.n_blocks)[taken.codes]
    order = np.argsort(numbers, kind="stable")
    arrays = {
        "losses": losses[drawn][order].astype("float32"),
        "blocks": numbers[order].astype("int32"),
        "length": np.array(blocks.length),
        "unit": np.frombuffer(blocks.unit.encode(), "uint8"),
        "columns": np.frombuffer("\0".join(codes).encode(), "uint8"),
        "codes": np.array([one[drawn][order] for one in codes.values()], "uint8").reshape(len(codes), len(drawn)),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return {LOSSES: stream.getvalue()}


def load_losses(release: Path) -> ReferenceLosses | None:
    """Load the losses of holdout rows of a verified release; None if it holds none.

    Raises
    ------
    ModelError
        The file is damaged.
    """
    path = release / LOSSES
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            unit, names = (arrays[name].tobytes().decode() for name in ("unit", "columns"))
            blocks = Blocks(arrays["blocks"].astype("int64"), unit, int(arrays["length"]))
            codes = dict(zip(names.split("\0") if names else [], arrays["codes"].astype("int64"), strict=True))
            found = ReferenceLosses(arrays["losses"].astype("float64"), codes, blocks)
    except Exception as error:  # readers of archives raise errors of many types
        raise ModelError(f"{path}: not the losses of holdout rows ({error}): release the model again") from error
    if len({len(found.losses), len(blocks.codes), *map(len, codes.values())}) > 1:
        raise ModelError(f"{path}: its columns have different lengths: release the model again")
    return found

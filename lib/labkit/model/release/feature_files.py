"""Files of fitted row features: plain data as JSON, arrays beside it, and the user's own transformers among these.

Transformers are stored in the skops format, which runs no code when it is read and accepts only types that are known
or that the params name.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from labkit.features.row_computation import RowComputation
from labkit.storage.npz import load_arrays

TRANSFORMERS = "transformers"
"""Name of the array that holds the transformers, as the bytes of a skops file."""

Computation = TypeVar("Computation", bound=RowComputation)


def make_arrays(
    features: RowComputation, *, own: Collection[str] = (), carried: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the arrays that complete `RowComputation.to_json`.

    Parameters
    ----------
    features
        Fitted features.
    own, carried
        Types of the user's own that the transformers may contain; see `labkit.model.release.skops_file.save_model`.

    Raises
    ------
    ModelError
        A transformer cannot be saved, or contains a type that is not known.
    """
    arrays = features.state_arrays()
    if features.transformers_:
        # Imported here: features without transformers need no scikit-learn where they are only computed.
        from labkit.model.release.skops_file import dump_object

        content = dump_object(dict(features.transformers_), "features.transformers", own=own, carried=carried)
        arrays[TRANSFORMERS] = np.frombuffer(content, "uint8")
    return arrays


def load_features(
    content: Mapping[str, Any],
    arrays_path: Path,
    kind: type[Computation],
    *,
    own: Collection[str] = (),
    carried: Collection[str] | None = None,
) -> Computation:
    """Return fitted features.

    Parameters
    ----------
    content
        Result of `RowComputation.to_json`.
    arrays_path
        File of the arrays; there need not be one.
    kind
        Class of the features.
    own, carried
        See `make_arrays`.

    Raises
    ------
    ModelError
        A transformer contains a type that is not known.
    """
    arrays = load_arrays(arrays_path) if arrays_path.is_file() else {}
    packed = arrays.pop(TRANSFORMERS, None)
    features = kind.from_json(content, arrays)
    if packed is not None:
        from labkit.model.release.skops_file import load_object

        features.transformers_ = load_object(packed.tobytes(), str(arrays_path), own=own, carried=carried)
    return features

"""Model files in the skops format: the same model gives the same bytes, and loading runs no code from the file.

No other module uses skops. A skops file is an archive of arrays and a JSON tree that names types. Only the types listed
here are accepted, and those that the params or the release name; if the release does, only estimators of installed
libraries and what is in packages that it carries. So opening a file runs no code of its author but such packages.
"""

import importlib
import io
import json
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from labkit.errors import MissingCodeError, MissingDataError, ModelError, get_first_line, list_briefly
from labkit.params.trusted_types import is_estimator, is_standard
from labkit.renamed import list_old_types
from labkit.storage.atomic import write_bytes

TYPES = (
    "collections.OrderedDict",
    "labkit.features.row_features.RowFeatures",
    "labkit.model.estimators.calibrated.Calibrated",
    "labkit.model.estimators.class_codes.ClassCodes",
    "labkit.model.estimators.preprocessing.AtMost",
    "labkit.model.estimators.target_transform.OnScale",
    "labkit.model.estimators.transformers.Float32TargetEncoder",
    "labkit.model.estimators.transformers.RangeClipper",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
"""Types that a labkit model may contain in addition to those that skops trusts by default."""
TRUSTED = (*TYPES, *list_old_types(TYPES))
SCHEMA = "schema.json"
EPOCH = (1980, 1, 1, 0, 0, 0)


def prepare() -> None:
    """Import skops ahead of its use, because it takes a second; code that only refers to models does not need it."""
    import skops.io  # noqa: F401


def save_model(path: Path, model: Any, *, own: Collection[str] = (), carried: Collection[str] | None = None) -> None:
    """Write a fitted pipeline; the same pipeline gives the same bytes, in any process.

    Parameters
    ----------
    own
        Types of the user's own that the params name; see `labkit.model.release.own_code.list_named_types`.
    carried
        Packages that the release carries, where the release names the types; None where the params do.

    Raises
    ------
    ModelError
        The pipeline contains a type that `load_model` would reject.
    """
    write_bytes(path, dump_object(model, str(path), own=own, carried=carried))


def dump_object(model: Any, where: str, *, own: Collection[str] = (), carried: Collection[str] | None = None) -> bytes:
    """Return the content of a skops file; see `save_model`."""
    import skops.io

    try:
        content = skops.io.dumps(model)
    except Exception as error:  # the error depends on what cannot be written
        raise ModelError(
            f"{where}: cannot be saved by skops ({get_first_line(error)}): keep arrays and numbers"
        ) from error
    remedy = "keep arrays and numbers, or name the types in training.trusted_types if you trust them"
    check_types(skops.io.get_untrusted_types(data=content), where, own, carried, remedy=remedy)
    return make_canonical(content)


def measure_parts(model: Any) -> dict[str, int]:
    """Return the compressed size in bytes of each part of a fitted pipeline, the largest first.

    Parts are the steps of the pipeline and, for a blend, each of its members.
    """
    import skops.io
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    parts = dict(model.steps)
    inner = getattr(model[-1], "estimator", model[-1])
    if isinstance(inner, VotingClassifier | VotingRegressor):
        del parts[model.steps[-1][0]]
        parts |= {name: member for (name, _), member in zip(inner.estimators, inner.estimators_, strict=True)}
    sizes = {name: len(make_canonical(skops.io.dumps(part))) for name, part in parts.items()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def load_model(path: Path, *, own: Collection[str] = (), carried: Collection[str] | None = None) -> Any:
    """Load a fitted pipeline.

    Parameters
    ----------
    own, carried
        See `save_model`.

    Raises
    ------
    MissingDataError
        The file does not exist.
    MissingCodeError
        A package that the model needs is not installed.
    ModelError
        The file is damaged, or contains a type that is not on the list.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not found: run the stage that writes it")
    return load_object(path.read_bytes(), str(path), own=own, carried=carried)


def load_object(
    content: bytes, where: str, *, own: Collection[str] = (), carried: Collection[str] | None = None
) -> Any:
    """Return what a skops file contains; see `load_model`."""
    import skops.io

    try:
        check_types(skops.io.get_untrusted_types(data=content), where, own, carried)
        return skops.io.loads(content, trusted=[*TRUSTED, *own])
    except ModelError:
        raise
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        hint = f"install it, e.g. `uv pip install {package}`; the release's requirements.txt has its version"
        raise MissingCodeError(f"{where}: the model needs {package}, which is not installed: {hint}") from error
    except Exception as error:  # the error of a damaged archive depends on where the damage is
        raise ModelError(f"{where}: not a model file, or damaged ({error}): run the stage that writes it") from error


def find_untrusted(model: Any, *, own: Collection[str] = ()) -> list[str]:
    """Return the types in a fitted estimator that `load_model` would reject, sorted.

    Parameters
    ----------
    own
        See `save_model`.

    Raises
    ------
    ModelError
        skops cannot save the estimator.
    """
    import skops.io

    try:
        types = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except Exception as error:  # an object that skops cannot save raises errors of many types
        raise ModelError(f"it cannot be saved by skops: {error}") from error
    return sorted({*types} - {*TRUSTED, *own})


def check_types(
    types: Collection[str], where: str, own: Collection[str] = (), carried: Collection[str] | None = None,
    *, remedy: str = "do not use the file",
) -> None:  # fmt: skip
    """Raise ModelError if a type is neither on the list nor acceptable among the user's own; see `save_model`."""
    named = {kind for kind in {*types} & {*own} if not is_standard(kind)}
    if carried is not None:
        # The author of the file may have written the release's list too, so of libraries only estimators are accepted.
        named = {kind for kind in named if kind.partition(".")[0] in carried or is_estimator(find_named(kind), kind)}
    foreign = sorted({*types} - {*TRUSTED, *named})
    if foreign:
        raise ModelError(f"{where}: holds types that are not trusted: {list_briefly(foreign)}: {remedy}")


def find_named(kind: str) -> Any:
    """Return what has that dotted name in an installed package; None if there is nothing."""
    module, _, name = kind.rpartition(".")
    return getattr(importlib.import_module(module), name, None)


def clear_padding(content: bytes, ending: str) -> bytes:
    """Return a saved array with the padding between the fields of its records set to zero."""
    # The nodes of a tree have padding. scikit-learn clears it when it grows a tree but not when it loads one, so the
    # padding of a loaded forest contains arbitrary memory.
    if ending != "npy":
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    written = io.BytesIO()
    np.save(written, clean, allow_pickle=False)
    return written.getvalue()


def make_canonical(archived: bytes) -> bytes:
    """Return a skops archive with fixed values in place of its varying parts: addresses, times and padding."""
    # skops writes an array once per reference, and all members of a blend twice; here equal files are stored only once.
    names: dict[str, str] = {}
    same: dict[str, str] = {}

    def renumber(node: Any) -> Any:
        if isinstance(node, list):
            return [renumber(item) for item in node]
        if not isinstance(node, dict):
            return node
        changed: dict[str, Any] = {}
        for key, value in node.items():
            if key == "__id__":
                changed[key] = int(names.setdefault(str(value), str(len(names) + 1)))
            elif key == "file" and isinstance(value, str):
                stem, dot, ending = same[value].partition(".")
                changed[key] = names.setdefault(stem, str(len(names) + 1)) + dot + ending
            else:
                changed[key] = renumber(value)
        return changed

    with zipfile.ZipFile(io.BytesIO(archived)) as archive:
        first: dict[bytes, str] = {}
        for name in archive.namelist():
            if name != SCHEMA:
                same[name] = first.setdefault(clear_padding(archive.read(name), name.rpartition(".")[2]), name)
        schema = renumber(json.loads(archive.read(SCHEMA)))
        files = {}
        for content, name in first.items():
            stem, dot, ending = name.partition(".")
            files[names.get(stem, stem) + dot + ending] = content
    files[SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    canonical = io.BytesIO()
    with zipfile.ZipFile(canonical, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), files[name], zipfile.ZIP_DEFLATED, 6)
    return canonical.getvalue()

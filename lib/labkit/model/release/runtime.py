"""Inference with a released model; needs numpy and onnxruntime but not pandas or scikit-learn.

If the user's own transformers are part of the features, scikit-learn and skops are needed too: `needs` of `own_code` in
`release.json` says so.

The manifest contains the digest of every file, which is verified before the file is opened; a file that is not listed,
or that is a link, is rejected. See `labkit.model.release.bundle` for how a release is written.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labkit.errors import DataError, ModelError, list_briefly
from labkit.features.arrays import make_objects
from labkit.features.main_table import MainTable
from labkit.features.outcome_rates import State
from labkit.features.row_computation import RowComputation
from labkit.model.onnx.session import Graph
from labkit.model.release.feature_files import Computation, load_features
from labkit.model.release.main_table_files import MAIN_TABLE, MAIN_TABLE_ROWS, load_main_table
from labkit.model.release.release_code import ReleaseCode, list_wheels
from labkit.storage.atomic import parse_json
from labkit.storage.digests import compute_digest

MANIFEST = "manifest.json"
GRAPH, PIPELINE, FEATURES, FACTS = "model.onnx", "model.skops", "row_features.json", "release.json"
STATE = "row_features.npz"
CARD, CONTRACT, REQUIREMENTS, EXAMPLE = "MODEL_CARD.md", "contract.json", "requirements.txt", "input_example.json"
PROFILE, PROFILE_ARRAYS = "reference_profile.json", "reference_profile.npz"
"""What monitoring compares with, see `labkit.monitoring.reference_profile`; releases made earlier have none."""
PERFORMANCE = "reference_performance.json"
"""How good it was on the holdout, see `labkit.monitoring.reference_performance`; releases made earlier have none."""
LOSSES = "reference_losses.npz"
"""Losses of holdout rows, see `labkit.monitoring.reference_losses`; not all have them."""
BACKGROUND = "background.json"
"""Training rows that explanations compare with, see `labkit.model.explanation.background`; not all have."""
EVALUATED = "evaluated_model.skops"
"""The model whose metrics are those of the release, if the published one was refitted on all rows."""
FILES = (
    MANIFEST, GRAPH, PIPELINE, FEATURES, STATE, FACTS, CARD, CONTRACT, REQUIREMENTS, EXAMPLE, PROFILE, PROFILE_ARRAYS,
    MAIN_TABLE, MAIN_TABLE_ROWS, BACKGROUND, PERFORMANCE, LOSSES, EVALUATED,
)  # fmt: skip


@dataclass(frozen=True)
class Runtime:
    """An opened release that has an ONNX graph; see `load_runtime`.

    Attributes
    ----------
    facts
        See `labkit.model.release.bundle.Release`.
    main_table
        How rows of the main table become rows with the columns of the model; None if the release does not say.
    """

    facts: dict[str, Any]
    row_features: RowComputation
    graph: Graph
    code: ReleaseCode = field(default_factory=ReleaseCode)
    main_table: MainTable | None = None

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Predict rows given as dictionaries; an absent column is an error, None is a missing value.

        Rows have the columns of the model or, all of them, those of the main table.

        Returns
        -------
        numpy.ndarray
            Classification: probabilities, shape (n_rows, n_classes), in the order of `facts["classes"]`. Regression:
            shape (n_rows,).

        Raises
        ------
        DataError
            A column is missing, or a value is of the wrong kind.
        """
        main = self.main_table if self.main_table and rows and self.main_table.fits(rows[0]) else None
        names = main.columns if main else self.row_features.inputs_
        for number, row in enumerate(rows, start=1):
            if missing := [name for name in names if name not in row]:
                raise DataError(f"row {number}: columns missing: {list_briefly(missing)}")
        columns = {name: make_objects([row[name] for row in rows]) for name in names}
        return self.predict_columns(main.join(columns) if main else columns)

    def predict_columns(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predict rows given as raw columns, arrays of shape (n_rows,); otherwise as `predict`."""
        with self.code.active():
            return self.graph.predict(columns)

    def name_predictions(self, predicted: np.ndarray) -> dict[str, Any]:
        """Return predictions with names, as plain data.

        For classes: `predictions`, by the threshold chosen from costs if there is one, else the most probable class;
        `probabilities`, by class; and `threshold`. For numbers: `predictions`.
        """
        classes = self.facts.get("classes")
        if not classes:
            return {"predictions": predicted.tolist()}
        threshold = self.facts.get("threshold")
        if threshold is None:
            chosen = [classes[code] for code in predicted.argmax(axis=1).tolist()]
        else:
            place = classes.index(self.facts["positive"])
            by_result = (classes[1 - place], classes[place])
            chosen = [by_result[is_positive] for is_positive in (predicted[:, place] >= threshold).tolist()]
        names = [str(label) for label in classes]
        made: dict[str, Any] = {
            "predictions": chosen,
            "probabilities": [dict(zip(names, row, strict=True)) for row in predicted.tolist()],
        }
        return made if threshold is None else {**made, "threshold": threshold}

    def replace_outcomes(self, state: State) -> None:
        """Replace the outcomes that the histories count."""
        self.graph.replace_outcomes(state)

    def check_features(self, columns: Mapping[str, np.ndarray]) -> None:
        """Raise DataError if compiled features of some rows are not those of training."""
        if self.graph.compiled is not None:
            with self.code.active():
                self.graph.compiled.check(columns)


def load_runtime(folder: Path, *, digest: str | None = None, is_installed: bool = False) -> Runtime:
    """Verify a release and open it for prediction with its ONNX graph.

    Parameters
    ----------
    digest
        Digest recorded when the release was published; None if the folder itself is trusted.
    is_installed
        Whether an installer put the release in place: some link files from their cache, so hard links are accepted.

    Raises
    ------
    ModelError
        The release fails `check_release` or `load_facts`, or it has no graph.
    """
    check_release(folder, digest=digest, most_links=None if is_installed else 1)
    if not (folder / GRAPH).is_file():
        raise ModelError(f"{folder}: has no {GRAPH}: open it with labkit.model.release.bundle.load_release")
    facts = load_facts(folder)
    code, row_features = load_row_features(folder, RowComputation, facts)
    graph = Graph((folder / GRAPH).read_bytes(), row_features)
    return Runtime(facts, row_features, graph, code, load_main_table(folder))


def load_row_features(
    folder: Path, kind: type[Computation], facts: Mapping[str, Any]
) -> tuple[ReleaseCode, Computation]:
    """Load the row features of a release that has been verified, and the user's own packages that they need."""
    content, code = json.loads((folder / FEATURES).read_text(encoding="utf-8")), ReleaseCode(list_wheels(folder))
    code.check_complete(content.get("columns") or {}, folder)
    with code.active():
        own = list_own_types(facts)
        return code, load_features(content, folder / STATE, kind, own=own, carried=code.names)


def load_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a release that has been verified.

    Raises
    ------
    ModelError
        They are no mapping, or what they say of the user's own code is not in the form in which labkit writes it.
    """
    try:
        facts: dict[str, Any] = parse_json((folder / FACTS).read_bytes())
        own = facts.get("own_code", {})
        listed = [own.get("trusted_types", []), own.get("needs", []), [*own.get("packages", {})]]
        is_valid = all(isinstance(names, list) and all(isinstance(one, str) for one in names) for names in listed)
    except (ValueError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise ModelError(f"{folder / FACTS}: not written by labkit, or damaged: do not use this release")
    return facts


def list_own_types(facts: Mapping[str, Any]) -> list[str]:
    """Return the types of the user's own that a release names, which its model may contain if they are acceptable."""
    return list((facts.get("own_code") or {}).get("trusted_types", []))


def compute_release_digest(folder: Path) -> str:
    """Return the digest that identifies a release: that of its manifest, which contains the digests of all files."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def is_unlinked_file(path: Path, most_links: int | None) -> bool:
    """Return whether a path is a file, no link to one, with at most that many hard links."""
    if path.is_symlink() or not path.is_file():
        return False
    return most_links is None or path.stat().st_nlink <= most_links


def check_release(folder: Path, *, digest: str | None = None, most_links: int | None = 1) -> Path:
    """Return the folder if every file matches the manifest, and the manifest matches the digest if one is given.

    Parameters
    ----------
    most_links
        Largest number of hard links to a file: who holds another one could change it after it was verified. None
        accepts any.

    Raises
    ------
    ModelError
        A file is missing, changed, a link, or not listed. No file has been loaded at that point.
    """
    manifest = folder / MANIFEST
    if not is_unlinked_file(manifest, most_links):
        raise ModelError(f"{folder}: no {MANIFEST}: not a release; run the stage `deploy`")
    if digest is not None and compute_release_digest(folder) != digest:
        raise ModelError(f"{folder}: the manifest is not the one that was published: do not use this release")
    listed = load_manifest(manifest)
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(found - set(listed)):
        raise ModelError(f"{folder}: {name} is not in the manifest: do not use this release")
    for name, sha256 in sorted(listed.items()):
        path = folder / name
        if path.parent != folder or not is_unlinked_file(path, most_links):
            raise ModelError(f"{path}: missing, or a link: do not use this release")
        if compute_digest(path) != sha256:
            raise ModelError(f"{path}: changed since it was released: do not use this release")
    return folder


def load_manifest(path: Path) -> dict[str, str]:
    """Load a manifest, the SHA-256 of each file by name; raise ModelError unless it lists all that a release needs."""
    try:
        listed = {str(name): str(entry["sha256"]) for name, entry in parse_json(path.read_bytes()).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path}: not a manifest ({error}): do not use this release") from error
    for name in sorted({PIPELINE, FEATURES, FACTS} - set(listed)):
        raise ModelError(f"{path}: does not list {name}: do not use this release")
    return listed

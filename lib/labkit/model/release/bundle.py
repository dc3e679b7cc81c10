"""Writing and opening of releases, the folders of files in which models are published.

A release is deterministic: the same run gives the same release, byte for byte. See `labkit.model.release.runtime` for
the part that a service needs.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import ModelError
from labkit.features.main_table import MainTable
from labkit.features.outcome_rates import State
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from labkit.model.onnx.parity import Parity, prove_parity
from labkit.model.onnx.session import Graph
from labkit.model.release import feature_files, skops_file
from labkit.model.release.main_table_files import load_main_table
from labkit.model.release.own_code import OwnCode, build_wheels, list_libraries
from labkit.model.release.release_code import ReleaseCode
from labkit.model.release.runtime import (
    CARD,
    CONTRACT,
    EVALUATED,
    EXAMPLE,
    FACTS,
    FEATURES,
    FILES,
    GRAPH,
    MANIFEST,
    PIPELINE,
    REQUIREMENTS,
    STATE,
    check_release,
    compute_release_digest,
    list_own_types,
    load_facts,
    load_row_features,
)
from labkit.storage.atomic import atomic_folder, copy_file, write_bytes, write_json, write_text
from labkit.storage.digests import compute_digest
from labkit.storage.npz import save_arrays
from labkit.storage.wheel import WHEEL

REQUIRED = ("lightgbm", "numpy", "onnxruntime", "pandas", "scikit-learn", "skops")
EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Release:
    """An opened release.

    Attributes
    ----------
    facts
        `experiment`, `task`, `classes`, `positive`, `target`, `estimator`, `metric`, `metrics`, `onnx`; `question` and
        the `labels` of classes, which earlier releases lack; `own_code`, if the model needs code of the user's own, see
        `labkit.model.release.own_code.OwnCode.describe`; `refit`, if the model was refitted on all rows, see
        `labkit.model.evaluation.refit_stability`.
    code
        The user's own packages that the release carries.
    main_table
        How rows of the main table become rows with the columns of the model; None if the release does not say.
    """

    folder: Path
    facts: dict[str, Any]
    row_features: RowFeatures
    graph: Graph | None
    code: ReleaseCode = field(default_factory=ReleaseCode)
    main_table: MainTable | None = None

    @cached_property
    def pipeline(self) -> Any:
        """The scikit-learn pipeline, loaded on first use; what is the user's own in it is used in `code.active()`."""
        with self.code.active():
            return skops_file.load_model(
                self.folder / PIPELINE, own=list_own_types(self.facts), carried=self.code.names
            )

    @property
    def is_refitted(self) -> bool:
        """Whether the published model was refitted on all rows after its recipe had been evaluated."""
        return (self.folder / EVALUATED).is_file()

    @cached_property
    def evaluated_pipeline(self) -> Any:
        """The pipeline whose metrics are those of the release: before it was refitted, if it was; see `pipeline`."""
        if not self.is_refitted:
            return self.pipeline
        with self.code.active():
            return skops_file.load_model(
                self.folder / EVALUATED, own=list_own_types(self.facts), carried=self.code.names
            )

    def predict_as_evaluated(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict raw rows with the model whose metrics are those of the release; otherwise as `predict`."""
        if not self.is_refitted:
            return self.predict(frame)
        with self.code.active():
            return self.run_pipeline(self.evaluated_pipeline, frame)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict raw rows: probabilities, shape (n_rows, n_classes), or numbers, shape (n_rows,).

        The ONNX graph is run if the release has one, else the pipeline.

        Raises
        ------
        DataError
            A column is missing or of the wrong kind.
        """
        with self.code.active():
            if self.graph is not None:
                return self.graph.predict(take_columns(frame, self.row_features.inputs_))
            return self.run_pipeline(self.pipeline, frame)

    def run_pipeline(self, pipeline: Any, frame: pd.DataFrame) -> np.ndarray:
        """Predict raw rows with a pipeline of this release, in `code.active()`."""
        is_classifier = self.facts["task"] == "classification"
        return np.asarray(pipeline.predict_proba(frame) if is_classifier else pipeline.predict(frame))

    def predict_columns(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predict rows given as raw columns, arrays of shape (n_rows,); otherwise as `predict`."""
        if self.graph is None:
            return self.predict(pd.DataFrame(columns))
        with self.code.active():
            return self.graph.predict(columns)

    def replace_outcomes(self, state: State) -> None:
        """Replace the outcomes that the histories count in predictions."""
        if self.graph is not None:
            self.graph.replace_outcomes(state)
            return
        self.row_features.state_ = state
        self.pipeline[0].state_ = state

    def prove_parity(self, pipeline: Any, frame: pd.DataFrame, *, tolerance: float) -> Parity:
        """Compare the graph's predictions with those of the pipeline on raw rows.

        Raises
        ------
        ModelError
            The release has no graph.
        """
        if self.graph is None:
            raise ModelError(f"{self.folder}: has no {GRAPH}, so there is nothing to compare")
        return prove_parity(pipeline, self.graph, frame, tolerance=tolerance)


def write_release(
    folder: Path,
    model: Any,
    *,
    graph: bytes | None,
    facts: Mapping[str, Any],
    contract: str,
    card: str,
    example: pd.DataFrame,
    code: OwnCode | None = None,
) -> str:
    """Write a release to a folder, replacing an earlier release, and return its digest.

    Parameters
    ----------
    graph
        The verified ONNX graph, or None.
    facts
        See `Release`.
    contract
        The contract of the joined raw columns, as JSON.
    card
        The model card, as Markdown.
    example
        Raw rows; a few of them become part of the release, on all of them the user's own code is checked once more.
    code
        The user's own packages that the model needs; see `labkit.model.release.own_code.find_code`.

    Raises
    ------
    ModelError
        The folder contains a file that is not part of a release, or the model contains a type that may not be released.
    DataError
        The user's own code does not compute each row by itself.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in FILES and path.suffix != WHEEL:
            raise ModelError(f"{folder}: {path.name} is not part of a release: remove it")
    model[0].check_own_code(take_columns(example, model[0].inputs_))
    with atomic_folder(folder) as beside:
        own = code or OwnCode()
        write_files(beside, model, graph=graph, facts=facts, contract=contract, card=card, example=example, code=own)
    return compute_release_digest(folder)


def write_files(
    folder: Path,
    model: Any,
    *,
    graph: bytes | None,
    facts: Mapping[str, Any],
    contract: str,
    card: str,
    example: pd.DataFrame,
    code: OwnCode,
) -> None:
    """Write the files of a release to an empty folder, the manifest last."""
    skops_file.save_model(folder / PIPELINE, model, own=code.trusted_types, carried=code.packages)
    wheels = build_wheels(code.packages, folder)
    if graph is not None:
        write_bytes(folder / GRAPH, graph)
    write_json(folder / FEATURES, model[0].to_json())
    if arrays := feature_files.make_arrays(model[0], own=code.trusted_types, carried=code.packages):
        save_arrays(folder / STATE, arrays)
    own_code = code.describe(wheels)
    write_json(folder / FACTS, {**facts, "own_code": own_code} if own_code else facts)
    write_text(folder / CONTRACT, contract)
    write_text(folder / CARD, card)
    requirements = list_requirements(code.trusted_types, packages=code.packages, needs=code.needs)
    write_text(folder / REQUIREMENTS, "".join(f"{line}\n" for line in requirements))
    write_json(
        folder / EXAMPLE, json.loads(example.head(EXAMPLE_ROWS).to_json(orient="split", index=False, date_format="iso"))
    )
    write_manifest(folder)


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files in a folder, which is the last file of a release."""
    files = {path.name: {"sha256": compute_digest(path), "bytes": path.stat().st_size} for path in folder.iterdir()}
    write_json(folder / MANIFEST, files)


def extend_release(folder: Path, files: Mapping[str, bytes]) -> str:
    """Add files to a release that has just been written, and return the new digest.

    Parameters
    ----------
    files
        Content by name, see `labkit.monitoring.profile_files`, `labkit.model.explanation.background`,
        `labkit.model.release.main_table_files` and `make_evaluated_file`.
    """
    with atomic_folder(folder) as beside:
        for path in folder.iterdir():
            if path.name != MANIFEST:
                copy_file(path, beside / path.name)
        for name, content in files.items():
            write_bytes(beside / name, content)
        write_manifest(beside)
    return compute_release_digest(folder)


def make_evaluated_file(evaluated: Any, code: OwnCode) -> dict[str, bytes]:
    """Return the file of a release with the evaluated model, whose metrics are those of the refitted model beside it.

    Parameters
    ----------
    evaluated
        The fitted pipeline; None if the released model was not refitted.
    code
        See `write_release`.
    """
    if evaluated is None:
        return {}
    return {EVALUATED: skops_file.dump_object(evaluated, EVALUATED, own=code.trusted_types, carried=code.packages)}


def list_requirements(
    types: Iterable[str] = (), *, packages: Collection[str] = (), needs: Iterable[str] = ()
) -> list[str]:
    """Return the pinned requirements for loading a model, except labkit itself.

    Parameters
    ----------
    types
        Types that the model may hold because the params trust them: their libraries, such as XGBoost, are needed too,
        and those that the modules of the user's own types import.
    packages
        Packages that the release carries, which need not be installed.
    needs
        See `labkit.model.release.own_code.OwnCode`.

    Raises
    ------
    ModelError
        The version of a package cannot be read.
    """
    imported = list_libraries(kind.rpartition(".")[0] for kind in types)
    added = {*needs, *imported} - {*REQUIRED, *packages}
    versions = {name: version(name) for name in (*REQUIRED, *sorted(added))}
    for name, found in versions.items():
        if not found:  # Python reports no version, and no error, if a package's metadata is unreadable
            raise ModelError(f"{name}: its installed version cannot be read: install it again")
    return [f"{name}=={found}" for name, found in versions.items()]


def load_release(folder: Path, *, digest: str | None = None) -> Release:
    """Check a release and open it.

    Parameters
    ----------
    digest
        Digest recorded when the release was published; None if the folder itself is trusted.

    Raises
    ------
    ModelError
        See `check_release` and `load_facts`.
    """
    check_release(folder, digest=digest)
    facts = load_facts(folder)
    code, row_features = load_row_features(folder, RowFeatures, facts)
    path = folder / GRAPH
    session = Graph(path.read_bytes(), row_features) if path.is_file() else None
    return Release(folder, facts, row_features, session, code, load_main_table(folder))

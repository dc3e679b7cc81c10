"""Artifacts that stages pass on: the name, path, format and checks of each.

This is the only list of artifacts. Each format is written by the package that owns it.
"""

from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import DataError
from labkit.params.experiment import Params
from labkit.run.notebook.step import Catalogue
from labkit.run.pipeline.outputs import check_outputs
from labkit.storage.atomic import parse_json, write_json

PLACES = {
    "raw": "raw",
    "notes": "raw/notes.json",
    "profile": "eda/profile.parquet",
    "findings": "eda/findings.parquet",
    "clean_training": "clean/training.parquet",
    "clean_validation": "clean/validation.parquet",
    "clean_holdout": "clean/holdout.parquet",
    "clean_aside": "clean/aside.parquet",
    "split": "clean/split.json",
    "features_training": "features/training.parquet",
    "features_validation": "features/validation.parquet",
    "features_holdout": "features/holdout.parquet",
    "features_aside": "features/aside.parquet",
    "row_features": "features/row_features.json",
    "feature_checks": "features/checks.json",
    "model": "model/model.skops",
    "leaderboard": "model/leaderboard.parquet",
    "trials": "model/trials.parquet",
    "choice": "model/choice.json",
    "metrics": "evaluation/metrics.json",
    "evaluation": "evaluation/evaluation.json",
    "gate": "evaluation/gate.json",
    "predictions": "evaluation/predictions.parquet",
    "plots": "evaluation/plots",
    "release": "release",
    "importance": "explanation/importance.parquet",
    "explanation": "explanation/explanation.json",
}
CHECKED = ("split", "feature_checks", "choice", "evaluation", "explanation")
"""Artifacts that hold results of checks, in the order of their stages."""
CONTRACT = "contract.json"
ARRAYS = ".npz"
"""Ending of the file next to `row_features` that holds the observed outcomes."""


def load_artifact(name: str, path: Path, params: Params) -> Any:
    """Read and validate an artifact; see `labkit.run.notebook.step.Step.load`.

    The bytes of files written by a stage are verified before they are opened; those of files written by hand are not.

    Parameters
    ----------
    name
        Name of the artifact, a key of `PLACES`.
    path
        Its file or folder.
    params
        Params of the experiment.

    Returns
    -------
    object
        A table, a model, row features or plain data; for `raw`, a dict of tables; for `release`, its path.

    Raises
    ------
    DataError
        The artifact is damaged, was changed after it was written, or violates the contract.
    """
    check_outputs(params.experiment, list_parts(name, path))
    if name == "raw":
        return load_raw(path, params)
    if path.suffix == ".parquet":
        from labkit.data.table_files import load_table

        frame = load_table(path)
        check_clean(name, frame, params)
        return frame
    if name == "model":
        from labkit.model.release.own_code import list_named_types
        from labkit.model.release.skops_file import load_model

        return load_model(path, own=list_named_types(params))
    if name == "release":
        return path
    content = load_json(path)
    if name == "notes":
        from labkit.data.reading.raw_table import frame_notes

        return frame_notes(content)
    if name == "row_features":
        from labkit.features.row_features import RowFeatures
        from labkit.model.release.feature_files import load_features
        from labkit.model.release.own_code import list_named_types

        return load_features(content, path.with_suffix(ARRAYS), RowFeatures, own=list_named_types(params))
    return content


def list_parts(name: str, path: Path) -> list[Path]:
    """Return the files and folders that make up an artifact."""
    arrays = path.with_suffix(ARRAYS)
    return [path, arrays] if name == "row_features" and arrays.is_file() else [path]


def load_json(path: Path) -> Any:
    """Read a JSON file written by a stage.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    DataError
        The file is damaged.
    """
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}): remove it and run the stage that writes it again") from error


def save_artifact(name: str, path: Path, obj: Any, params: Params) -> None:
    """Validate and write an artifact; see `labkit.run.notebook.step.Step.save`.

    Parameters
    ----------
    name
        Name of the artifact, a key of `PLACES`.
    path
        The file to write.
    obj
        A table, a model, row features or plain data.
    params
        Params of the experiment.

    Raises
    ------
    DataError
        A clean table violates the contract.
    """
    if path.suffix == ".parquet":
        from labkit.data.table_files import save_table

        check_clean(name, obj, params)
        save_table(path, obj)
    elif name == "model":
        from labkit.model.release.own_code import list_named_types
        from labkit.model.release.skops_file import save_model

        save_model(path, obj, own=list_named_types(params))
    else:
        content = obj
        if name == "row_features":
            from labkit.model.release.feature_files import make_arrays
            from labkit.model.release.own_code import list_named_types
            from labkit.storage.npz import save_arrays

            content = obj.to_json()
            save_arrays(path.with_suffix(ARRAYS), make_arrays(obj, own=list_named_types(params)))
        write_json(path, content)


def load_raw(folder: Path, params: Params) -> dict[str, Any]:
    """Read all raw tables, each validated against the contract."""
    from labkit.data.contract import check_table, load_contract
    from labkit.data.table_files import load_table

    contract = load_contract(paths.find_data_dir(params.experiment) / CONTRACT)
    return {
        name: check_table(load_table(folder / f"{name}.parquet"), contract[name], f"raw table {name}")
        for name in params.data.tables
    }


def check_clean(name: str, frame: Any, params: Params) -> None:
    """Validate a clean table against the contract of the joined raw tables."""
    if name not in PLACES or not name.startswith("clean_"):
        return
    from labkit.data.contract import allow_missing, check_table, join_schemas, load_contract

    contract = load_contract(paths.find_data_dir(params.experiment) / CONTRACT)
    schema = join_schemas(contract, params.data, params.wrangling.drop)
    check_table(frame, allow_missing(schema, params.wrangling.rules), name)


CATALOGUE = Catalogue(PLACES, load_artifact, save_artifact)

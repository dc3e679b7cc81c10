"""Packages of a release: one form each, compared with the model before it is put in place."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import ModelError, ParamsError
from labkit.model.release import runtime
from labkit.model.release.bundle import Release, load_release
from labkit.packages import mlflow_model, onnx_graph, pmml, service_folder
from labkit.packages.embedded import predict_with_wheel, write_model_wheel
from labkit.packages.parity import Predict, check_package, load_parity_rows
from labkit.params.experiment import Params
from labkit.serving.champion import open_champion
from labkit.serving.supervisor import check_release_experiment
from labkit.stages.publish import fetch_release
from labkit.storage.atomic import atomic_folder, copy_file


@dataclass(frozen=True)
class Form:
    """One form of package.

    Attributes
    ----------
    write
        Writes the package of a release into an empty folder and returns its file or folder.
    make_predict
        Returns how a written package predicts.
    needs_graph
        Whether the release must have an ONNX graph.
    """

    write: Callable[[Release, Path], Path]
    make_predict: Callable[[Path], Predict]
    needs_graph: bool = True


FORMS = {
    "wheel": Form(lambda release, folder: write_model_wheel(release.folder, folder), predict_with_wheel),
    "service": Form(service_folder.write_service, service_folder.predict_with_service),
    "onnx": Form(onnx_graph.write_graph, onnx_graph.predict_with_graph),
    "pmml": Form(pmml.write_pmml, pmml.predict_with_pmml),
    "mlflow": Form(mlflow_model.write_model, mlflow_model.predict_with_model, needs_graph=False),
}


@dataclass(frozen=True)
class Package:
    """A written package: its file or folder, and the rows on which it was compared with the model, in words."""

    path: Path
    compared: str


def write_package(params: Params, folder: Path, *, form: str, release: Path | None = None) -> Package:
    """Write the champion of an experiment, or a release, as a package into a folder.

    Parameters
    ----------
    form
        A key of `FORMS`.
    release
        Folder of a release to package instead of the champion.

    Raises
    ------
    ParamsError
        There is no champion, the release is of another experiment, or a folder of that name exists.
    ModelError
        The release is not as it was published, the form needs an ONNX graph and it has none, or the package predicts
        otherwise than the model; nothing is written.
    """
    chosen = FORMS[form]
    with tempfile.TemporaryDirectory(prefix=".labkit-") as scratch:
        found = release or fetch_release(open_champion(params.experiment).in_force, Path(scratch))
        opened = load_release(found)
        check_release_experiment(opened.facts, params.experiment, found)
        if chosen.needs_graph and opened.graph is None:
            raise ModelError(f"{found}: has no {runtime.GRAPH}, which the form {form} needs: choose --form mlflow")
        beside = Path(scratch) / "package"
        beside.mkdir()
        made = chosen.write(opened, beside)
        place = folder / made.name
        if made.is_dir() and place.exists():
            raise ParamsError(f"{place}: exists: remove it, or choose another folder with --to")
        rows = load_parity_rows(params.experiment, opened)
        check_package(form, opened, rows, chosen.make_predict(made))
        put(made, place)
    return Package(place, str(rows))


def put(made: Path, place: Path) -> None:
    """Put a finished file or folder in place."""
    if not made.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        copy_file(made, place)
        return
    with atomic_folder(place) as beside:
        shutil.copytree(made, beside, dirs_exist_ok=True)

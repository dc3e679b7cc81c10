"""Packs the labkit that runs here into a wheel, wherever it was installed from; needs no build tool and no network."""

import importlib.metadata
import io
import os
from pathlib import Path

from labkit.errors import ParamsError
from labkit.params.yaml_text import make_yaml, parse_yaml
from labkit.paths import PACKAGE_DIR
from labkit.run.dvc_yaml import is_managed
from labkit.run.notebook_files import NOTEBOOK_NAME
from labkit.storage.wheel import name_wheel, write_wheel

TEMPLATE = f"{PACKAGE_DIR.name}/project/template/"
"""Folder of the template in a wheel."""
NOTEBOOKS = f"{TEMPLATE}notebooks/"
PIPELINE = f"{TEMPLATE}shared/pipeline.yaml"
METADATA_FILES = ("METADATA", "entry_points.txt", "top_level.txt", "licenses/LICENSE")


def write_labkit_wheel(folder: Path) -> Path:
    """Write a wheel of the running labkit and return its path.

    Parameters
    ----------
    folder
        Folder for the wheel.

    Raises
    ------
    ParamsError
        labkit's metadata cannot be found.
    DiskError
        See `labkit.storage.atomic.atomic_write`.
    """
    metadata = load_metadata()
    return write_wheel(folder, PACKAGE_DIR.name, find_labkit_version(), files=load_package(), metadata=metadata)


def find_labkit_version() -> str:
    """Return the version of the running labkit."""
    return importlib.metadata.version(PACKAGE_DIR.name)


def name_labkit_wheel(version: str) -> str:
    """Return the file name of the wheel of a version."""
    return name_wheel(PACKAGE_DIR.name, version)


def load_package() -> dict[str, bytes]:
    """Return the content of each file of the package by its name in a wheel, in a fixed order.

    Links are followed. What the user of a checkout added there, own notebooks and stages, is left out.
    """
    found = {}
    for folder, folders, files in os.walk(PACKAGE_DIR, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", ".ipynb_checkpoints"))
        for path in (Path(folder) / name for name in sorted(files)):
            name = path.relative_to(PACKAGE_DIR.parent).as_posix()
            if not name.startswith(NOTEBOOKS) or is_template_notebook(name):
                found[name] = path.read_bytes()
    remove_own_stages(found)
    return found


def is_template_notebook(name: str) -> bool:
    """Return whether a file below the template's notebooks is one: numbered, and in no experiment's folder."""
    stem, dot, ending = name.removeprefix(NOTEBOOKS).partition(".")
    return f"{dot}{ending}" == ".ipynb" and NOTEBOOK_NAME.fullmatch(stem) is not None


def remove_own_stages(files: dict[str, bytes]) -> None:
    """Remove stages of the user's own from the template's pipeline, and their notebooks."""
    tree = parse_yaml(files[PIPELINE].decode(), PIPELINE)
    own = [name for name, stage in tree["stages"].items() if is_managed(stage)]
    if not own:
        return
    for name in own:
        for notebook in tree["stages"].pop(name)["do"]["meta"]["notebook"]:
            files.pop(f"{TEMPLATE}{notebook}", None)
    stream = io.StringIO()
    make_yaml().dump(tree, stream)
    files[PIPELINE] = stream.getvalue().encode()


def load_metadata() -> dict[str, str]:
    """Return the files of labkit's metadata, by name."""
    # Beside the sources of a checkout there may be metadata in setuptools' older form, which are not those of a wheel.
    for distribution in importlib.metadata.distributions(name=PACKAGE_DIR.name):
        found = {name: content for name in METADATA_FILES if (content := distribution.read_text(name))}
        if "METADATA" in found:
            break
    else:
        raise ParamsError("labkit is not installed as a package: install it with `make install` or from its wheel")
    return found

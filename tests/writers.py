"""Everything labkit writes, as small things to write: the first or the second version of each, at a given place.

Run as a program it forks once per line of its input, so that a test can watch a process that does nothing but write.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from labkit.artifacts import save_artifact
from labkit.data.table_files import save_table
from labkit.errors import DiskError
from labkit.model.release import bundle, skops_file
from labkit.run.reports.render import render_page
from labkit.storage.atomic import copy_file, place_folder, write_text
from labkit.storage.npz import save_arrays

from tests.model.tables import make_model, make_table

ROWS = 20_000
SIZES = {1: 1.0, 2: 1.5}


def make_frame(version: int) -> pd.DataFrame:
    """Return a table that does not compress well, so that it takes several writes."""
    random = np.random.default_rng(version)
    return pd.DataFrame({name: random.random(int(ROWS * SIZES[version])) for name in "abcd"})


@cache
def make_fitted(version: int) -> Any:
    """Return a small fitted pipeline."""
    return make_model("lightgbm" if version == 2 else "linear", "binary")


def write_release(place: Path, version: int) -> None:
    options = {"facts": {"task": "classification", "version": version}, "contract": "{}", "card": "# Card\n"}
    bundle.write_release(place, make_fitted(version), graph=b"graph" * 40_000, example=make_table(), **options)


def place_outputs(place: Path, version: int) -> None:
    """Write a folder elsewhere, as a stage does, then put it in place."""
    elsewhere = place.parent / "work"
    for name in ("x.json", "deep/y.json"):
        write_text(elsewhere / name, str(version) * 50_000)
    place_folder(elsewhere, place)


def copy_notebook(place: Path, version: int) -> None:
    """Copy an executed notebook beside its page."""
    source = place.parent / f"source{version}"
    if not source.exists():
        write_text(source, str(version) * 300_000)
    copy_file(source, place)


WRITERS: Mapping[str, Callable[[Path, int], None]] = {
    "text": lambda place, version: write_text(place, f"{version} ü\n" * 40_000),
    "json": lambda place, version: save_artifact("metrics", place, {"x": [version] * 40_000}, None),  # type: ignore[arg-type]
    "table": lambda place, version: save_table(place.with_suffix(".parquet"), make_frame(version)),
    "arrays": lambda place, version: save_arrays(place, dict(make_frame(version).items())),  # type: ignore[arg-type]
    "model": lambda place, version: skops_file.save_model(place, make_fitted(version)),
    "release": write_release,
    "outputs": place_outputs,
    "notebook": copy_notebook,
    "page": lambda place, version: render_page(place, title="Page", markdown=f"{str(version) * 500}\n\n" * 100),
}


def serve() -> None:
    """Fork a writer for each line read, let it go at the next line, and report how it ended."""
    for name, writer in WRITERS.items():
        place = Path(sys.argv[1]) / f"warm-{name}"
        for version in (1, 2):
            writer(place, version)
    print("ready", flush=True)
    for line in sys.stdin:
        name, place = json.loads(line)
        reader, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(reader, 1)
            code = 0
            try:
                WRITERS[name](Path(place), 2)
            except DiskError:
                code = 1
            except BaseException:
                code = 3
            finally:
                os._exit(code)
        print(pid, flush=True)
        sys.stdin.readline()
        os.write(go, b"x")
        os.close(go)
        os.close(reader)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()

"""Light checkouts: folders that a stage runs in as in the checkout, with params and data of their own.

Code and everything else that no stage writes are symbolic links into the checkout, whose own outputs, params, pages and
records are never touched.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from labkit import paths
from labkit.run.dvc_yaml import load_declarations, make_output_patterns
from labkit.run.pipeline.outputs import find_record
from labkit.run.pipeline.run_lock import LOCK_NAME
from labkit.storage.atomic import write_text
from labkit.storage.links import copy_tree, link_to
from labkit.storage.locks import hold_lock

OWN = {".labkit", ".dvc", "data", "params", "reports", "mlruns", "dvc.lock", "mlflow.db"}
"""What a light checkout has of its own, or does without."""
BESIDE_DATABASE = ("mlflow.db-", "mlflow.db.")
"""How files begin that are left out too: the journals and the lock of the database."""
MEMORY = (".labkit/meanings.json", ".labkit/dependencies")
"""What labkit remembers about code: copied, so that it need not be found out again."""


def make_light_checkout(root: Path, experiment: str, content: str) -> None:
    """Make a light checkout of this checkout, replacing what is at its place.

    Parameters
    ----------
    root
        Where it is made.
    content
        Content of its params file.
    """
    origin = paths.find_root()
    # The process of a sweep that was killed may live on for a moment.
    with hold_lock(root / ".labkit" / LOCK_NAME):
        shutil.rmtree(root, ignore_errors=True)
    data = root / "data" / experiment
    data.mkdir(parents=True)
    for path in sorted(origin.iterdir()):
        if path.name not in OWN and not path.name.startswith(BESIDE_DATABASE):
            link_to(path, root / path.name)
    written = {output.partition("/")[0] for one in load_declarations(experiment).values() for output in one.outputs}
    own = paths.find_data_dir(experiment)
    for folder, inside, kept in ((own.parent, data.parent, {experiment}), (own, data, written)):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name not in kept | {"scratch"}:
                link_to(path, inside / path.name)
    for name in MEMORY:
        if (origin / name).exists():
            copy_tree(origin / name, root / name)
    write_text(root / "params" / f"{experiment}.yaml", content)


def list_continued(experiment: str, stage: str) -> list[str]:
    """Return the outputs of a stage that are kept in git, on which its next run builds, such as the contract."""
    patterns, declared = make_output_patterns(is_uncached=True), load_declarations(experiment)[stage]
    names = [f"data/{experiment}/{output}" for output in declared.outputs if output not in declared.metrics]
    return [
        name for name in names if any(one.fullmatch(name) for one in patterns) and (paths.find_root() / name).is_file()
    ]


def place_inputs(root: Path, source: Path, experiment: str, names: Iterable[str]) -> None:
    """Copy files or folders of another checkout into a light one, with the record by which they are verified.

    Parameters
    ----------
    root
        The light checkout.
    source
        Root of the checkout that has them.
    names
        Relative to both roots.
    """
    for name in names:
        if not (root / name).exists():
            copy_tree(source / name, root / name)
        folder = name.split("/")[2]
        with paths.use_root(source):
            record = find_record(experiment, folder)
        place = root / record.relative_to(source)
        if record.is_file() and not place.exists():
            copy_tree(record, place)

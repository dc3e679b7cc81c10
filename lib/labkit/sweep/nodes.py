"""The nodes of a sweep: one stage with certain code, params and inputs, however many points need it.

A node is named by its key, a digest of all that its outputs depend on: the rule by which DVC decides whether a stage is
up to date, with the content of the inputs. It runs in a light checkout, in which a marker is written last of all.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from labkit import paths
from labkit.params.experiment import Params
from labkit.run.dvc_yaml import FINGERPRINT, load_declarations, read_section
from labkit.run.fingerprint.fingerprint_file import find_fingerprint_dir
from labkit.run.fingerprint.observation import load_reads
from labkit.run.pipeline.outputs import check_outputs, record_folder
from labkit.run.records.stage_record import load_records, save_record
from labkit.stages.builtin import perform_fingerprint
from labkit.storage.atomic import parse_json, write_json
from labkit.storage.digests import compute_digest, digest, list_files
from labkit.storage.links import copy_tree
from labkit.sweep.light_checkout import list_continued, make_light_checkout, place_inputs

MARKER = ".labkit/node.json"
"""File of a light checkout that is written when its node is done."""


@dataclass(frozen=True)
class Node:
    """A node that is done.

    Attributes
    ----------
    files
        Digest of each output file by its path relative to the root.
    stamps
        Size, time of change and inode of these files: digests are computed again only where they differ.
    run_id
        Its run in MLflow; None if it was made by a run of the checkout.
    reads
        Digest of what it was seen to read besides its declared inputs; empty if that is nothing.
    """

    stage: str
    key: str
    files: Mapping[str, str]
    seconds: float = 0.0
    peak_bytes: int = 0
    headline: str = ""
    run_id: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    reads: str = ""
    stamps: Mapping[str, Sequence[int]] = field(default_factory=dict)


def find_sweeps_dir(experiment: str) -> Path:
    """Return the folder of an experiment's sweeps: its nodes, and the latest result."""
    return paths.find_root() / ".labkit" / "sweeps" / experiment


def find_node_root(experiment: str, key: str) -> Path:
    """Return the light checkout of a node, whether or not it exists."""
    return find_sweeps_dir(experiment) / "nodes" / key[:32]


def prepare_point(params: Params, content: str) -> Path:
    """Write the fingerprints of all stages for a point's params in a light checkout, and return their folder."""
    root = find_sweeps_dir(params.experiment) / "points" / digest([content])[:32]
    make_light_checkout(root, params.experiment, content)
    with paths.use_root(root, origin=paths.find_root()):
        perform_fingerprint(params, None)
        return find_fingerprint_dir(params.experiment)


def compute_node_key(params: Params, stage: str, fingerprints: Path, files: Mapping[str, str]) -> str:
    """Return the key of a stage.

    Parameters
    ----------
    fingerprints
        Folder of the fingerprints of the stages' code for these params.
    files
        Digest of each file that earlier stages wrote, by its path relative to the root.
    """
    declared, root = load_declarations(params.experiment)[stage], paths.find_root()
    given = {name: read_section(params, name) for name in declared.sections}
    inputs = {}
    for name in [*declared.inputs, *list_continued(params.experiment, stage)]:
        inside = {path: one for path, one in files.items() if path == name or path.startswith(f"{name}/")}
        if name.startswith(f"data/{params.experiment}/{FINGERPRINT}/"):
            inputs[name] = compute_digest(fingerprints / Path(name).name)
        elif inside and name not in list_continued(params.experiment, stage):
            inputs |= inside
        elif (root / name).exists():
            inputs[name] = compute_digest(root / name)
    return digest([stage, json.dumps(given, sort_keys=True), json.dumps(inputs, sort_keys=True)])


def prepare_node(
    params: Params, content: str, stage: str, key: str, *, fingerprints: Path, sources: Mapping[str, Path]
) -> Path:
    """Make the light checkout in which a node will run, and return its root.

    Parameters
    ----------
    content
        Content of the point's params file.
    fingerprints
        Folder of the fingerprints for these params.
    sources
        The light checkout that has the outputs of each earlier stage.
    """
    experiment, root = params.experiment, find_node_root(params.experiment, key)
    make_light_checkout(root, experiment, content)
    copy_tree(fingerprints, root / "data" / experiment / FINGERPRINT)
    for name, source in sources.items():
        place_inputs(root, source, experiment, list_taken(experiment, stage, name))
    place_inputs(root, paths.find_root(), experiment, list_continued(experiment, stage))
    return root


def list_written(experiment: str, stage: str) -> list[str]:
    """Return the outputs of a stage, relative to the root."""
    return [f"data/{experiment}/{output}" for output in load_declarations(experiment)[stage].outputs]


def list_taken(experiment: str, stage: str, other: str) -> list[str]:
    """Return the inputs of a stage that another one writes, relative to the root."""
    written, inputs = list_written(experiment, other), load_declarations(experiment)[stage].inputs
    return [one for one in inputs if any(one == out or one.startswith(f"{out}/") for out in written)]


def compute_files(experiment: str, stage: str) -> dict[str, str]:
    """Return the digest of each file that a stage wrote in this checkout, by its path relative to the root."""
    root = paths.find_root()
    written = [root / name for name in list_written(experiment, stage)]
    files = [file for path in written for file in (list_files(path) if path.is_dir() else [path]) if file.is_file()]
    return {file.relative_to(root).as_posix(): compute_digest(file) for file in files}


def adopt_node(params: Params, content: str, stage: str, key: str) -> Node:
    """Copy the outputs of a stage that is up to date in the checkout, after verifying them, and return the node."""
    experiment, origin = params.experiment, paths.find_root()
    root = find_node_root(experiment, key)
    make_light_checkout(root, experiment, content)
    written = list_written(experiment, stage)
    check_outputs(experiment, [origin / name for name in written])
    place_inputs(root, origin, experiment, written)
    record = load_records(paths.find_reports_dir(experiment)).get(stage)
    with paths.use_root(root, origin=origin):
        if record:
            save_record(record, paths.find_reports_dir(experiment))
        return finish_node(params, stage, key)


def finish_node(params: Params, stage: str, key: str) -> Node:
    """Write the marker of a node that is done in this light checkout, and return the node; its inputs are removed."""
    experiment, root = params.experiment, paths.find_root()
    for folder in sorted({name.split("/")[2] for name in list_written(experiment, stage)}):
        if (root / "data" / experiment / folder).is_dir():
            record_folder(root / "data" / experiment / folder, experiment=experiment, stage=stage)
    record = load_records(paths.find_reports_dir(experiment)).get(stage)
    told = {}
    if record:
        told = {name: getattr(record, name) for name in ("seconds", "peak_bytes", "headline", "run_id", "metrics")}
    files, reads = compute_files(experiment, stage), compute_reads_digest(experiment, stage)
    node = Node(stage, key, files, **told, reads=reads, stamps={name: make_stamp(root / name) for name in files})
    for other in load_declarations(experiment):
        for name in list_taken(experiment, stage, other) if other != stage else []:
            remove_copy(root / name)
    write_json(root / MARKER, asdict(node))
    return node


def remove_copy(path: Path) -> None:
    """Remove the copy of an input."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_stamp(path: Path) -> list[int]:
    """Return size, time of change and inode of a file, which differ after the file was written to or replaced."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def compute_reads_digest(experiment: str, stage: str) -> str:
    """Return the digest of what a stage was seen to read in this light checkout; empty if that is nothing."""
    reads = load_reads(experiment, stage)
    return digest([json.dumps(reads, sort_keys=True)]) if any(reads.values()) else ""


def load_node(params: Params, stage: str, key: str) -> Node | None:
    """Return a node that is done and still up to date; None if it has to run."""
    root = find_node_root(params.experiment, key)
    try:
        node = Node(**parse_json((root / MARKER).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    is_whole = node.key == key and all(is_unchanged(root, node, name) for name in node.files)
    if not is_whole or not node.reads:
        return node if is_whole else None
    with paths.use_root(root, origin=paths.find_root()):
        perform_fingerprint(params, None)
        return node if compute_reads_digest(params.experiment, stage) == node.reads else None


def is_unchanged(root: Path, node: Node, name: str) -> bool:
    """Return whether an output file of a node is there as its stage wrote it."""
    path = root / name
    return path.is_file() and (make_stamp(path) == node.stamps.get(name) or compute_digest(path) == node.files[name])

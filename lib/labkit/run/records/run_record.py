"""`record.json`: the provenance of one pipeline run, sufficient to reproduce it elsewhere without the ledger.

One file per run, an artifact of its MLflow run, beside the patch of uncommitted code and the params file; copies are in
`.labkit/runs/<run>/`. Read next: `labkit.run.records.changes`, which makes the patch.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import LabkitError, ParamsError, list_briefly
from labkit.params.experiment import Params
from labkit.params.yaml_text import load_written_yaml
from labkit.run import dvc_cache
from labkit.run.dvc_yaml import load_declarations
from labkit.run.fingerprint.fingerprint_file import find_fingerprint_dir, load_fingerprint
from labkit.run.fingerprint.import_graph import Checkout
from labkit.run.fingerprint.packages import LOCK_FILE
from labkit.run.notebook_files import list_notebooks
from labkit.run.records import changes, ledger, ledger_index, provenance, run_search, tracking
from labkit.run.records.ledger import Entry
from labkit.run.records.stage_record import compute_outputs
from labkit.secrets.redaction import Mask
from labkit.storage.atomic import write_bytes, write_json
from labkit.storage.digests import compute_digest
from labkit.units import format_bytes

VERSION = 1
RECORD_NAME, PATCH_NAME, PATCH_FOLDER = "record.json", "changes.diff", "code"
SOURCE = "source"
"""The stage that reads the raw tables."""
NOT_RECORDED = ("fingerprint",)
"""Stages that only compute the fingerprints of others."""
ROOT_FILES = (paths.MARKER, LOCK_FILE, "pyproject.toml")
MOST_OTHERS = 200
"""The largest number of untracked files other than code that are listed."""


@dataclass
class RunRecord:
    """The record of one pipeline run, written when it begins and again when it ends.

    Attributes
    ----------
    entry
        The run in the ledger.
    stages
        The stages that have run so far, filled in by the runner.
    names
        The requested stages.
    """

    entry: Entry
    params: Params
    mask: Mask
    stages: Mapping[str, Entry]
    names: Iterable[str]
    run_id: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    def prepare(self) -> list[str]:
        """Collect what is known at the start, including the patch of the code; return warnings."""
        root, entry = paths.find_root(), self.entry
        code, warnings = self.describe_code(root)
        facts = provenance.collect()
        environment: dict[str, Any] = {name: facts[name] for name in ("labkit", "python", "platform")}
        environment["lock"] = {"path": LOCK_FILE, "sha256": facts.get("lock_sha256")}
        environment["packages"] = entry.facts.get("packages", {})
        machine: dict[str, Any] = {name: facts[name] for name in ("user", "host")}
        machine |= {"cpu": provenance.find_cpu(), "threads": provenance.find_threads(), "blas": provenance.find_blas()}
        self.content = {
            "version": VERSION,
            "run": entry.run,
            "experiment": entry.experiment,
            "started": entry.at,
            "outcome": "running",
            "asked": entry.facts.get("asked", {}),
            "code": code,
            "params": describe_params_file(root, self.params.experiment),
            "environment": environment,
            "machine": machine,
        }
        return warnings

    def begin(self, run_id: str) -> None:
        """Log the prepared record to an MLflow run."""
        self.run_id = run_id
        self.content["mlflow_run_id"] = run_id
        tracking.log_file(run_id, paths.find_params_path(self.params.experiment))
        if patch := self.content["code"].get("patch"):
            tracking.log_file(
                run_id, ledger.find_run_folder(self.entry.run) / PATCH_NAME, Path(patch["artifact"]).parent.name
            )
        self.save()

    def finish_failed(self, error: BaseException) -> None:
        """Write the record of a run that ended with an error, which takes precedence over errors of writing."""
        with suppress(LabkitError, OSError):
            self.finish(ledger.classify_error(error)[0])

    def finish(self, outcome: str) -> None:
        """Write the record with the outcome of the stages."""
        self.content |= {
            "outcome": outcome,
            "ended": ledger.make_timestamp(),
            "stages": describe_stages(self.params.experiment, self.names, self.stages),
            "data": describe_data(self.params),
        }
        path = self.save()
        self.entry.note_record(path, compute_digest(path))

    def save(self) -> Path:
        """Write the record to disk and log it to MLflow."""
        path = ledger.find_run_folder(self.entry.run) / RECORD_NAME
        write_json(path, self.mask.clean(self.content))
        tracking.log_file(self.run_id, path)
        return path

    def describe_code(self, root: Path) -> tuple[dict[str, Any], list[str]]:
        """Save the code that is not in the commit; return its description, and warnings."""
        found = changes.find_changed_files(root, list_closure(root, self.params.experiment))
        own = f"data/{self.params.experiment}/"
        found = replace(found, continued={path: one for path, one in found.continued.items() if path.startswith(own)})
        patch = changes.make_patch(root, found)
        described: dict[str, Any] = {
            "commit": found.base,
            "origin": find_origin(root),
            "is_dirty": found.is_dirty,
            "files": changes.describe_files(root, found.code),
            "continued": changes.describe_files(root, found.continued),
            "left_out": patch.left_out,
            "others": changes.describe_files(root, dict(list(found.other.items())[:MOST_OTHERS])),
            "n_others": len(found.other),
        }
        if patch.content:
            described["patch"] = self.save_patch(patch.content)
        large = [f"{path} ({format_bytes(size)})" for path, size in patch.left_out.items()]
        warning = f"warning: too large to be recorded, so this run cannot be reproduced: {list_briefly(large, most=3)}"
        return described, [f"{warning}: commit it"] if large else []

    def save_patch(self, content: bytes) -> dict[str, Any]:
        """Write the patch to disk, without secrets, and return its description."""
        source = content.decode(errors="surrogateescape")
        cleaned = self.mask.clean_text(source)
        kept = cleaned.encode(errors="surrogateescape")
        write_bytes(ledger.find_run_folder(self.entry.run) / PATCH_NAME, kept)
        digest = hashlib.sha256(kept).hexdigest()
        place = f"{PATCH_FOLDER}/{PATCH_NAME}"
        return {"artifact": place, "sha256": digest, "bytes": len(kept), "is_masked": cleaned != source}


def list_closure(root: Path, experiment: str | None = None) -> list[str]:
    """Return the files of the checkout that runs of an experiment depend on, whether or not git knows them.

    Those are the notebooks and what they import, the packages beside labkit, the pipeline and the lock.
    """
    checkout = Checkout(root)
    files = {file for notebook in list_notebooks(experiment) for file in checkout.find_closure(notebook)}
    library = checkout.root / "lib"
    files |= {file for file in library.rglob("*.py") if file.relative_to(library).parts[0] != "labkit"}
    files |= {file for name in ROOT_FILES if (file := checkout.root / name).is_file()}
    inside = [file for file in files if file.is_relative_to(checkout.root)]
    return sorted(file.relative_to(checkout.root).as_posix() for file in inside)


def find_origin(root: Path) -> str | None:
    """Return where the checkout was cloned from, without a password; None if git has no remote."""
    found = changes.call_git(root, ["remote", "get-url", "origin"])
    return None if found is None else paths.show_address(os.fsdecode(found).strip())


def describe_params_file(root: Path, experiment: str) -> dict[str, Any]:
    """Return digest and state of a params file, which is an artifact of the run whether or not it was committed."""
    path = paths.find_params_path(experiment)
    letter = changes.find_changed_files(root).params.get(path.relative_to(root).as_posix(), "")
    state = {"": "committed", "?": "untracked"}.get(letter, "changed")
    return {"artifact": path.name, "sha256": compute_digest(path), "git": state}


def describe_stages(experiment: str, names: Iterable[str], ran: Mapping[str, Entry]) -> dict[str, Any]:
    """Return what each stage read and wrote, and of those that did not run which earlier run had done it."""
    described, is_over = dict[str, Any](), False
    for name in names:
        if name in NOT_RECORDED:
            continue
        found = describe_entry(ran[name]) if name in ran else describe_cached(experiment, name)
        if is_over:
            found["status"] = "not run"
        is_over = is_over or found["status"] not in ("finished", "cached")
        code = load_fingerprint(find_fingerprint_dir(experiment) / f"{name}.json").get("code", {})
        described[name] = {**found, "code": code}
    return described


def describe_cached(experiment: str, stage: str) -> dict[str, Any]:
    """Return what is in place of a stage that did not run, and which run wrote it, here or elsewhere."""
    data = paths.find_data_dir(experiment)
    outputs = compute_outputs(data, load_declarations(experiment)[stage].outputs)
    written = {f"{data.relative_to(paths.find_root()).as_posix()}/{name}": one for name, one in outputs.items()}
    maker = find_producer(experiment, stage, written) or run_search.find_producing_run(experiment, stage, outputs)
    return {"status": "cached" if written else "not run", "outputs": written, "made_by": maker}


def describe_entry(entry: Entry) -> dict[str, Any]:
    """Return the record of a stage that was run."""
    names = ("notebook_sha256", "inputs", "sample_rows")
    found: dict[str, Any] = {name: entry.facts[name] for name in names if name in entry.facts}
    resumed = entry.facts.get("resumed", {})
    found |= {"resumed": resumed} if "cell" in resumed else {}
    found |= {"status": entry.outcome, "run": entry.run, "mlflow_run_id": entry.tracked}
    return {**found, "outputs": {one["path"]: one["sha256"] for one in entry.outputs}}


def find_producer(experiment: str, stage: str, outputs: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the latest run of a stage in this checkout that wrote exactly these outputs, or None."""

    def wrote_them(entry: Entry) -> bool:
        return entry.outcome == "finished" and {one["path"]: one["sha256"] for one in entry.outputs} == outputs

    found = ledger_index.find_latest_entry(experiment, wrote_them, stage=stage) if outputs else None
    if found is None:
        return None
    inputs = found.facts.get("inputs", {})
    return {"run": found.run, "mlflow_run_id": found.tracked, "started": found.at, "inputs": inputs}


def describe_data(params: Params) -> dict[str, Any]:
    """Return the digests of the raw tables' files, DVC's of the inputs and outputs of stages, and the remotes."""
    root, experiment = paths.find_root(), params.experiment
    pointers = sorted(paths.find_data_dir(experiment).glob("**/*.dvc"))
    files = {path.relative_to(root).as_posix(): read_listed(path).get("outs", []) for path in pointers}
    stages = read_listed(root / "dvc.lock").get("stages", {})
    locked = {
        name.partition("@")[0]: {kind: stage.get(kind, []) for kind in ("deps", "outs")}
        for name, stage in stages.items()
        if name.partition("@")[2] == experiment
    }
    return {
        "remotes": dvc_cache.find_remotes(),
        "files": list_table_files(params),
        "tables": files,
        "dvc_lock": locked,
    }


def list_table_files(params: Params) -> dict[str, str]:
    """Return the SHA-256 of the files of the raw tables, by path relative to the root; not of those in packages."""
    known = load_fingerprint(find_fingerprint_dir(params.experiment) / f"{SOURCE}.json").get("tables", {})
    return {
        file: known[key]
        for name, table in params.data.tables.items()
        for file in (() if table.package or table.dataset else table.files)
        if (key := name if len(table.files) == 1 else f"{name}: {file}") in known
    }


def read_listed(path: Path) -> dict[str, Any]:
    """Return the content of a file that DVC wrote, nothing if it is invalid, which DVC itself reports."""
    try:
        content = load_written_yaml(path)
    except (OSError, ParamsError):
        return {}
    return content if isinstance(content, dict) else {}

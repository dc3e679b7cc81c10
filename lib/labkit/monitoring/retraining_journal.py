"""The journal of a retraining: what it changes in the checkout is kept first, to restore it or to continue."""

import shutil
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import CONTRACT, PLACES
from labkit.monitoring.new_data import NewData
from labkit.params.experiment import Params
from labkit.params.load import parse_file
from labkit.params.override import apply_overrides, override_file
from labkit.params.yaml_text import load_written_yaml
from labkit.run.doctor import CheckResult
from labkit.run.pipeline import dvc_remote, dvc_repo, experiments, run_lock
from labkit.run.pipeline.locked_stages import DVC_LOCK
from labkit.storage.atomic import copy_file, write_text

JOURNAL = "journal.json"


def strip_journal(began: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded of a retraining as its journal has it."""
    return {key: value for key, value in began.items() if key != "kept"}


def apply_new_data(experiment: str, data: NewData) -> None:
    """Put the new raw file in place, tracked by DVC, and move the split; doing it twice changes nothing."""
    if data.path:
        raw = paths.find_root() / data.path
        copy_file(find_work_folder(experiment) / "new" / raw.name, raw)
        experiments.add_files([raw])
    if data.settings:
        apply_overrides(experiment, data.settings)


def keep_files(params: Params, data: NewData, folder: Path) -> list[str]:
    """Copy the files that a retraining changes and DVC does not keep, and return their paths from the root.

    The raw file as it was is kept by DVC, which begins to track it here if nobody did before.
    """
    root, data_dir = paths.find_root(), paths.find_data_dir(params.experiment)
    if data.path and not (root / f"{data.path}.dvc").is_file():
        experiments.add_files([root / data.path])
    files = [paths.find_params_path(params.experiment), data_dir / CONTRACT, data_dir / PLACES["metrics"]]
    files += [root / DVC_LOCK, *([root / f"{data.path}.dvc"] if data.path else [])]
    kept = [path.relative_to(root).as_posix() for path in files if path.is_file()]
    for place, name in enumerate(kept):
        copy_file(root / name, folder / str(place))
    return kept


def restore(began: Mapping[str, Any]) -> None:
    """Restore what a retraining changed: raw file, pointer, params, and the outputs of the stages."""
    name, root, folder = began["experiment"], paths.find_root(), find_work_folder(began["experiment"])
    for place, file in enumerate(began["kept"]):
        kept = folder / "before" / str(place)
        if file == DVC_LOCK:
            # Other experiments may have run since.
            experiments.restore_locked(name, load_written_yaml(kept))
        elif root / file == paths.find_params_path(name):
            restore_params(name, kept.read_text(encoding="utf-8"), NewData.from_dict(began["data"]))
        else:
            copy_file(kept, root / file)
    raw = root / began["data"]["path"] if began["data"]["path"] else None
    with chdir(root):
        repo = dvc_repo.open_repo()
        try:
            # Other raw files of the experiment may have been changed since.
            stages = [one.addressing for one in dvc_remote.find_stages(repo, [name]) if not one.is_data_source]
            pointers = [f"{began['data']['path']}.dvc"] if raw else []
            dvc_remote.restore_outputs(repo, [*pointers, *map(str, stages)], is_forced=True)
        finally:
            repo.close()
    remove_work_folder(name)


def restore_params(experiment: str, kept: str, data: NewData) -> None:
    """Restore the params file, or in one that was edited since then only the days of the split."""
    path = paths.find_params_path(experiment)
    written = override_file(parse_file(kept, path), data.settings).content
    if path.is_file() and path.read_text(encoding="utf-8") not in (kept, written):
        apply_overrides(experiment, data.settings_before)
    else:
        write_text(path, kept)


def is_interrupted(experiment: str) -> bool:
    """Return whether a retraining of an experiment was killed before its end."""
    return (find_work_folder(experiment) / JOURNAL).is_file()


def check_retrainings() -> CheckResult:
    """Check whether a retraining was killed before its end and is not under way again."""
    begun = sorted(path.parent.name for path in find_work_folder("*").parent.glob(f"*/{JOURNAL}"))
    found = [experiment for experiment in begun if run_lock.find_holder(experiment) is None]
    if not found:
        return CheckResult("retrainings", "none was interrupted")
    remedy = f"`labkit retrain {found[0]}` continues it"
    return CheckResult("retrainings", f"interrupted: {', '.join(found)}", remedy)


def find_work_folder(experiment: str) -> Path:
    """Return the folder of the retraining that is under way."""
    return paths.find_root() / ".labkit" / "retraining" / experiment


def remove_work_folder(experiment: str) -> None:
    """Remove what a retraining kept, the journal first: without it, a rest of the folder means nothing."""
    (find_work_folder(experiment) / JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(find_work_folder(experiment), ignore_errors=True)

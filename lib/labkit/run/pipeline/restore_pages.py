"""Keeps the reports consistent with the data: each page is that of the run that made the current data.

DVC restores outputs from its cache without running the notebook, for example after a change was undone. The page of
the earlier run is then downloaded from its artifacts in MLflow.
"""

import tempfile
from collections.abc import Collection
from pathlib import Path

from labkit import paths
from labkit.params.experiment import Params
from labkit.run.dvc_yaml import compute_key, load_declarations
from labkit.run.fingerprint.import_graph import Checkout
from labkit.run.fingerprint.observation import add_reads, load_reads
from labkit.run.fingerprint.stage_key import compute_code_digest
from labkit.run.notebook_files import find_stage, list_notebooks
from labkit.run.records import run_search, tracking
from labkit.run.records.stage_record import PAGE_ENDINGS, compute_outputs, load_records
from labkit.run.reports import index
from labkit.storage.atomic import copy_file


def restore_pages(params: Params, *, stages: Collection[str] | None = None) -> list[str]:
    """Replace the pages that do not belong to the current data, and return the stages that have no page.

    A page of another run is removed even if the right one cannot be found: no page is better than a wrong one.

    Parameters
    ----------
    stages
        Only the pages of these, e.g. because the data of the others are stale; by default all.
    """
    folder = paths.find_reports_dir(params.experiment)
    records, without = load_records(folder), []
    checkout = Checkout(paths.find_root())
    for path in list_notebooks(params.experiment):
        stage = find_stage(path)
        declared = load_declarations(params.experiment).get(stage)
        if declared is None or (stages is not None and stage not in stages):
            continue
        digests = compute_outputs(paths.find_data_dir(params.experiment), declared.outputs)
        digest = compute_code_digest(path, params, stage=stage, checkout=checkout)
        code = add_reads(digest, load_reads(params.experiment, stage))
        key = compute_key(code, params, declared.sections, digests)
        if stage in records and records[stage].key == key:
            continue
        if not fetch_page(params.experiment, path.stem, key, folder):
            without.append(stage)
    index.render_index(paths.find_reports_dir())
    return without


def fetch_page(experiment: str, page: str, key: str, folder: Path) -> bool:
    """Replace a page by that of the run with a key, or remove it; return whether there is one."""
    for ending in PAGE_ENDINGS:
        (folder / f"{page}{ending}").unlink(missing_ok=True)
    run_id = run_search.find_run_of(experiment, key)
    if run_id is None:
        return False
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        for ending in PAGE_ENDINGS:
            fetched = tracking.download_file(run_id, f"report/{page}{ending}", Path(scratch))
            copy_file(fetched, folder / f"{page}{ending}")
    return True

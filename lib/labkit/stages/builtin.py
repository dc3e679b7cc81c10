"""Functions that `labkit run` calls for the stages without a notebook.

Each function imports what it needs when called, because the fingerprint is computed on every run and has to be fast.
"""

from typing import TYPE_CHECKING

from labkit import paths

if TYPE_CHECKING:
    from labkit.params.experiment import Params
    from labkit.run.pipeline.stages_in_order import PlainStage


def perform_source(params: "Params", sample_rows: int | None) -> str:
    """Put the raw tables in place."""
    from labkit.artifacts import CONTRACT, PLACES
    from labkit.run.pipeline.outputs import record_folder
    from labkit.stages.source import place_tables

    folder = paths.find_scratch_dir(params.experiment) if sample_rows else paths.find_data_dir(params.experiment)
    contract = paths.find_data_dir(params.experiment) / CONTRACT
    headline = place_tables(params, folder / PLACES["raw"], contract, sample_rows=sample_rows)
    if not sample_rows:
        record_folder(folder / PLACES["raw"], experiment=params.experiment, stage="source")
    return headline


def perform_fingerprint(params: "Params", sample_rows: int | None) -> str:
    """Write the fingerprint of every stage's code, and the digests of the params and of the files that they name."""
    from labkit.data.reading.locate import compute_digests
    from labkit.run.dvc_yaml import compute_section_digests
    from labkit.run.fingerprint.stage_key import write_fingerprints

    write_fingerprints(
        params.experiment,
        PLAIN_MODULES,
        tables={"source": compute_digests(params.data)},
        section_digests=compute_section_digests(params),
        params=params,
    )
    return ""


def check_params_columns(params: "Params", sample_rows: int | None) -> str:
    """Check that the columns that the params name are in the tables, as far as these are known."""
    from labkit.artifacts import CONTRACT
    from labkit.data.column_references import check_against_contract

    check_against_contract(params, paths.find_data_dir(params.experiment) / CONTRACT)
    return ""


def perform_publish(params: "Params", sample_rows: int | None) -> str:
    """Publish the release if the gate and the champion allow it."""
    from labkit.stages.publish import publish

    return publish(params)


PLAIN_STAGES: dict[str, "PlainStage"] = {
    "fingerprint": perform_fingerprint,
    "source": perform_source,
    "named columns": check_params_columns,  # NAMED_COLUMNS of `labkit.run.dvc_yaml`, whose import is slow
    "publish": perform_publish,
}
LATER_MODULES = ("labkit.stages.publish", "labkit.model.release.skops_file")
"""Modules that `perform_publish` needs; importing them takes seconds."""
PLAIN_MODULES = {"source": "labkit.stages.source"}
"""Module of each plain stage; plain stages not listed here run every time, whether or not their code changed."""

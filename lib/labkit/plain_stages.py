"""The stages without a notebook: what `labkit run` calls in their place.

Each imports what it needs when called: the fingerprint is taken on every run and has to be quick.
"""

from typing import TYPE_CHECKING

from labkit import paths

if TYPE_CHECKING:
    from labkit.params import Params
    from labkit.run.pipeline_run import PlainStage


def perform_source(params: "Params", sample_rows: int | None) -> str:
    """Put the raw tables in place."""
    from labkit.artifacts import CONTRACT, PLACES
    from labkit.data.sources import place_tables
    from labkit.run.outputs import record_folder

    folder = paths.find_scratch_dir(params.experiment) if sample_rows else paths.find_data_dir(params.experiment)
    contract = paths.find_data_dir(params.experiment) / CONTRACT
    headline = place_tables(params, folder / PLACES["raw"], contract, sample_rows=sample_rows)
    if not sample_rows:
        record_folder(folder / PLACES["raw"], experiment=params.experiment, stage="source")
    return headline


def perform_fingerprint(params: "Params", sample_rows: int | None) -> str:
    """Write down what every stage's code means, and the digests of params and of the files that they name."""
    from labkit.data.origins import compute_digests
    from labkit.run.declarations import compute_section_digests
    from labkit.run.fingerprint import write_fingerprints

    write_fingerprints(
        params.experiment,
        PLAIN_MODULES,
        tables={"source": compute_digests(params.data)},
        section_digests=compute_section_digests(params),
        params=params,
    )
    return ""


def perform_publish(params: "Params", sample_rows: int | None) -> str:
    """Publish the release if the gate and the champion allow it."""
    from labkit.live.publish import publish

    return publish(params)


PLAIN: dict[str, "PlainStage"] = {
    "fingerprint": perform_fingerprint,
    "source": perform_source,
    "publish": perform_publish,
}
LATER_MODULES = ("labkit.live.publish", "labkit.model.skops_file")
"""What `perform_publish` needs, which takes seconds to import."""
PLAIN_MODULES = {"source": "labkit.data.sources"}
"""The module that does a plain stage's work; the other plain stages are called each time, whatever their code."""

"""What the parent run in MLflow shows of a whole run: parameters, headline metrics, results and the raw data.

The headline metrics are those of the metrics files that dvc.yaml declares, so MLflow and DVC show the same numbers.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import paths
from labkit.params.experiment import Params
from labkit.params.metric_meanings import name_headline
from labkit.params.subject import Subject
from labkit.run.dvc_yaml import load_declarations
from labkit.run.pipeline.dvc_repo import PUBLISH
from labkit.run.pipeline.progress import Line
from labkit.storage.atomic import parse_json
from labkit.units import format_count

if TYPE_CHECKING:
    from labkit.run.records.tracking import Record

RESULT_TAG, SAMPLE_TAG = "labkit.result", "labkit.sample_rows"


def name_run(run: str, sample_rows: int | None) -> str:
    """Return the name of a parent run in MLflow, which marks samples.

    >>> name_run("diabetes-1", None), name_run("diabetes-1", 200)
    ('diabetes-1', 'diabetes-1 (sample of 200 rows)')
    """
    return f"{run} (sample of {format_count(sample_rows, 'row')})" if sample_rows else run


def make_sample_tags(sample_rows: int | None) -> dict[str, str]:
    """Return the tags that mark a run as one of a sample; none for the pipeline."""
    return {SAMPLE_TAG: str(sample_rows)} if sample_rows else {}


def describe_parent(record: "Record", params: Params, *, changed: Mapping[str, str], lines: Iterable[Line]) -> None:
    """Add to a parent run the parameters that differ from their defaults, its results in words, and what was decided.

    Parameters
    ----------
    changed
        Values of these parameters by name.
    lines
        The stages that have run so far.
    """
    shown = list(lines)
    record.params |= changed
    results = [f"- {line.stage}: {line.headline or line.outcome}" for line in shown]
    record.description = "\n".join([Subject.from_params(params).question, "", *results])
    if decided := [line.headline for line in shown if line.stage == PUBLISH and line.headline]:
        record.tags[RESULT_TAG] = decided[-1]


def load_headline(experiment: str, names: Iterable[str], folder: Path) -> dict[str, float]:
    """Return the numbers in the metrics files of some stages, those of an evaluation under their full names.

    Parameters
    ----------
    names
        The stages.
    folder
        The folder they have written to.
    """
    declared, found = load_declarations(experiment), dict[str, float]()
    for name in names:
        for place in declared[name].metrics if name in declared else ():
            path = folder / place
            content: Any = parse_json(path.read_bytes()) if path.is_file() else {}
            full = name_headline(content["metric"]) if "metric" in content else {}
            found |= {full.get(key, key): value for key, value in content.items() if isinstance(value, int | float)}
    return found


def find_raw_data(stages: Mapping[str, Any]) -> dict[str, str]:
    """Return path and SHA-256 of what the first stage, which fetches the raw data, wrote.

    Parameters
    ----------
    stages
        As in `record.json`.
    """
    first: Mapping[str, Any] = next(iter(stages.values()), {})
    root = paths.find_root()
    return {path: digest for path, digest in first.get("outputs", {}).items() if (root / path).is_dir()}

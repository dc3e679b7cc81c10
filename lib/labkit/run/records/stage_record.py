"""The record of the latest run of each stage, beside its page: `reports/<experiment>/<page>.json`.

`labkit status`, the closing table and the index of reports read from it the results of stages that were not run this
time. It also shows whether a page still belongs to the current data.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from labkit.storage.atomic import parse_json, write_json
from labkit.storage.digests import compute_digest

PAGE_ENDINGS = (".html", ".ipynb", ".json")
"""The files of each page: the report, the executed notebook, the record."""


@dataclass(frozen=True)
class StageRecord:
    """One run of one stage.

    Attributes
    ----------
    page
        Name of its page without ending, e.g. `04_training`.
    key
        Digest of its code, of the params it read and of what it wrote; empty if it did not finish.
    cells
        Seconds that each cell took.
    peak_bytes
        Peak memory of the kernel and its child processes.
    findings
        The sentences of the page's summary, as Markdown.
    checks
        Results of the stage's checks, as `labkit.checks.CheckResult.to_dict` returns them.
    metrics
        What the stage logged.
    run
        Name in the ledger of the run of the pipeline that it was part of, or its own; empty in earlier versions.
    """

    stage: str
    page: str
    title: str
    status: Literal["finished", "failed", "interrupted"]
    started: str
    seconds: float
    headline: str
    run_id: str | None
    key: str = ""
    html: str | None = None
    cells: Sequence[float] = ()
    peak_bytes: int = 0
    findings: Sequence[str] = ()
    checks: Sequence[Mapping[str, str]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    run: str = ""


def save_record(record: StageRecord, folder: Path) -> None:
    """Write a record beside its page."""
    write_json(folder / f"{record.page}.json", asdict(record))


def load_records(folder: Path) -> dict[str, StageRecord]:
    """Return the records in a folder by stage, in the order of the pages."""
    records = {}
    pages = [path for path in folder.glob("*_*.json") if path.stem.partition("_")[0].isdecimal()]
    for path in sorted(pages, key=lambda path: (int(path.stem.partition("_")[0]), path.name)):
        record = load_record(path)
        records[record.stage] = record
    return records


def load_record(path: Path) -> StageRecord:
    """Read a record; a damaged one counts as failed, with a headline about what to do."""
    try:
        content = parse_json(path.read_bytes())
        record = StageRecord(**content)
        if not all(isinstance(getattr(record, name), str) for name in ("stage", "page", "headline", "key")):
            raise TypeError("a name is not a string")
        cells = tuple(float(seconds) for seconds in record.cells)
        return replace(record, cells=cells, findings=tuple(record.findings), checks=tuple(record.checks))
    except (OSError, ValueError, TypeError):
        stage = path.stem.partition("_")[2]
        headline = f"its record {path.name} is damaged: labkit run {path.parent.name} --force {stage}"
        return StageRecord(stage, path.stem, stage, "failed", "", 0.0, headline, None)


def compute_outputs(folder: Path, outputs: Iterable[str]) -> dict[str, str]:
    """Return the digest of each output that exists in a data folder."""
    return {name: compute_digest(folder / name) for name in outputs if (folder / name).exists()}

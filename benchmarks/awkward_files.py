"""What `labkit new` does with every awkward file of the tests, and in how many seconds: writes `AWKWARD.md`.

python benchmarks/awkward_files.py
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from labkit.errors import LabkitError  # noqa: E402
from labkit.new.create import create_experiment  # noqa: E402
from labkit.new.options import Choices  # noqa: E402
from labkit.params.load import load_params  # noqa: E402
from labkit.stages.source import place_tables  # noqa: E402
from labkit.units import format_count  # noqa: E402

from benchmarks.big_csv import make_checkout  # noqa: E402
from tests.data.awkward import CASES, Case  # noqa: E402


def try_case(case: Case, scratch: Path) -> tuple[str, float]:
    """Return what became of one file, and the seconds that took."""
    make_checkout(scratch / "checkout")
    (scratch / "files").mkdir()
    made = case.make(scratch / "files")
    files = made if isinstance(made, list) else [made]
    started = time.monotonic()
    try:
        done = create_experiment(case.name, files, case.target, choices=Choices(**case.choices), **case.options)
        params = load_params(case.name)
        headline = place_tables(params, scratch / "raw", scratch / "contract.json")
        target, drop = params.data.target, params.wrangling.drop
        warnings = sum(decision.is_warning for decision in done.proposal.decisions)
        left_out, warned = format_count(len(drop), "column"), format_count(warnings, "warning")
        outcome = f"runs: {headline}; {target.task}, {left_out} left out, {warned}"
    except LabkitError as error:
        outcome = "refused: " + str(error).replace(f"{scratch / 'files'}{os.sep}", "")
    return outcome, time.monotonic() - started


def main() -> None:
    """Try all files and write the table."""
    lines = ["| file | what happened | seconds |", "|---|---|---|"]
    for case in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            outcome, seconds = try_case(case, Path(scratch))
        shown = re.sub(r"([|<>*_`])", r"\\\1", outcome)
        lines.append(f"| {case.name} | {shown} | {seconds:.2f} |")
        print(f"{case.name:32} {seconds:6.2f} s  {outcome[:150]}")
    kept = "\n".join(lines)
    head = f"# Awkward files\n\nWritten by `python benchmarks/awkward_files.py`: {len(CASES)} files.\n\n"
    (ROOT / "benchmarks" / "AWKWARD.md").write_text(head + kept + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

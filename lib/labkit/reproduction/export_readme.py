"""The README of an exported run: what is in the folder, how to verify it, how to make the run again."""

from collections.abc import Iterable, Mapping

from labkit.reproduction.recorded_run import RecordedRun
from labkit.run.fingerprint.packages import LOCK_FILE

CONTENT = """\
| | |
|---|---|
| `record.json` | all that was recorded of the run |
| `code/` | the code as it was, with changes that were not committed (`changes.diff`, if there were any) |
| `params/` | the parameters, also in `code/` |
| `requirements.lock` | the packages, with their hashes |
| `environment.json` | Python, system, packages that differed from the lock, machine, user |
| `data.json` | SHA-256 of the raw tables and of what each stage wrote, MD5 by which DVC keeps them |
| `data/` | the raw tables, if they were exported |
| `pages/` | the report and the executed notebook of each stage |
| `release/` | the model, with its card `MODEL_CARD.md` |
| `model/` | the same model as MLflow loads it, if it was registered |
| `SHA256SUMS` | the digest of each file |
"""


def make_readme(run: RecordedRun, missing: Iterable[str], redacted: Mapping[str, str], *, has_data: bool) -> str:
    """Return the README of an exported run as Markdown."""
    record = run.record
    machine, environment = record.get("machine", {}), record["environment"]
    lines = [f"# Run {run.name}", ""]
    if run.version is not None:
        lines += [f"It made version {run.version.number} of the model `{run.experiment}`.", ""]
    lines += [
        f"- Experiment: `{run.experiment}`",
        f"- Started {record.get('started', 'at a time that is not recorded')}, ended {record.get('ended', 'unknown')}",
        f"- By {machine.get('user', 'unknown')} on {machine.get('host', 'unknown')}",
        f"- Commit {run.commit}{', with uncommitted changes' if record['code'].get('is_dirty') else ''}",
        f"- labkit {environment.get('labkit')}, Python {environment.get('python')}, {environment.get('platform')}",
        "",
        "## Content",
        "",
        CONTENT,
        "## Verify",
        "",
        "```",
        "sha256sum --quiet -c SHA256SUMS",
        "```",
        "",
        "## Make the run again",
        "",
        *list_steps(run, has_data=has_data),
    ]
    changed = [f"`{name}`; before, its SHA-256 was {digest}" for name, digest in redacted.items()]
    for title, found in (("Missing", list(missing)), ("Redacted: strings that looked like secrets", changed)):
        lines += ["", f"## {title}", "", *(f"- {one}" for one in found)] if found else []
    return "\n".join(lines) + "\n"


def list_steps(run: RecordedRun, *, has_data: bool) -> list[str]:
    """Return how to make the run again from the folder alone, as lines of Markdown."""
    python = run.record["environment"].get("python") or "3"
    stage = next(
        (name for name, outputs in run.outputs.items() if any(one.endswith("/release") for one in outputs)), ""
    )
    until = f" --until {stage}" if stage else ""
    data = "cp -r data/. code/" if has_data else "# put the raw tables into code/: data.json has their digests"
    return [
        "Outputs are the same to the byte with the same packages on the same kind of machine.",
        "",
        "```",
        f"uv venv --python {python} environment && source environment/bin/activate",
        f"uv pip install --require-hashes -r {LOCK_FILE}",
        "uv pip install --no-deps ./code                    # labkit, or the wheel of the version above",
        data,
        "cd code && git init -q && git add -A",
        "git -c user.name=rebuild -c user.email=rebuild@localhost commit -qm code",
        f"PYTHONPATH=lib labkit run {run.experiment}{until}",
        "python - <<'END'",
        "import json",
        "from pathlib import Path",
        "from labkit.storage.digests import compute_digest",
        'for path, digest in json.loads(Path("../data.json").read_text())["outputs"].items():',
        '    print("same" if compute_digest(Path(path)) == digest else "DIFFERENT", path)',
        "END",
        "```",
        "",
        "In a clone of the repository that has the commit, `labkit reproduce` does all of this.",
    ]

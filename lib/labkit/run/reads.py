"""What stages were seen to read, as the part of their fingerprints that only a run can tell.

Written when a stage has run, and computed again for each fingerprint. Not which files these are: that is
`labkit.run.observation`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from labkit import paths
from labkit.params import Params
from labkit.run.closure import Checkout
from labkit.run.declarations import Declaration, list_outputs, load_declarations
from labkit.run.dependencies import KINDS, SECTIONS, Dependencies, Known, compute_sections, is_part
from labkit.run.fingerprint import find_folder, load_fingerprint, write_fingerprint
from labkit.run.observation import Observation
from labkit.run.record import compute_key
from labkit.run.syntax import digest

CHANGED = "changed while the stage ran"


def compute_reads(
    params: Params, codes: Mapping[str, Mapping[str, str]], checkout: Checkout
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the digests of what each stage is known to read besides its code, by kind and name."""
    known = Known(params.experiment)
    if known.is_empty:
        return {}
    declared, found = load_declarations(params.experiment), {}
    for stage, code in codes.items():
        names = known.choose(stage, make_key(params, declared.get(stage), code))
        if not names.is_empty:
            found[stage] = compute_stage_reads(params, code, names, checkout)
    known.save()
    return found


def make_key(params: Params, declared: Declaration | None, code: Mapping[str, str]) -> str:
    """Return what a stage's list of what it reads belongs to: its code and its params."""
    return compute_key(digest(code.values()), params, declared.sections if declared else (), {})


def keep_reads(params: Params, stage: str, outputs: Iterable[str], seen: Observation) -> dict[str, dict[str, str]]:
    """Write down what a run of a stage was seen to read, for the next one to compare, and return the digests.

    DVC reads the fingerprint once more when the stage has ended, and records it as it is then. A file that somebody
    else changed meanwhile is given a digest that it cannot have.
    """
    refresh_reads(params, stage, outputs)
    path = find_folder(params.experiment) / f"{stage}.json"
    content = load_fingerprint(path)
    if not content:
        return {}
    checkout, declared = Checkout(paths.find_root()), load_declarations(params.experiment).get(stage)
    Known(params.experiment).keep(stage, make_key(params, declared, content["code"]), seen.names)
    sections = {} if seen.names.is_empty else compute_stage_reads(params, content["code"], seen.names, checkout)
    for name in seen.changed:
        sections["files"][name] = CHANGED
    write_fingerprint(path, {kind: part for kind, part in content.items() if kind not in SECTIONS} | sections)
    return sections


def compute_stage_reads(
    params: Params, code: Iterable[str], names: Dependencies, checkout: Checkout
) -> dict[str, dict[str, str]]:
    """Return the digests of what a stage of that code reads besides it, by kind and name."""
    closure = [checkout.locate(name) for name in code]
    outputs = [output for listed in list_outputs(params.experiment).values() for output in listed]
    return compute_sections(checkout, closure, names, secrets=params.secrets.values(), outputs=outputs)


def refresh_reads(params: Params, stage: str, outputs: Iterable[str]) -> None:
    """Compare again what other stages read of the outputs that a stage has just written without declaring it.

    Parameters
    ----------
    outputs
        Relative to the experiment's data folder.
    """
    written = [f"data/{params.experiment}/{output}" for output in outputs]
    for path in find_folder(params.experiment).glob("*.json"):
        content = load_fingerprint(path)
        names = Dependencies(*(tuple(content.get(kind, {})) for kind in KINDS))
        if path.stem != stage and any(is_part(name, written) for name in names.files):
            checkout = Checkout(paths.find_root())
            write_fingerprint(path, content | compute_stage_reads(params, content["code"], names, checkout))


def load_reads(experiment: str, stage: str) -> dict[str, Any]:
    """Return the digests of what a stage is known to read, by kind and name."""
    content = load_fingerprint(find_folder(experiment) / f"{stage}.json")
    return {kind: content[kind] for kind in SECTIONS if kind in content}


def add_reads(code: str, reads: Mapping[str, Any]) -> str:
    """Return one digest of a stage's code and of what it read besides."""
    return digest([code, json.dumps(reads, sort_keys=True)]) if reads else code

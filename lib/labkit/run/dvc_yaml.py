"""What dvc.yaml declares for each stage: the params it reads, the files it reads and writes.

Does not import DVC, which takes a second. Which stages are stale: `labkit.run.pipeline.dvc_repo`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit import paths
from labkit.errors import ParamsError
from labkit.params.experiment import Params
from labkit.params.section import find_wordings
from labkit.params.yaml_text import load_plain, load_written_yaml
from labkit.storage.digests import digest

FINGERPRINT = "fingerprint"
"""The stage that DVC runs every time to detect changed code and files; not shown to users."""
NAMED_COLUMNS = "named columns"
"""What is checked before every notebook; no stage of dvc.yaml, hence the space."""


def compute_key(code: str, params: Params, sections: Iterable[str], outputs: Mapping[str, str]) -> str:
    """Return a digest of a stage's code, params and outputs.

    Parameters
    ----------
    code
        Digest of its code, comments and layout left out.
    sections
        The params it reads, dotted.
    outputs
        SHA-256 by place.
    """
    given = {name: read_section(params, name) for name in sections}
    content = json.dumps({"code": code, "params": given, "outputs": dict(outputs)}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Declaration:
    """The declaration of one stage in dvc.yaml.

    Attributes
    ----------
    sections
        The params it reads, dotted.
    outputs, inputs
        The files it writes, relative to the experiment's data folder, and those it reads, relative to the root.
    digested
        The sections that DVC does not track itself: their digests are in the stage's fingerprint.
    metrics
        The outputs that `dvc metrics` shows.
    """

    sections: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    digested: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


def load_declarations(experiment: str) -> dict[str, Declaration]:
    """Return the declaration of each stage in dvc.yaml."""
    stages = load_plain(paths.find_root() / paths.MARKER)["stages"]
    folder = f"data/{experiment}/"
    found = {}
    for name, stage in stages.items():
        if not is_of(stage, experiment):
            continue
        body = stage.get("do", stage)
        tracked = [key for entry in body.get("params", []) for keys in entry.values() for key in keys]
        digested = body.get("meta", {}).get("sections", [])
        kinds = {kind: body.get(kind, []) for kind in ("outs", "metrics", "plots")}
        listed = {
            kind: [
                str(next(iter(entry)) if isinstance(entry, dict) else entry)
                .replace("${item}", experiment)
                .removeprefix(folder)
                for entry in entries
            ]
            for kind, entries in kinds.items()
        }
        named = [output for outputs in listed.values() for output in outputs]
        inputs = [dep.replace("${item}", experiment) for dep in body.get("deps", [])]
        sections, metrics = (*tracked, *digested), tuple(listed["metrics"])
        found[str(name)] = Declaration(sections, tuple(named), tuple(inputs), tuple(digested), metrics)
    return found


def is_of(stage: Mapping[str, Any], experiment: str) -> bool:
    """Return whether a stage of dvc.yaml is one of an experiment: its `foreach` is the list of all, or names it."""
    named = stage.get("foreach")
    return not isinstance(named, list) or experiment in named


def is_managed(stage: Mapping[str, Any]) -> bool:
    """Return whether an entry of dvc.yaml is written from a notebook, as those of stages of the user's own are."""
    return "notebook" in stage.get("do", stage).get("meta", {})


def list_stage_names() -> list[str]:
    """Return the stages of dvc.yaml in order, without those that users never name: they run every time, unseen."""
    stages = load_plain(paths.find_root() / paths.MARKER)["stages"]
    return [name for name in stages if name != FINGERPRINT]


def list_outputs(experiment: str) -> dict[str, list[str]]:
    """Return the outputs of each stage of an experiment, relative to the root."""
    declared = load_declarations(experiment)
    return {name: [f"data/{experiment}/{output}" for output in stage.outputs] for name, stage in declared.items()}


def list_producers(experiment: str) -> dict[str, tuple[str, ...]]:
    """Return by stage of an experiment, in the order of dvc.yaml, the stages that write what it reads."""
    declared = {name: one for name, one in load_declarations(experiment).items() if name != FINGERPRINT}
    written = {name: [f"data/{experiment}/{output}/" for output in one.outputs] for name, one in declared.items()}

    def is_read(paths_read: Iterable[str], written: Iterable[str]) -> bool:
        # A file in a folder that is written, or a folder around what is written.
        read = [f"{path}/" for path in paths_read]
        return any(one.startswith(other) or other.startswith(one) for one in read for other in written)

    return {
        name: tuple(other for other in declared if other != name and is_read(one.inputs, written[other]))
        for name, one in declared.items()
    }


def make_output_patterns(
    *, is_uncached: bool = False, kinds: Iterable[str] = ("outs", "metrics", "plots")
) -> list[re.Pattern[str]]:
    """Return patterns of the stages' outputs and the files in them, for any experiment; none if dvc.yaml is invalid.

    Parameters
    ----------
    is_uncached
        Only outputs that dvc.yaml keeps out of DVC's cache.
    kinds
        Only outputs below these keys of dvc.yaml.
    """
    try:
        stages = load_written_yaml(paths.find_root() / paths.MARKER)["stages"]
        bodies = [stage.get("do", stage) for stage in stages.values()]
        entries: list[Any] = [one for body in bodies for kind in kinds for one in body.get(kind, [])]
    except (OSError, ParamsError, TypeError, KeyError, AttributeError):
        return []  # DVC reports that
    named = [next(iter(entry.items())) if isinstance(entry, dict) else (str(entry), None) for entry in entries]
    return [
        re.compile(re.escape(path).replace(re.escape("${item}"), "[a-z0-9_]+") + "(?=/|$)")
        for path, options in named
        if not is_uncached or (options or {}).get("cache") is False
    ]


def read_section(params: Params, name: str) -> Any:
    """Return the value of a dotted name in params as plain data, None if there is no such name.

    Fields that are only shown to readers are left out of the sections around them: a stage that shows them names them.
    """
    tree = params.model_dump(mode="json")
    for wording in find_wordings(Params):
        if wording.startswith(f"{name}."):
            parent, _, field = wording.rpartition(".")
            find_section(tree, parent).pop(field)
    return find_section(tree, name)


def find_section(tree: Mapping[str, Any], name: str) -> Any:
    """Return the value of a dotted name in plain data, None if there is no such name."""
    value: Any = tree
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def compute_section_digests(params: Params) -> dict[str, dict[str, str]]:
    """Return by stage the digest of each field of its `digested` sections, e.g. of `wrangling.drop`."""

    def compute_fields(section: str) -> dict[str, str]:
        value = read_section(params, section)
        fields = {f"{section}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {}
        return {name: digest([json.dumps(one, sort_keys=True)]) for name, one in (fields or {section: value}).items()}

    return {
        stage: {name: one for section in declared.digested for name, one in compute_fields(section).items()}
        for stage, declared in load_declarations(params.experiment).items()
    }

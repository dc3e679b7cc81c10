"""What dvc.yaml declares of each stage: the params it reads, the files it reads and writes.

Read without DVC, which takes a second to import. What is stale of it: `labkit.run.pipeline`.
"""

import re
from dataclasses import dataclass
from typing import Any

from labkit import paths
from labkit.errors import ParamsError
from labkit.yaml_file import load_plain, load_written_yaml


@dataclass(frozen=True)
class Declaration:
    """What dvc.yaml says of one stage: the params sections it reads, the outputs it writes, the files it reads."""

    sections: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()


def load_declarations(experiment: str) -> dict[str, Declaration]:
    """Read dvc.yaml without DVC: each stage's declaration.

    Outputs are relative to the experiment's data folder, inputs to the root.
    """
    stages = load_plain(paths.find_root() / paths.MARKER)["stages"]
    folder = f"data/{experiment}/"
    found = {}
    for name, stage in stages.items():
        body = stage.get("do", stage)
        sections = [key for entry in body.get("params", []) for keys in entry.values() for key in keys]
        listed = [*body.get("outs", []), *body.get("metrics", []), *body.get("plots", [])]
        outputs = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in listed]
        named = [output.replace("${item}", experiment).removeprefix(folder) for output in outputs]
        inputs = [dep.replace("${item}", experiment) for dep in body.get("deps", [])]
        found[str(name)] = Declaration(tuple(sections), tuple(named), tuple(inputs))
    return found


def make_output_patterns(*, is_uncached: bool = False) -> list[re.Pattern[str]]:
    """Return what finds the outputs of the stages, and what is in them, for any experiment; none if dvc.yaml is broken.

    Parameters
    ----------
    is_uncached
        Only those which dvc.yaml keeps out of DVC's cache.
    """
    try:
        stages = load_written_yaml(paths.find_root() / paths.MARKER)["stages"]
        bodies = [stage.get("do", stage) for stage in stages.values()]
        kinds = ("outs", "metrics", "plots")
        entries: list[Any] = [one for body in bodies for kind in kinds for one in body.get(kind, [])]
    except (OSError, ParamsError, TypeError, KeyError, AttributeError):
        return []  # DVC reports that
    named = [next(iter(entry.items())) if isinstance(entry, dict) else (str(entry), None) for entry in entries]
    return [
        re.compile(re.escape(path).replace(re.escape("${item}"), "[a-z0-9_]+") + "(?=/|$)")
        for path, options in named
        if not is_uncached or (options or {}).get("cache") is False
    ]

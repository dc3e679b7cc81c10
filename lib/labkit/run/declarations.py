"""What dvc.yaml declares of each stage: the params it reads, the files it reads and writes.

Read without DVC, which takes a second to import. What is stale of it: `labkit.run.pipeline`.
"""

from dataclasses import dataclass

from labkit import paths
from labkit.yaml_file import load_plain


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


def list_outputs(experiment: str) -> dict[str, list[str]]:
    """Return what each stage of an experiment writes, from the root on."""
    declared = load_declarations(experiment)
    return {name: [f"data/{experiment}/{output}" for output in stage.outputs] for name, stage in declared.items()}

"""Points of the latest sweep as runs that can be compared: what their stages wrote is in folders of the sweep."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from labkit import paths
from labkit.artifacts import PLACES
from labkit.errors import DataError, MissingDataError, ParamsError, list_briefly
from labkit.params.load import parse_file
from labkit.run.records import ledger_index
from labkit.stages.past_run import PastRun, find_past_run
from labkit.storage.atomic import parse_json
from labkit.storage.digests import compute_digest
from labkit.sweep.nodes import MARKER, Node, find_node_root, find_sweeps_dir, is_unchanged, list_written
from labkit.sweep.result import Result, Row, compute_params_digest, load_result

POINT = "@point"


@dataclass(frozen=True)
class PointRun(PastRun):
    """A point of a sweep.

    Attributes
    ----------
    row
        The point, with the node of each of its stages.
    """

    row: Row = field(kw_only=True)

    def find_artifact(self, artifact: str) -> Path:
        """Return the file that holds an artifact of the point, verified.

        Raises
        ------
        MissingDataError
            The sweep ended before the stage that writes it, or its folder was removed.
        DataError
            It was changed after its stage wrote it.
        """
        experiment = self.record["experiment"]
        place = f"data/{experiment}/{PLACES[artifact]}"
        for stage, key in self.row.keys.items():
            if not any(f"{place}/".startswith(f"{name}/") for name in list_written(experiment, stage)):
                continue
            root = find_node_root(experiment, key)
            node = read_node(root, stage, key)
            if place not in node.files:
                break
            if not is_unchanged(root, node, place):
                raise DataError(f"{paths.show_path(root / place)} was changed after its stage wrote it: sweep again")
            return root / place
        raise MissingDataError(f"no {place}: the stage that writes it has not run for point {self.row.number}")

    def load_params_content(self) -> str:
        """Return the content of the params file that the point used.

        Raises
        ------
        MissingDataError
            Its folder was removed.
        """
        experiment = self.record["experiment"]
        for path in sorted((find_sweeps_dir(experiment) / "points").glob(f"*/params/{experiment}.yaml")):
            content = path.read_text(encoding="utf-8")
            # Those of earlier sweeps are there, too, and need not be valid any more.
            with suppress(ParamsError):
                if compute_params_digest(parse_file(content, path).params) == self.row.params:
                    return content
        raise MissingDataError(f"params of point {self.row.number}: no longer among the folders of the sweep")


def read_node(root: Path, stage: str, key: str) -> Node:
    """Return a node that was done, whether or not it is up to date."""
    try:
        node = Node(**parse_json((root / MARKER).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise MissingDataError(f"what stage {stage} wrote is no longer in {paths.show_path(root)}") from error
    if node.key != key:
        raise MissingDataError(f"what stage {stage} wrote was replaced in {paths.show_path(root)}")
    return node


def find_compared_run(experiment: str, word: str) -> PastRun:
    """Return a run or a point of the latest sweep.

    Parameters
    ----------
    word
        `@point` and a number for a point, or what `labkit.stages.past_run.find_past_run` accepts.

    Raises
    ------
    ParamsError
        There is no such run or point.
    TrackingError
        The record of a run is no longer in MLflow.
    """
    if not word.startswith(POINT):
        return find_past_run(experiment, word)
    result, number = load_result(experiment), word.removeprefix(POINT)
    row = next((one for one in result.rows if str(one.number) == number), None)
    if row is None or not row.keys:
        numbers = sorted(one.number for one in result.rows if one.keys)
        raise ParamsError(
            f"{word}: not a point of the latest sweep of {experiment} with a finished stage: write {POINT} and one of "
            f"{list_briefly(map(str, numbers)) or 'none yet'}"
        )
    return PointRun(f"point {row.number} of {result.run}", "", describe_point(result, row), row=row)


def describe_point(result: Result, row: Row) -> Mapping[str, object]:
    """Return what `record.json` holds of a run, as far as it is known of a point."""
    experiment, entry = result.experiment, ledger_index.find_entry(result.run)
    facts = {} if entry is None else entry.facts
    raw = find_node_root(experiment, row.keys["source"]) / "data" / experiment / PLACES["raw"] if row.keys else None
    outputs = {f"data/{experiment}/{PLACES['raw']}": compute_digest(raw)} if raw and raw.is_dir() else {}
    return {
        "experiment": experiment,
        "started": "" if entry is None else entry.at,
        # Which files were changed is on record, but not their content.
        "code": {
            "commit": facts.get("commit"),
            "files": {line.split(maxsplit=1)[1]: {"git": line.split()[0]} for line in facts.get("changed", [])},
        },
        "stages": {"source": {"outputs": outputs}},
        "params": {"artifact": f"{experiment}.yaml"},
    }

"""Runs the nodes of a sweep: each that is not done once, however many points need it, and records the points.

Called by `labkit.sweep.session`, which plans the sweep. Read next: `labkit.sweep.nodes`.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import paths
from labkit.run.capacity import USUAL_BYTES
from labkit.run.core_share import share_cores
from labkit.run.records import recovery
from labkit.storage.atomic import parse_json
from labkit.sweep.nodes import Node, compute_node_key, find_node_root, load_node, prepare_node
from labkit.sweep.points import Point

if TYPE_CHECKING:
    from labkit.run.records.tracking import Record
    from labkit.sweep.engine import Engine
    from labkit.sweep.worker import Task

MOST_TRIES = 2
"""How often a node is started whose process is killed."""
KIND = "sweep point"


@dataclass
class Progression:
    """How far one point has come.

    Attributes
    ----------
    fingerprints
        Folder of the fingerprints of the stages' code for its params.
    nodes
        What is done, by stage, in order.
    key
        Key of the node that it needs next, None at its end.
    failure
        Why it stopped; empty if it did not.
    """

    point: Point
    fingerprints: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    key: str | None = None
    failure: str = ""
    record: "Record | None" = None

    @property
    def metrics(self) -> dict[str, float]:
        """What its stages logged."""
        return {name: value for node in self.nodes.values() for name, value in node.metrics.items()}

    def compute_key(self, stage: str) -> str:
        """Return the key of a stage, given what the earlier ones wrote."""
        files = {name: one for node in self.nodes.values() for name, one in node.files.items()}
        return compute_node_key(self.point.params, stage, self.fingerprints, files)


@dataclass
class Sweep:
    """One sweep under way.

    Attributes
    ----------
    stages
        The stages to run, in order.
    warm
        Address of the server from which kernels are forked.
    expected_bytes
        Peak memory of each stage as far as it was measured.
    stack
        Keeps the runs of the points in MLflow open.
    parent
        The run in MLflow of the whole sweep.
    done, failures
        The nodes that are done, and why others failed, by key.
    ran
        Keys of the nodes that this sweep ran.
    n_proposed
        Trials of a search that have ended.
    """

    experiment: str
    stages: Sequence[str]
    progressions: list[Progression]
    engine: "Engine"
    report: Callable[[str], None]
    warm: str
    expected_bytes: dict[str, int]
    stack: ExitStack
    parent: "Record"
    done: dict[str, Node] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    under_way: dict[str, Progression] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    n_proposed: int = 0

    def run(self) -> None:
        """Run every node that is not done."""
        while True:
            for progression in self.progressions:
                self.advance(progression)
            self.start_ready()
            if not self.under_way:
                return
            for task, code in self.engine.wait():
                self.conclude(task, code)

    def advance(self, one: Progression) -> None:
        """Take over all nodes that are done for a point, up to the one that it has to wait for."""
        while not one.failure and len(one.nodes) < len(self.stages):
            stage = self.stages[len(one.nodes)]
            if one.key is None:
                one.key = one.compute_key(stage)
                if one.key not in self.done | self.under_way and (node := load_node(one.point.params, stage, one.key)):
                    self.done[one.key] = node
            one.failure = self.failures.get(one.key, "")
            if one.key not in self.done:
                return
            one.nodes[stage], one.key = self.done[one.key], None

    def start_ready(self) -> None:
        """Start the nodes that points wait for, as far as there is room."""
        for one in self.progressions:
            if one.key is None or one.failure or one.key in self.under_way:
                continue
            stage = self.stages[len(one.nodes)]
            if not self.engine.has_room(self.expect_bytes(stage)):
                return
            self.start(one, one.key, stage)

    def expect_bytes(self, stage: str) -> int:
        """Return the memory that a node of a stage is expected to need."""
        return self.expected_bytes.get(stage) or USUAL_BYTES

    def start(self, one: Progression, key: str, stage: str) -> None:
        """Start a node, in MLflow below the run of the first point that needs it."""
        from labkit.sweep.worker import Task

        self.close_left(key)
        root = prepare_node(
            one.point.params,
            one.point.file.content,
            stage,
            key,
            fingerprints=one.fingerprints,
            sources={name: find_node_root(self.experiment, node.key) for name, node in one.nodes.items()},
        )
        environment = {
            paths.PARENT_VARIABLE: self.open_point(one).run_id,
            paths.ORIGIN_VARIABLE: str(paths.find_root()),
            "MLFLOW_TRACKING_URI": paths.get_tracking_uri(),
        }
        if self.engine.is_here:
            environment[paths.CORES_VARIABLE] = str(share_cores(self.engine.n_jobs))
        self.tries[key] = self.tries.get(key, 0) + 1
        self.under_way[key] = one
        self.engine.submit(Task(key, self.experiment, stage, root, self.expect_bytes(stage), environment, self.warm))

    def open_point(self, one: Progression) -> "Record":
        """Open the run of a point in MLflow unless it is open, and return it."""
        from labkit.run.records import tracking

        if one.record is None:
            tags = {"labkit.kind": KIND, "labkit.point": str(one.point.number)}
            name = f"point {one.point.number}"
            one.record = self.stack.enter_context(
                tracking.open_run(one.point.params, name, parent_id=self.parent.run_id, tags=tags)
            )
            one.record.params |= one.point.values
        return one.record

    def conclude(self, task: "Task", code: int) -> None:
        """Take note of a node that has ended."""
        one = self.under_way.pop(task.key)
        # The marker counts, not the exit code: it is written last of all.
        if node := load_node(one.point.params, task.stage, task.key):
            self.done[task.key] = node
            self.ran.append(task.key)
            self.expected_bytes[task.stage] = max(node.peak_bytes, self.expected_bytes.get(task.stage, 0))
            self.report_end(task, f"ran       {node.seconds:6.1f} s  {node.headline}")
            return
        self.close_left(task.key)
        if code < 0 and self.tries[task.key] < MOST_TRIES:
            self.report_end(task, "killed, starts again")
            return
        self.failures[task.key] = load_failure(task, code)
        self.report_end(task, f"failed    {self.failures[task.key].splitlines()[0]}")

    def report_end(self, task: "Task", how: str) -> None:
        """Show how a node ended."""
        numbers = [str(one.point.number) for one in self.progressions if one.key == task.key]
        self.report(f"{task.stage:<12} point {','.join(numbers):<8} {how}")

    def close_left(self, key: str) -> None:
        """Close the records that a killed process of a node left open."""
        root = find_node_root(self.experiment, key)
        if (root / paths.MARKER).exists():
            with paths.use_root(root):
                recovery.reconcile()

    def stop(self) -> None:
        """End all nodes that are under way and close their records."""
        for task in self.engine.stop():
            self.close_left(task.key)

    def close_points(self) -> None:
        """Record in MLflow what came of each point."""
        for one in self.progressions:
            record = self.open_point(one)
            record.metrics |= one.metrics
            record.tags |= {f"labkit.node.{stage}": node.run_id or "checkout" for stage, node in one.nodes.items()}
            record.tags |= {"labkit.reason": one.failure.splitlines()[0]} if one.failure else {}
            record.status = "FAILED" if one.failure else "FINISHED"


def load_failure(task: "Task", code: int) -> str:
    """Return why a node failed."""
    from labkit.sweep.worker import FAILURE, LOG

    try:
        return str(parse_json((task.root / FAILURE).read_bytes())["message"])
    except (OSError, ValueError, KeyError, TypeError):
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"stage {task.stage}: its process {how}; what it printed: {paths.show_path(task.root / LOG)}"

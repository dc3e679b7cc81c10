"""Services to test: releases of small models, and real processes that serve them."""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from labkit.model.explanation.background import make_background_files
from labkit.model.onnx import converters
from labkit.model.onnx.compact import compact
from labkit.model.release import bundle
from labkit.model.release.own_code import OwnCode
from labkit.serving.board import Board
from labkit.serving.engine import Engine, load_engine
from labkit.serving.listener import bind
from labkit.serving.settings import FEEDBACK, LOG, LOOPBACK, SHADOW, Options, Pointer, Settings
from labkit.serving.supervisor import Supervisor

from tests.model.tables import make_model, make_table

CONTRACT = {"columns": {"a b": {"nullable": True}, "a_b": {"nullable": False, "greater_than_or_equal_to": -5000.0, "less_than_or_equal_to": 5000.0},
                        "größe": {"nullable": True}, 'text, "x"': {}, "flag": {}}}  # fmt: skip
FACTS = {
    "binary": {
        "task": "classification",
        "classes": ["no", "yes"],
        "positive": "yes",
        "threshold": 0.3,
        "question": "Will they buy?",
        "labels": {"yes": "buys"},
    },
    "multiclass": {"task": "classification", "classes": [0, 1, 2], "positive": None, "threshold": None},
    "regression": {"task": "regression", "classes": [], "positive": None, "threshold": None},
}


PLAIN_COLUMNS = ("a b", "a_b", "größe", "flag")
"""Columns whose names have no character that JSON escapes."""


def write_release(
    folder: Path,
    task: str = "binary",
    *,
    model: str = "lightgbm",
    threshold: float = 0.3,
    columns: tuple[str, ...] = (),
    has_graph: bool = True,
    n_background: int = 5,
    code: OwnCode | None = None,
) -> Path:
    """Write a release of a small model of all columns, or of some."""
    fitted = make_model(model, task, columns)
    facts = {**FACTS[task], "experiment": "shop", "estimator": model, "target": "outcome", "metric": "m", "metrics": {}}
    facts |= {"threshold": threshold} if task == "binary" else {}
    bundle.write_release(
        folder,
        fitted,
        graph=compact(converters.convert(fitted), fitted[0]) if has_graph else None,
        facts=facts,
        contract=json.dumps(CONTRACT),
        card="# Card",
        example=make_table()[list(fitted[0].inputs_)],
        code=code,
    )
    bundle.extend_release(folder, make_background_files(make_table()[list(fitted[0].inputs_)].head(n_background)))
    return folder


def open_engine(folder: Path, task: str = "binary", *, columns: tuple[str, ...] = ()) -> Engine:
    """Return an engine of a small model."""
    return load_engine(write_release(folder, task, columns=columns), digest=None, version=7)


def make_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as a request holds them."""
    return list(json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15)))


def make_pointer(release: Path, generation: int) -> Pointer:
    """Return the pointer to a release, whose generation is also its version."""
    return Pointer(generation, str(release), bundle.compute_release_digest(release), generation)


@contextmanager
def start(
    folder: Path,
    release: Path,
    *,
    n_workers: int = 1,
    has_shadow: bool = False,
    canary_percent: float = 0,
    canary_key: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Supervisor]:
    """Run a service with worker processes of its own, and stop it."""
    listener = bind(Options(port=0))
    run_dir = folder / "run"
    run_dir.mkdir(parents=True)
    make_pointer(release, 1).save(run_dir / "current.json")
    settings = Settings(
        experiment="shop",
        folder=str(run_dir),
        log_folder=str(folder / LOG),
        feedback_path=str(folder / FEEDBACK),
        n_workers=n_workers,
        hosts=LOOPBACK,
        shadow_folder=str(folder / SHADOW) if has_shadow else None,
        canary_percent=canary_percent,
        canary_key=canary_key,
    )
    settings.save()
    supervisor = Supervisor(settings, Board(settings.board_path, n_workers=n_workers), listener, report)
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()
        listener.close()


class Client:
    """A client that keeps its connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request, JSON unless the body is bytes, and return status and body of the response."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if content is not None else {}
        self.connection.request(
            method or ("GET" if content is None else "POST"), path, content, {**sent, **(headers or {})}
        )
        response = self.connection.getresponse()
        return response.status, response.read()

    def predict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the response to a request that must succeed."""
        status, content = self.ask("/predict", {"rows": rows})
        assert status == 200, content
        return dict(json.loads(content))


def get_port(supervisor: Supervisor) -> int:
    """Return the port of a service."""
    return int(supervisor.listener.getsockname()[1])


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)

"""Measure services of one model side by side: MLflow's, BentoML's, labkit's, and the model alone in this process.

`python benchmarks/serving.py --release DIR --mlflow-model DIR --rows TABLE --bentoml PYTHON`, run in a checkout of the
release's experiment. PYTHON is an environment with BentoML and the wheel of the same release (`labkit package`). The
client is wrk, with one thread and a different body for each request. All services run at once and are asked in turn,
so that each round meets the same load of the machine; medians over the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from labkit.model.release.runtime import Runtime, load_runtime

BODIES, BATCH_ROWS = 1000, 1000
CASES = {"1": (1, 1), "8": (8, 1), "64": (64, 1), f"1, {BATCH_ROWS:,} rows": (1, BATCH_ROWS)}
"""Connections and rows per request, by name."""
SCRIPT = """
local bodies, place = {}, 0
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
wrk.method, wrk.headers["content-type"] = "POST", "application/json"
request = function()
  place = place % #bodies + 1
  return wrk.format(nil, os.getenv("ROUTE"), nil, bodies[place])
end
done = function(summary, latency)
  local e = summary.errors
  io.stderr:write(string.format('{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
BENTO = """
import bentoml
import {package}


@bentoml.service(workers=1, traffic={{"timeout": 60}})
class Service:
    @bentoml.api
    async def predict(self, rows: list[dict]) -> dict:
        return {package}.predict(rows)
"""


@dataclass
class Server:
    """A service under test."""

    name: str
    command: list[str]
    port: int
    route: str
    encode: Callable[[list[dict[str, Any]]], str]
    folder: Path
    seconds: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def start(self, body: str, log: Path) -> None:
        """Start the process and wait for its first prediction."""
        started = time.monotonic()
        # MLflow starts uvicorn by its name.
        environment = {**os.environ, "PATH": f"{Path(self.command[0]).parent}:{os.environ['PATH']}"}
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )
        while time.monotonic() < started + 180 and self.process.poll() is None:
            with suppress(OSError):
                self.ask(body)
                self.seconds = time.monotonic() - started
                return
            time.sleep(0.1)
        raise SystemExit(f"{self.name} does not predict; see {log}: {log.read_text()[-2000:]}")

    def ask(self, body: str) -> dict[str, Any]:
        """Send one request and return the answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{self.route}", body.encode(), {"content-type": "application/json"}
        )
        found: dict[str, Any] = json.loads(urllib.request.urlopen(request).read())
        return found

    def predict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the answer for some rows."""
        return self.ask(self.encode(rows))

    def list_processes(self) -> list[psutil.Process]:
        """Return the process and its children."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def measure_cpu(self) -> float:
        """Return the CPU seconds of all processes so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self.list_processes())

    def stop(self) -> None:
        """End all processes."""
        for one in self.list_processes():
            with suppress(psutil.Error):
                one.terminate()


def check_same_model(servers: list[Server], opened: Runtime, rows: list[dict[str, Any]]) -> None:
    """Stop unless every service predicts the probabilities of the release, which MLflow gives as lists."""
    expected = [[*row.values()] for row in opened.name_predictions(opened.predict(rows))["probabilities"]]
    for one in servers:
        found = one.predict(rows)
        named = found.get("probabilities")
        given = found["predictions"] if named is None else [[*row.values()] for row in named]
        if not np.allclose(given, expected, rtol=0, atol=1e-6):
            raise SystemExit(f"{one.name} serves another model than the release")


def measure(server: Server, case: str, bodies: Path, script: Path, seconds: int) -> None:
    """Ask a service for some seconds and keep what came out."""
    before = server.measure_cpu()
    connections = str(CASES[case][0])
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    environment = {**os.environ, "BODIES": str(bodies), "ROUTE": server.route}
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}"], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stderr)
    found["cpu_ms"] = (server.measure_cpu() - before) * 1e3 / max(found["requests"], 1)
    found["per_second"] = found["requests"] / found["seconds"]
    server.rounds.setdefault(case, []).append(found)


def measure_floor(opened: Runtime, rows: list[dict[str, Any]], n_rows: int) -> float:
    """Return the CPU milliseconds of predictions in this process, the least of ten rounds."""
    batches = [rows[:BATCH_ROWS]] if n_rows > 1 else [[row] for row in rows[:300]]
    spent = []
    for _ in range(10):
        started = time.process_time()
        for batch in batches:
            opened.predict(batch)
        spent.append((time.process_time() - started) * 1e3 / len(batches))
    return min(spent)


def make_rows(table: Path, opened: Runtime) -> list[dict[str, Any]]:
    """Return real rows without missing values, which MLflow's signature of older models refuses."""
    names = list(opened.row_features.inputs_)
    known = pd.read_parquet(table)[names].dropna().sample(BODIES, random_state=0, replace=True)
    rows: list[dict[str, Any]] = json.loads(known.to_json(orient="records", date_format="iso", double_precision=15))
    return rows


def encode_split(rows: list[dict[str, Any]]) -> str:
    """Return a body of MLflow's protocol."""
    return json.dumps({"dataframe_split": {"columns": [*rows[0]], "data": [[*row.values()] for row in rows]}})


def encode_rows(rows: list[dict[str, Any]]) -> str:
    """Return a body of labkit's protocol, which the service made with BentoML takes as well."""
    return json.dumps({"rows": rows})


def make_servers(given: argparse.Namespace, experiment: str, folder: Path) -> list[Server]:
    """Return the services, not yet started."""
    (folder / "service.py").write_text(BENTO.format(package=f"{experiment}_model"))
    bin_dir, here = Path(sys.executable).parent, Path.cwd()
    served = ["models", "serve", "-m", str(given.mlflow_model), "-p", "5201", "--env-manager", "local", "-w", "1"]
    own = ["serve", experiment, "--release", str(given.release.resolve()), "--port", "5203"]
    bento = ["-m", "bentoml", "serve", "service:Service", "--port", "5202", "--host", "127.0.0.1"]
    return [
        Server("mlflow", [str(bin_dir / "mlflow"), *served], 5201, "/invocations", encode_split, here),
        Server("BentoML", [str(given.bentoml), *bento], 5202, "/predict", encode_rows, folder),
        Server("labkit", [str(bin_dir / "labkit"), *own], 5203, "/predict", encode_rows, here),
    ]


def show(servers: list[Server], floor: dict[str, float]) -> None:
    """Print medians, and ratios to MLflow."""
    names = ("connections", "service", "requests/s", "× mlflow", "p50 ms", "p99 ms", "errors", "CPU ms/request")
    print(f"| {' | '.join(names)} | mlflow's CPU ÷ this |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        medians = {
            one.name: {key: statistics.median(found[key] for found in one.rounds[case]) for key in one.rounds[case][0]}
            for one in servers
        }
        first = medians["mlflow"]
        for name, found in medians.items():
            errors = sum(one["errors"] for server in servers if server.name == name for one in server.rounds[case])
            print(
                f"| {case} | {name} | {found['per_second']:,.0f} | {found['per_second'] / first['per_second']:.1f} | "
                f"{found['p50']:.1f} | {found['p99']:.1f} | {errors:.0f} | {found['cpu_ms']:.3f} | "
                f"{first['cpu_ms'] / found['cpu_ms']:.0f} |"
            )
        print(f"| {case} | in process | | | | | | {floor[case]:.3f} | {first['cpu_ms'] / floor[case]:.0f} |")
    for one in servers:
        memory = sum(process.memory_full_info().pss for process in one.list_processes()) / 2**20
        print(f"{one.name}: first prediction after {one.seconds:.1f} s, {memory:.0f} MB (proportional set size)")


def main() -> None:
    """Start the services, measure them in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--release", "--mlflow-model", "--rows", "--bentoml"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    given = parser.parse_args()
    opened = load_runtime(given.release)
    rows = make_rows(given.rows, opened)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        folder = Path(scratch)
        (script := folder / "bodies.lua").write_text(SCRIPT)
        servers = make_servers(given, opened.facts["experiment"], folder)
        for one in servers:
            for n_rows in (1, BATCH_ROWS):
                batches = [[row] for row in rows] if n_rows == 1 else [rows[:n_rows], rows[:n_rows][::-1]]
                content = "\n".join(one.encode(batch) for batch in batches)
                (folder / f"{one.name}-{n_rows}").write_text(content)
            one.start(one.encode(rows[:1]), folder / f"{one.name}.log")
            running.callback(one.stop)
        check_same_model(servers, opened, rows[:200])
        for _ in range(given.rounds):
            for case, (_, n_rows) in CASES.items():
                for one in servers:
                    measure(one, case, folder / f"{one.name}-{n_rows}", script, given.seconds)
        show(servers, {case: measure_floor(opened, rows, n_rows) for case, (_, n_rows) in CASES.items()})


if __name__ == "__main__":
    main()

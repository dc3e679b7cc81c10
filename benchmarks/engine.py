"""What labkit's engine costs compared with the bare tools.

python benchmarks/engine.py                 everything, about twenty minutes on two cores
python benchmarks/engine.py notebooks       one part: notebooks, pipeline, unchanged, jupyter, parallel
"""

import argparse
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nbformat
from side_by_side import Timing, describe_machine, make_table, measure, write_section

ROOT = Path(__file__).resolve().parents[1]
HEAVY = "import pandas, seaborn, sklearn.ensemble, mlflow, pycaret.classification"
BIN = Path(sys.executable).parent


# The bare tools warn of their open sockets at every start.
logging.getLogger("IPKernelApp").setLevel(logging.ERROR)


def make_notebook(path: Path, *sources: str) -> Path:
    """Write a notebook of code cells, the first of them tagged `parameters`."""
    cells = [nbformat.v4.new_code_cell(source) for source in ('experiment = "x"', *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@contextmanager
def make_checkout(*, is_bare: bool = False) -> Iterator[Path]:
    """Yield a checkout in a folder of its own: a copy of this one, or an empty one."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "checkout"
        if is_bare:
            for name in ("params", "notebooks"):
                (root / name).mkdir(parents=True)
            (root / "dvc.yaml").touch()
        else:
            subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
            os.environ["PYTHONPATH"] = str(root / "lib")
        os.environ["LABKIT_ROOT"] = str(root)
        yield root


def call(*command: str, folder: Path, **variables: str) -> None:
    """Run a command to its end; a failure ends the benchmark."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def run_in_runner(path: Path) -> None:
    """Execute a notebook as a stage's is, in this process."""
    from labkit import paths
    from labkit.run.notebook.executor import run_notebook
    from labkit.run.notebook.source import read_source

    ended = run_notebook(
        read_source(path),
        path.with_name(f"{uuid.uuid4().hex}.ipynb"),
        parameters={"experiment": "y"},
        environment=paths.make_environment(),
        on_cell=lambda *_: None,
    )
    if ended.failure:
        raise SystemExit(str(ended.failure))


def compare_notebooks() -> None:
    """A trivial and an import-heavy notebook."""
    from labkit import paths
    from labkit.run.kernels import servers
    from papermill.execute import execute_notebook

    tables = []
    with make_checkout(is_bare=True) as root:
        notebooks = {
            "trivial": make_notebook(root / "notebooks" / "trivial.ipynb", "1 + 1", "print('done')"),
            "import-heavy": make_notebook(root / "notebooks" / "heavy.ipynb", HEAVY, "print('done')"),
        }
        with servers.open_kernel_server() as address:
            os.environ[paths.WARM_VARIABLE] = str(address)
            servers.ask_state(address, seconds=120)
            for name, path in notebooks.items():
                out = str(path.with_name("out.ipynb"))
                competitors: dict[str, Callable[[], object]] = {
                    "papermill command": lambda p=path, o=out: call(
                        str(BIN / "papermill"), str(p), o, "-p", "experiment", "y", folder=p.parent
                    ),
                    "papermill in process": lambda p=path, o=out: execute_notebook(
                        str(p), o, parameters={"experiment": "y"}, kernel_name="python3", progress_bar=False
                    ),
                    "labkit, warm": lambda p=path: run_in_runner(p),
                }
                timings = measure(competitors, n_later=7)
                ratio = timings["papermill in process"].median / timings["labkit, warm"].median
                table = make_table(timings, base="papermill in process")
                tables.append(f"{name.capitalize()} notebook: labkit is **{ratio:.1f} times** as fast.\n\n{table}")
    write_section("1. One notebook", "\n\n".join([describe_machine(), *tables]))


SHRUNK = ("training.models=[dummy, linear]", "training.folds=2", "evaluation.bootstrap_samples=100")


def compare_pipelines() -> None:
    """The six notebooks with the modelling shrunk to nothing, each competitor in a fresh process."""
    with make_checkout() as root:
        settings = [word for setting in SHRUNK for word in ("-S", setting)]
        call("labkit", "run", "diabetes", *settings, folder=root)
        computing, recording = (write_plain_script(root, is_recorded=is_recorded) for is_recorded in (False, True))
        repro = write_bare_pipeline(root)
        seeds = iter(range(1000, 2000))

        def run_script(path: Path) -> None:
            with tempfile.TemporaryDirectory() as store:
                call(sys.executable, str(path), store, folder=root / "notebooks")

        competitors: dict[str, Callable[[], object]] = {
            "plain script that does the same work (the floor)": lambda: run_script(recording),
            "labkit run": lambda: call("labkit", "run", "diabetes", "-S", f"seed={next(seeds)}", folder=root),
            "dvc repro over papermill, nothing recorded": lambda: call("dvc", "repro", "-q", "-f", folder=repro),
            "plain script that only computes": lambda: run_script(computing),
        }
        timings = measure(competitors, n_later=3)
    write_section("2. Six stages", f"{describe_machine()}\n\n{describe_pipelines(timings)}")


def describe_pipelines(timings: dict[str, Timing]) -> str:
    """Describe what each way to run six stages adds to the floor."""
    floor, ours, theirs, bare = (timing.median for timing in timings.values())
    less = (theirs - bare) / max(ours - floor, 0.01)
    summary = (
        f"labkit takes **{ours / floor:.2f} times** the floor: one script with the code of all notebooks that also "
        "records the parameters and metrics of each part in MLflow and registers the model. On top of that labkit "
        f"writes six reports. Compared with a script that only computes, it takes {ours / bare:.2f} times as long.\n\n"
        f"`dvc repro` over papermill, which records nothing, takes {theirs / bare:.2f} times as long as that. "
        f"It adds {theirs - bare:.1f} s to its work, labkit {ours - floor:.1f} s, **{less:.1f} times** less.\n\n"
    )
    return summary + make_table(timings, base=next(iter(timings)))


def list_notebooks(root: Path) -> list[Path]:
    """Return the six notebooks of the pipeline."""
    return sorted((root / "notebooks").glob("0[1-6]_*.ipynb"))


HEAD = """
import json, sys
from labkit.run.notebook.step import Step
logged = {}
Step.log = lambda step, **metrics: logged.update(metrics)
"""
RECORD_HEAD = """
import mlflow
mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/floor.db")
mlflow.set_experiment("floor")
mlflow.start_run(run_name="pipeline")
"""
RECORD = """
with mlflow.start_run(run_name=step.name, nested=True):
    mlflow.log_params(step.params.model_dump(mode="json"))
    mlflow.log_metrics({name: float(value) for name, value in logged.items()})
logged.clear()
"""
REGISTER = """
from labkit.model.release.skops_file import TRUSTED
model, rows = step.load("model"), step.load("clean_holdout").head()
mlflow.sklearn.log_model(
    model, name="model", registered_model_name="floor", serialization_format="skops", skops_trusted_types=list(TRUSTED),
    signature=mlflow.models.infer_signature(rows, model.predict(rows)), pip_requirements=["scikit-learn"],
)
mlflow.MlflowClient().set_registered_model_alias("floor", "champion", "1")
mlflow.end_run()
"""


def write_plain_script(root: Path, *, is_recorded: bool) -> Path:
    """Write the code of all notebooks, one after another, as a script that one process runs.

    Parameters
    ----------
    is_recorded
        Whether it also records each part in MLflow and registers the model, as the pipeline does.
    """
    parts = [HEAD, *([RECORD_HEAD] if is_recorded else [])]
    for path in list_notebooks(root):
        parts += [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        parts += [RECORD] if is_recorded else []
    parts += [REGISTER] if is_recorded else []
    path = root / "notebooks" / ("recorded.py" if is_recorded else "computed.py")
    path.write_text("\n".join(parts))
    return path


def write_bare_pipeline(root: Path) -> Path:
    """Write a pipeline beside the checkout in which DVC calls papermill for each notebook."""
    folder = root.parent / "bare"
    folder.mkdir()
    before: list[str] = []
    stages = []
    for path in list_notebooks(root):
        out = f"{path.stem}.done"
        command = f"papermill {path} {folder / path.name} --cwd {path.parent} -p experiment diabetes && touch {out}"
        deps = "".join(f"\n    - {name}" for name in [str(path), *before])
        stages.append(f"  {path.stem[3:]}:\n    cmd: {command}\n    deps:{deps}\n    outs:\n    - {out}\n")
        before = [out]
    (folder / "dvc.yaml").write_text("stages:\n" + "".join(stages))
    call("git", "init", "-q", folder=folder)
    call("dvc", "init", "-q", folder=folder)
    return folder


def compare_unchanged() -> None:
    """Nothing to do."""
    with make_checkout() as root:
        settings = [word for setting in SHRUNK for word in ("-S", setting)]
        call("labkit", "run", "diabetes", *settings, folder=root)
        competitors: dict[str, Callable[[], object]] = {
            "dvc repro": lambda: call("dvc", "repro", "publish@diabetes", "eda@diabetes", folder=root),
            "labkit run": lambda: call("labkit", "run", "diabetes", folder=root),
        }
        timings = measure(competitors, n_later=5)
    write_section("3. Nothing to do", f"{describe_machine()}\n\n{make_table(timings, base='dvc repro')}")


class Jupyter:
    """A Jupyter server, and one kernel as a browser uses it: REST to start and restart, a websocket to run."""

    def __init__(self, root: Path, *, is_warm: bool) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        variables = {**os.environ, "JUPYTER_PATH": str(ROOT / "lib/labkit/run/kernels/jupyter") if is_warm else ""}
        options = ["--ServerApp.ip=127.0.0.1", f"--port={self.port}", "--IdentityProvider.token=t", "--allow-root"]
        self.server = subprocess.Popen(
            [str(BIN / "jupyter"), "server", "--no-browser", *options, f"--notebook-dir={root}"],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(200):
            try:
                self.ask("GET", "")
                break
            except OSError:
                time.sleep(0.2)
        self.kernel = ""

    def ask(self, method: str, path: str, body: object = None) -> dict[str, str]:
        """Call the REST interface."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "token t"},
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            content = response.read()
        return json.loads(content) if content else {}

    def start(self) -> None:
        """Start a kernel and import everything in it."""
        self.kernel = self.ask("POST", "kernels", {"name": "python3"})["id"]
        self.execute(HEAVY)

    def restart(self) -> None:
        """Restart the kernel and import everything again."""
        self.ask("POST", f"kernels/{self.kernel}/restart")
        self.execute(HEAVY)

    def stop(self) -> None:
        """End the kernel."""
        self.ask("DELETE", f"kernels/{self.kernel}")

    def execute(self, code: str) -> None:
        """Run code over the websocket and wait for the kernel's reply."""
        import websocket

        address = f"ws://127.0.0.1:{self.port}/api/kernels/{self.kernel}/channels?token=t"
        connection = websocket.create_connection(address, timeout=120)
        header = {
            "msg_id": uuid.uuid4().hex,
            "session": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": {**header, "username": "", "date": ""}, "parent_header": {}, "metadata": {}}
        connection.send(json.dumps({**message, "content": content, "channel": "shell", "buffers": []}))
        while True:
            message = json.loads(connection.recv())
            if message["msg_type"] == "execute_reply" and message["parent_header"].get("msg_id") == header["msg_id"]:
                if message["content"]["status"] != "ok":
                    raise SystemExit(str(message["content"]))
                break
        connection.close()

    def close(self) -> None:
        """End the server with everything below it."""
        os.killpg(self.server.pid, signal.SIGTERM)
        self.server.wait(30)


def compare_jupyter() -> None:
    """Start and restart of a kernel with all imports, as a person in JupyterLab waits for them."""
    from labkit.run.kernels import servers

    with make_checkout(is_bare=True) as root:
        (root / "notebooks" / "packages.py").write_text(HEAVY + "\n")
        servers.keep_server()
        ordinary, warm = Jupyter(root, is_warm=False), Jupyter(root, is_warm=True)
        try:
            starts = measure(
                {"ordinary kernel": lambda: begin(ordinary), "labkit, warm": lambda: begin(warm)}, n_later=5
            )
            restarts = measure({"ordinary kernel": ordinary.restart, "labkit, warm": warm.restart}, n_later=5)
        finally:
            ordinary.close()
            warm.close()
            servers.stop_servers()
    tables = [
        f"{what}, until `{HEAVY}` has run:\n\n{make_table(timings, base='ordinary kernel')}"
        for what, timings in (("Start", starts), ("Restart", restarts))
    ]
    write_section("4. JupyterLab", "\n\n".join([describe_machine(), *tables]))


def begin(jupyter: Jupyter) -> None:
    """Start a new kernel."""
    if jupyter.kernel:
        jupyter.stop()
    jupyter.start()


def run_many(paths: list[str]) -> list[tuple[bool, float]]:
    """Execute notebooks one after another in a process of their own; return success and seconds of each."""
    found = []
    for path in paths:
        started = time.perf_counter()
        try:
            run_in_runner(Path(path))
            is_well = True
        except BaseException as error:  # counted, and shown
            print(f"  {path}: {error}", flush=True)
            is_well = False
        found.append((is_well, time.perf_counter() - started))
    return found


STALL_SECONDS = 30


def compare_parallel() -> None:
    """64 notebooks, 8 at a time, ten times."""
    from labkit import paths
    from labkit.run.kernels import servers

    results: list[tuple[bool, float]] = []
    with make_checkout(is_bare=True) as root, servers.open_kernel_server() as address:
        os.environ[paths.WARM_VARIABLE] = str(address)
        servers.ask_state(address, seconds=120)
        for turn in range(10):
            folder = root / f"turn{turn}"
            names = [str(make_notebook(folder / f"{number}" / "a.ipynb", HEAVY, "1")) for number in range(64)]
            started = time.perf_counter()
            with ProcessPoolExecutor(8) as pool:
                results += [one for many in pool.map(run_many, [names[start::8] for start in range(8)]) for one in many]
            print(f"  turn {turn + 1}: {time.perf_counter() - started:.1f} s", flush=True)
            shutil.rmtree(folder)
    n_well = sum(is_well for is_well, _ in results)
    stalled = [seconds for _, seconds in results if seconds > STALL_SECONDS]
    times = sorted(seconds for _, seconds in results)
    summary = (
        f"**{n_well} of {len(results)}** finished, {len(stalled)} took over {STALL_SECONDS} s. One notebook, eight "
        f"at a time on these cores: median {times[len(times) // 2]:.2f} s, longest {times[-1]:.2f} s."
    )
    write_section("5. Many at once", f"{describe_machine()}\n\n{summary}")


PARTS: dict[str, Callable[[], None]] = {
    "notebooks": compare_notebooks,
    "pipeline": compare_pipelines,
    "unchanged": compare_unchanged,
    "jupyter": compare_jupyter,
    "parallel": compare_parallel,
}


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"Parts to measure, all by default: {', '.join(PARTS)}.")
    names = parser.parse_args().parts
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    # As Python is used: without compiled files, every import takes twice as long and flatters whoever avoids it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    before = dict(os.environ)
    for name in names or PARTS:
        print(name, flush=True)
        PARTS[name]()
        os.environ.clear()
        os.environ.update(before)
    print(f"written to {Path(__file__).with_name('RESULTS.md')}")


if __name__ == "__main__":
    main()

"""Kernels as forks: like ordinary ones in everything but their start, and nothing of them stays behind."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from labkit import paths
from labkit.errors import LabkitError
from labkit.run.kernels import servers
from labkit.run.kernels.provisioner import WarmProcess, WarmProvisioner, make_kernel_specs
from labkit.run.kernels.session import Kernels
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.result import Execution
from labkit.run.notebook.source import read_source

from tests.run.kernels.warm_kernels import Kernel, make_bare, wait_until
from tests.run.notebook.small_notebooks import EXPERIMENT, make_notebook

pytestmark = pytest.mark.xdist_group("warm")
LONGEST_SOCKET_NAME = 106
IMPORTS = "import lightgbm, matplotlib.pyplot, numpy, pandas, sklearn.ensemble, tqdm.auto\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a checkout whose one module lists what is imported before any kernel starts."""
    root = make_bare(tmp_path_factory.mktemp("warm"))
    (root / "notebooks" / "packages.py").write_text(IMPORTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_ROOT", str(root))
        yield root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[psutil.Process]:
    """Start a server of this process's own, to which every kernel of this file goes."""
    with pytest.MonkeyPatch.context() as patch, servers.open_kernel_server() as address:
        patch.setenv(paths.WARM_VARIABLE, str(address))
        state = servers.ask_state(address, seconds=120)
        assert state is not None
        yield psutil.Process(state["pid"])


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a checkout of its own with nothing in it, whose servers are ended afterwards."""
    make_bare(tmp_path)
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    yield tmp_path
    servers.stop_servers()


@pytest.fixture
def kernel(server: psutil.Process, tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


def run(path: Path, address: str) -> tuple[Execution, nbformat.NotebookNode]:
    """Execute a notebook in the runner, on a server or, with an empty address, in an ordinary kernel."""
    executed = path.with_name("executed.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(paths.WARM_VARIABLE, address)
        ended = run_notebook(
            read_source(path),
            executed,
            parameters={"experiment": "x"},
            environment={**os.environ},
            on_cell=lambda *_: None,
        )
    return ended, nbformat.read(executed, as_version=4)


CELLS = [
    "import sys, os, warnings\nprint(os.getcwd()); print('to stderr', file=sys.stderr)",
    "import pandas as pd\npd.DataFrame({'a': [1, 2]})",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
    "plt.get_fignums(), plt.get_backend()",
    "os.system('echo from a child'); print(sys.argv[0].split('/')[-1], __name__, sys.path[0] == '')",
    "from tqdm.auto import tqdm\ntqdm.__module__",
    "warnings.warn('careful')",
    "import signal\nsignal.getsignal(signal.SIGTERM), sys.stdin.read()",
    "1 / 0",
]


@pytest.mark.slow
def test_outputs_are_those_of_an_ordinary_kernel(server: psutil.Process, tmp_path: Path) -> None:
    path = make_notebook(tmp_path / "a.ipynb", EXPERIMENT, *CELLS)
    found = []
    for address in (os.environ[paths.WARM_VARIABLE], ""):
        _, notebook = run(path, address)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        found.append([drop_pids(output) for output in outputs])
    warm, ordinary = found
    assert "ZeroDivisionError" in warm[-1]
    assert any("image/png" in output for output in warm)
    assert warm == ordinary


def drop_pids(output: nbformat.NotebookNode) -> str:
    """Return an output without the temporary file names of cells, which hold the process's number."""
    return re.sub(r"ipykernel_\d+/\d+\.py|0x[0-9a-f]+", "", str(output))


@pytest.mark.slow
def test_kernel_is_a_fork_with_everything_imported(kernel: Kernel, server: psutil.Process) -> None:
    assert (
        kernel.ask("import sys; print('lightgbm' in sys.modules, 'labkit.run.kernels.preload' in sys.modules)")
        == "True False"
    )
    pid = int(kernel.ask("import os; print(os.getpid())"))
    assert server.pid in [parent.pid for parent in psutil.Process(pid).parents()]


@pytest.mark.slow
@pytest.mark.parametrize("is_warm", [True, False])
def test_print_without_end_comes_in_pieces(
    server: psutil.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_warm: bool
) -> None:
    """Otherwise the kernel and its client held hundreds of megabytes at a time."""
    if not is_warm:
        monkeypatch.setenv(paths.WARM_VARIABLE, "")
    kernel, sizes = Kernel(tmp_path), list[int]()
    for source in (
        "print('z' * 15_000_000, end='')",
        "import sys\nfor _ in range(15_000): sys.stdout.write('z' * 1000)",
    ):
        sizes.clear()
        kernel.client.execute_interactive(
            source,
            timeout=60,
            output_hook=lambda message: sizes.append(len(message["content"].get("text", ""))),
        )
        assert sum(sizes) == 15_000_000
        assert max(sizes) <= 1_000_000
    assert kernel.ask("import os\nif os.fork() == 0: print('from a child'); os._exit(0)\nos.wait()") != ""
    kernel.close()


def test_server_has_one_thread_where_it_forks(kernel: Kernel, server: psutil.Process) -> None:
    assert server.num_threads() == 1


@pytest.mark.slow
def test_each_kernel_has_random_numbers_of_its_own(server: psutil.Process, tmp_path: Path) -> None:
    asked = "import random, numpy; print(random.random(), numpy.random.random())"
    kernels = [Kernel(tmp_path), Kernel(tmp_path)]
    replies = [kernel.ask(asked) for kernel in kernels]
    for kernel in kernels:
        kernel.close()
    assert set(replies[0].split()).isdisjoint(replies[1].split())


@pytest.mark.slow
def test_edited_code_is_seen_by_the_next_kernel(server: psutil.Process, tmp_path: Path) -> None:
    for returned in ("before", "after, and longer"):
        (tmp_path / "helper.py").write_text(f"def read():\n    return {returned!r}\n")
        kernel = Kernel(tmp_path)
        assert kernel.ask("import helper; print(helper.read())") == returned
        kernel.close()


@pytest.mark.slow
def test_interrupt_restart_and_exit_codes(server: psutil.Process, tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    timer = ThreadPoolExecutor().submit(lambda: (time.sleep(1), kernel.manager.interrupt_kernel()))
    assert kernel.ask("import time; x = 5; time.sleep(60)") == "KeyboardInterrupt"
    timer.result()
    assert kernel.ask("print(x)") == "5"
    first = kernel.process.pid
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=60)
    assert kernel.process.pid != first
    assert kernel.ask("print('x' in globals())") == "False"
    kernel.client.execute("import os; os._exit(7)")
    wait_until(lambda: not kernel.manager.is_alive())
    assert kernel.process.poll() == 7
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=60)
    kernel.client.execute("import os; os.kill(os.getpid(), 9)")
    wait_until(lambda: not kernel.manager.is_alive())
    assert kernel.process.poll() == -signal.SIGKILL
    kernel.close()


def test_what_a_notebook_leaves_open_is_written_out(server: psutil.Process, tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.ask("import atexit; atexit.register(lambda: open('exit', 'w').write('bye'))")
    kernel.ask("stream = open('open', 'w'); stream.write('not closed')")
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel()
    assert (tmp_path / "exit").read_text() == "bye"
    assert (tmp_path / "open").read_text() == "not closed"


def test_nothing_of_a_kernel_stays(server: psutil.Process, tmp_path: Path) -> None:
    before = {child.pid for child in server.children(recursive=True)}
    kernel = Kernel(tmp_path)
    folder = Path(kernel.manager.ip).parent
    child = int(kernel.ask("import subprocess as s; print(s.Popen(['sleep', '999'], start_new_session=True).pid)"))
    assert psutil.pid_exists(child)
    assert (folder.stat().st_mode & 0o077) == 0
    kernel.close()
    wait_until(lambda: not psutil.pid_exists(child))
    wait_until(lambda: {process.pid for process in server.children(recursive=True)} <= before)
    assert not folder.exists()


BELOW = """
import os, subprocess
child = subprocess.Popen(['sleep', '999'], start_new_session=True)
start = 'setsid sleep 999 > /dev/null & echo $!'
orphan = subprocess.run(['sh', '-c', start], stdout=subprocess.PIPE, text=True).stdout
print(child.pid, orphan)
"""


def test_all_children_of_a_kernel_are_gone_when_its_end_is_reported(server: psutil.Process, tmp_path: Path) -> None:
    """What it wrote is looked at next, and nobody may write it any more."""
    kernel = Kernel(tmp_path)
    below = [psutil.Process(int(pid)) for pid in kernel.ask(BELOW).split()]
    # The shell prints its number before `setsid` has become what it starts.
    wait_until(lambda: [process.name() for process in below] == ["sleep", "sleep"])
    kernel.client.execute("os._exit(3)")
    kernel.process.connection.settimeout(30)
    while kernel.process.returncode is None:
        assert kernel.process.read()
    assert [process for process in below if is_alive(process)] == []
    assert kernel.process.returncode == 3
    kernel.close()


@pytest.mark.slow
def test_server_that_ends_ends_what_a_keeper_cannot(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.open_kernel_server(is_cold=True) as address:
        monkeypatch.setenv(paths.WARM_VARIABLE, str(address))
        kernel = Kernel(bare)
        keeper = psutil.Process(kernel.process.pid).parent()
        assert keeper
        keeper.suspend()
        family = [keeper, *keeper.children(recursive=True)]
    try:
        assert [process for process in family if is_alive(process)] == []
    finally:
        end(family)
        kernel.close()


@pytest.mark.fault
def test_kernel_goes_when_keeper_and_server_are_killed_at_once(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does, even if it cannot look whether its parent has gone."""
    with servers.open_kernel_server(is_cold=True) as address:
        monkeypatch.setenv(paths.WARM_VARIABLE, str(address))
        kernel = Kernel(bare)
        alone = psutil.Process(kernel.process.pid)
        above = alone.parents()[:2]
        for process in [alone, *above]:
            process.suspend()
        end(above)
        try:
            wait_until(lambda: not is_alive(alone), 2)
        finally:
            end([alone])
            kernel.close()


def end(processes: list[psutil.Process]) -> None:
    """Kill whichever of some processes still live."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.slow
def test_interrupt_reaches_the_program_that_a_cell_waits_for(server: psutil.Process, tmp_path: Path) -> None:
    """As Ctrl-C in a terminal does; the kernel itself hears nothing while it waits."""
    kernel = Kernel(tmp_path)
    with ThreadPoolExecutor() as pool:
        pool.submit(lambda: (time.sleep(1), kernel.manager.interrupt_kernel()))
        assert kernel.ask("import os; print(os.system('exec sleep 60'))", timeout=30) == str(signal.SIGINT.value)
    kernel.close()


@pytest.mark.slow
def test_server_that_nobody_asks_ends_itself(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "IDLE_SECONDS", 1)
    server = servers.start_server(bare / "kernels", is_cold=True, is_owned=False)
    try:
        assert server.wait(30) == 0
        assert not (bare / "kernels").exists()
    finally:
        server.kill()
        server.wait()


OWNER = """
import os, time
from labkit.errors import LabkitError
from labkit.run.kernels import servers
from labkit.run.kernels.session import Kernels
from labkit import paths
with servers.open_kernel_server(is_cold=%r) as address:
    os.environ[paths.WARM_VARIABLE] = str(address)
    from pathlib import Path
    from tests.run.kernels.warm_kernels import Kernel
    kernel = Kernel(Path.cwd())
    code = "import subprocess, re; subprocess.Popen(['sleep', '998'], start_new_session=True)"
    kernel.ask(code)
    kernel.client.execute("re.match(r'(a+)+$', 'a' * 60 + 'b')")
    print(address, servers.ask_state(address, seconds=60)["pid"], flush=True)
    time.sleep(600)
"""


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize(("victim", "is_cold"), [("owner", False), ("owner", True), ("server", True), ("keeper", True)])
def test_kill_of_any_process_ends_all_others(bare: Path, victim: str, is_cold: bool) -> None:
    """A kernel that holds the interpreter's lock and a child in a session of its own are the hardest to end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OWNER % is_cold]
    with subprocess.Popen(command, cwd=bare, env=environment, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout
            address, server_pid = owner.stdout.readline().split()
            server = psutil.Process(int(server_pid))
            # The keeper that replied for the server's state goes at once; the one with a kernel stays.
            wait_until(lambda: has_one_kernel(server))
            [keeper] = server.children()
            family = [server, *server.children(recursive=True)]
            assert [process.name() for process in family].count("sleep") == 1
            {"owner": owner, "server": server, "keeper": keeper}[victim].kill()
            ended = family[1:] if victim == "keeper" else family
            wait_until(lambda: not any(is_alive(process) for process in ended), 2)
        finally:
            owner.kill()
    wait_until(lambda: not any(is_alive(process) for process in family))
    if victim != "server":
        wait_until(lambda: not Path(address).parent.exists())


def has_one_kernel(server: psutil.Process) -> bool:
    """Return whether a server has one keeper, and that one a kernel."""
    try:
        return [bool(keeper.children()) for keeper in server.children()] == [True]
    except psutil.NoSuchProcess:  # a keeper that went while it was looked at
        return False


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_without_a_server_an_ordinary_kernel_starts_and_a_line_reports_it(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_notebook(tmp_path / "a.ipynb", EXPERIMENT, "import sys\n'lightgbm' in sys.modules")
    with caplog.at_level("WARNING"):
        ended, notebook = run(path, str(tmp_path / "gone"))
    assert ended.failure is None
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "False"
    assert [record.message for record in caplog.records if "no warm kernel" in record.message][1:] == []


TRAIN = """
import numpy as np
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
random = np.random.default_rng(0)
x, y = random.normal(size=(500, 5)), random.integers(0, 2, 500)
for model in (LGBMClassifier(n_estimators=10, n_jobs=2, verbosity=-1), HistGradientBoostingClassifier(max_iter=5),
              RandomForestClassifier(10, n_jobs=2)):
    model.fit(x, y)
print('trained')
"""


@pytest.mark.slow
def test_training_in_fifty_kernels_never_hangs(server: psutil.Process, tmp_path: Path) -> None:
    """A fork of a process that has used OpenMP hangs in the first parallel loop; the server must never have."""

    def train(_: int) -> str:
        kernel = Kernel(tmp_path)
        try:
            return kernel.ask(TRAIN)
        finally:
            kernel.close()

    with ThreadPoolExecutor(4) as pool:
        assert [reply.splitlines()[0] for reply in pool.map(train, range(50))] == ["trained"] * 50


@pytest.mark.slow
def test_package_that_starts_a_thread_is_left_to_the_kernels(
    bare: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "notebooks" / "packages.py").write_text("import aaa_threaded, pandas\n")
    site = tmp_path_factory.mktemp("site")
    (site / "aaa_threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))
    with servers.open_kernel_server() as address:
        state = servers.ask_state(address, seconds=120)
        assert state is not None
        process = psutil.Process(state["pid"])
        assert process.cmdline()[-1] == "aaa_threaded"
        assert process.num_threads() == 1
        assert state["modules"] > 1000


@pytest.mark.slow
def test_server_that_still_imports_is_waited_for_not_replaced(bare: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(servers.keep_server)
        wait_until(lambda: servers.make_address().exists())
        second = pool.submit(servers.keep_server)
        assert first.result()["pid"] == second.result()["pid"]
    assert servers.stop_servers() == 1
    assert not servers.make_address().parent.exists()


def test_folder_of_somebody_else_costs_warmth_and_nothing_more(bare: Path) -> None:
    folder = servers.make_address().parent
    folder.mkdir()
    folder.chmod(0o777)
    assert servers.find_server() is None
    with pytest.raises(LabkitError, match="not a private folder of this user"):
        servers.keep_server()
    folder.rmdir()


def test_run_leaves_the_choice_of_kernels_as_it_was(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(paths.WARM_VARIABLE, raising=False)
    with Kernels(is_cold=True, is_kept_used=False) as kernels:
        kernels.find_server()
        assert servers.ask_state(Path(paths.get_warm_address() or ""), seconds=30)
    assert paths.get_warm_address() is None


def test_cancelled_start_lets_go_of_the_server(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a server gives no reply: neither the run nor a kernel that is half made may wait for the other."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(bare / "kernels"))
        listener.listen()
        monkeypatch.setenv(paths.WARM_VARIABLE, str(bare / "kernels"))
        start = asyncio.Event()
        is_let_go = pool.submit(wait_for_end, listener, start)
        provisioner = WarmProvisioner(kernel_spec=make_kernel_specs().get_kernel_spec("python3"), kernel_id="1")

        async def cancel() -> None:
            launch = asyncio.create_task(provisioner.launch_kernel(["python"]))
            while not start.is_set():
                await asyncio.sleep(0.01)
            launch.cancel()
            with suppress(asyncio.CancelledError):
                await launch

        asyncio.run(cancel())
        assert is_let_go.result()


def wait_for_end(listener: socket.socket, start: asyncio.Event) -> bool:
    """Take a request, give no reply, and return whether the client hangs up in ten seconds."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(1_000_000)
        start.set()
        connection.settimeout(10)
        try:
            return connection.recv(1) == b""
        except TimeoutError:
            return False


def test_kernel_that_cannot_open_all_its_sockets_ends(server: psutil.Process, tmp_path: Path) -> None:
    """As when the folder of the sockets is removed while it starts: those it had opened would hold up its end."""
    ports = {"shell_port": 1, "control_port": 2, "stdin_port": 3, "iopub_port": 10**9, "hb_port": 10**9 + 1}
    settings = {"transport": "ipc", "key": "", "signature_scheme": "hmac-sha256", **ports}
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(tmp_path / "connection.json")]
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        (tmp_path / "log").open("w") as log,
    ):
        # The last two have a name that is too long for a socket.
        place = f"{folder}/k".ljust(LONGEST_SOCKET_NAME - len("-1"), "k")
        (tmp_path / "connection.json").write_text(json.dumps({**settings, "ip": place}))
        connection.connect(os.environ[paths.WARM_VARIABLE])
        request = {"argv": command, "cwd": str(tmp_path), "env": paths.copy_environment()}
        with pytest.raises(OSError, match="it ended during startup"):
            WarmProcess(connection).start(request, [log.fileno(), log.fileno()])
        assert list(Path(folder).iterdir()), "no socket was opened"
    assert "ZMQError" in (tmp_path / "log").read_text()

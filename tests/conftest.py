"""Checkouts to test in: real copies of this one, in folders of their own."""

import atexit
import functools
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from labkit.cli import main
from playwright.sync_api import Browser, Page, sync_playwright

from tests import preloaded
from tests.git import call_git, commit_all
from tests.preloaded import LABKIT
from tests.services import skip_outside_of_ci
from tests.shared_server import SharedServer, serve_kernels

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("params", "notebooks", "lib", "dvc.yaml", ".dvcignore", "requirements.lock", "pyproject.toml")

Labkit = Callable[..., subprocess.CompletedProcess[str]]


os.environ |= preloaded.FEW_THREADS
# As commands do: collecting garbage while modules are imported takes a quarter of the time of that.
gc.set_threshold(100_000)

# A shell has Ctrl-C ignored in what it starts in the background, and so would every process that is tested here.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


MARKS = {"browser": "browser", "visit": "browser", "finished": "slow"}
"""Fixture → marker of every test that uses it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures that they use."""
    for item in items:
        for mark in {MARKS[name] for name in getattr(item, "fixturenames", ()) if name in MARKS}:
            item.add_marker(mark)


def pytest_collection_finish() -> None:
    """Leave what is imported by now to no garbage collection."""
    gc.freeze()


def make_checkout(folder: Path, *, store: Path | None = None) -> Path:
    """Copy what a run needs into an empty folder, with git and DVC set up as in a fresh clone.

    Parameters
    ----------
    store
        Database of MLflow to begin with, see the fixture of that name.
    """
    shutil.copytree(make_first_checkout(), folder, dirs_exist_ok=True)
    if store:
        shutil.copy(store, folder / "mlflow.db")
    return folder


@functools.cache
def make_first_checkout() -> Path:
    """Make the checkout that all others of this process are copies of: to add 500 files to git takes half a second."""
    parent = tempfile.mkdtemp(prefix="labkit-checkout-")
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    folder = Path(parent, "checkout")
    folder.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skip)
        else:
            shutil.copy(source, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    shutil.copy(ROOT / ".gitignore", folder / ".gitignore")
    call_git(folder, "init", "-q")
    commit_all(folder, "start")
    call_git(folder, "repack", "-adq")
    return folder


@contextmanager
def restore_environment() -> Iterator[None]:
    """Undo at the end what was set in the environment of this process."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Undo what a test set in the environment, or what it called: a command would end with it."""
    with restore_environment():
        yield


SET_BY_LIBRARIES = (
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "PYARROW_IGNORE_TIMEZONE", "SPARK_LOCAL_IP", "_MLFLOW_TELEMETRY_SESSION_ID",
)  # fmt: skip
"""Variables that packages set in the process that imports them, such as this one."""


def make_environment(root: Path) -> dict[str, str]:
    """Return an environment in which labkit works on that checkout only, as from a shell."""
    others = ("LABKIT_", "MLFLOW_", *SET_BY_LIBRARIES)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "LABKIT_ROOT": str(root), "COLUMNS": "160", "NO_COLOR": "1"}


def call_labkit(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a checkout and return how it ended; the process is a fork, see `tests.preloaded`."""
    environment = {**make_environment(root), **variables}
    return preloaded.run([LABKIT, *arguments], cwd=root, env=environment, timeout=600)


def call_program(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a checkout as `call_labkit` does, as the program that users start."""
    return subprocess.run(
        [LABKIT, *arguments],
        cwd=root,
        env={**make_environment(root), **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def call_in_process(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a checkout as `call_labkit` does, without a process that first imports everything.

    Not for what depends on a process of its own: signals, a terminal, standard streams, what is imported, code of the
    checkout's own; and no run where a browser is open, beside which nothing else may use asyncio.
    """
    signals = (signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(name) for name in signals]
    output, errors = io.StringIO(), io.StringIO()
    forget_checkout()
    try:
        # Fixtures call it too, whose changes would outlive the test.
        with (
            restore_environment(),
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            for key in os.environ.keys() - make_environment(root).keys():
                patch.delenv(key)
            for key, value in {**make_environment(root), **variables}.items():
                patch.setenv(key, value)
            patch.chdir(root)
            code = main.call(main.cli, [*arguments])
    finally:
        forget_checkout()
        for name, handler in zip(signals, handlers, strict=True):
            signal.signal(name, handler)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def forget_checkout() -> None:
    """Let this process look at a checkout and its store as if it had just started."""
    # Without MLflow nothing has been looked at, and its import takes seconds.
    if "mlflow" in sys.modules:
        from tests.own_store import forget_store

        forget_store()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh checkout, which is also the one that labkit finds in this process."""
    root = make_checkout(tmp_path / "checkout")
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.delenv("LABKIT_RUN_DIR", raising=False)
    return root


@pytest.fixture
def params_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return what reads params as a checkout and has nothing else: the params files and dvc.yaml."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "params", root / "params")
    shutil.copy(ROOT / "dvc.yaml", root)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.delenv("LABKIT_RUN_DIR", raising=False)
    return root


@pytest.fixture
def labkit(checkout: Path) -> Labkit:
    """Return the command line, called in the checkout."""

    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return call_labkit(checkout, *arguments, **variables)

    return call


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of MLflow in which nothing has been recorded: to make one takes longer than most tests."""
    root = make_checkout(tmp_path_factory.mktemp("store") / "checkout")
    code = "from labkit.run.records.tracking import get_client; get_client()"
    subprocess.run([sys.executable, "-c", code], env=make_environment(root), check=True)
    return root / "mlflow.db"


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    """Return the process to fork kernels from that tests of this worker lend to their checkouts."""
    with serve_kernels(make_checkout(tmp_path_factory.mktemp("kernels") / "checkout")) as shared:
        yield shared


ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Not for the session: until it is closed, no other test of the process can use asyncio.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for name in names if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        if program is None and not Path(playwright.chromium.executable_path).exists():
            skip_outside_of_ci("no Chromium on this machine: install it from the distribution")
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def blank_pages() -> dict[str, list[Page]]:
    """Return empty pages that tests have visited before, by the settings of their contexts: a new one is a process."""
    return defaultdict(list)


@pytest.fixture
def visit(browser: Browser, blank_pages: dict[str, list[Page]]) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Open a page without a network; collect its console messages and the requests that it makes."""
    opened = []

    def open_page(path: Path, **settings: Any) -> tuple[Page, list[str]]:
        spare, complaints, address = blank_pages[repr(settings)], [], path.as_uri()
        page = spare.pop() if spare else browser.new_context(offline=True, **settings).new_page()
        handlers: dict[Any, Callable[[Any], None]] = {
            "console": lambda message: complaints.append(f"{message.type}: {message.text}"),
            "pageerror": lambda error: complaints.append(f"error: {error}"),
            "request": lambda request: (
                None
                if request.url == address or request.url.startswith("data:image/")
                else complaints.append(f"request: {request.url}")
            ),
        }
        for event, handler in handlers.items():
            page.on(event, handler)
        opened.append((page, handlers, spare))
        page.goto(address)
        return page, complaints

    yield open_page
    for page, handlers, spare in opened:
        if not page.is_closed():
            for event, handler in handlers.items():
                page.remove_listener(event, handler)
            page.emulate_media(media="null")
            page.goto("about:blank")
            spare.append(page)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, shared_server: SharedServer) -> tuple[Path, str]:
    """Return a checkout in which diabetes has run once, and what that printed: for the xdist group `pipeline`.

    The first run was the installed program and made everything itself. Later ones use the shared server.
    """
    root = make_checkout(tmp_path_factory.mktemp("pipeline") / "checkout")
    done = call_program(root, "run", "diabetes")
    assert done.returncode == 0, done.stdout + done.stderr
    shared_server.lend(root)
    return root, done.stdout


@pytest.fixture(scope="session")
def root(finished: tuple[Path, str]) -> Path:
    """Return that checkout."""
    return finished[0]

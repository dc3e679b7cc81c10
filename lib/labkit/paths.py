"""Paths of the checkout; this is also the only module that reads environment variables.

Files themselves are read and written elsewhere. Read next: `labkit.artifacts`, the files that stages pass on.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import quote, unquote, urlsplit

from labkit.errors import ParamsError

MARKER = "dvc.yaml"
RUNNER_VARIABLE = "LABKIT_RUNNER"
WARM_VARIABLE = "LABKIT_WARM"
RUN_DIR_VARIABLE = "LABKIT_RUN_DIR"
PARAMS_VARIABLE = "LABKIT_PARAMS_DIR"
AUTORELOAD_VARIABLE = "LABKIT_AUTORELOAD"
EXPERIMENT_VARIABLE = "LABKIT_EXPERIMENT"
WEBHOOK_VARIABLE = "LABKIT_ALERT_WEBHOOK"
ORIGIN_VARIABLE = "LABKIT_ORIGIN"
PARENT_VARIABLE = "LABKIT_PARENT_RUN_ID"
CORES_VARIABLE = "LABKIT_CORES"
TRACKING_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""How long MLflow tries to reach a lost tracking server: pauses of 0, 4, 8 and 16 seconds."""
PACKAGE_DIR = Path(__file__).parent
"""Folder of labkit's modules."""
KERNELS_DIR = PACKAGE_DIR / "run" / "kernels" / "jupyter"
"""Folder in which Jupyter finds the kernel that starts warm."""


def find_root() -> Path:
    """Return the root of the checkout: `LABKIT_ROOT`, or the nearest folder upwards with `dvc.yaml` and `params/`.

    Raises
    ------
    ParamsError
        Neither the current folder nor any folder above it is a labkit checkout.
    """
    named = os.environ.get("LABKIT_ROOT")
    start = Path(named).resolve() if named else Path.cwd()
    for folder in [start] if named else [start, *start.parents]:
        if (folder / MARKER).is_file() and (folder / "params").is_dir():
            return folder
    raise ParamsError(f"{start}: no labkit checkout here or above (no {MARKER} beside params/): change into one")


def find_code_root() -> Path:
    """Return the checkout that the code is from: for the light checkout of a sweep, the one it was made from."""
    named = os.environ.get(ORIGIN_VARIABLE)
    return Path(named) if named else find_root()


@contextmanager
def use_root(folder: Path, *, origin: Path | None = None) -> Iterator[None]:
    """Make a folder the root of the checkout, in this process and in those that it starts meanwhile.

    Parameters
    ----------
    folder
        Absolute path of the folder.
    origin
        For a light checkout, the one it was made from.
    """
    used = {"LABKIT_ROOT": str(folder)} | ({ORIGIN_VARIABLE: str(origin)} if origin else {})
    before = {name: os.environ.pop(name, None) for name in used}
    os.environ.update(used)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def find_params_dir() -> Path:
    """Return the folder of the params files."""
    return find_root() / "params"


def find_params_path(experiment: str) -> Path:
    """Return the params file of an experiment, whether or not it exists; a sample run with settings has a copy."""
    named = os.environ.get(PARAMS_VARIABLE)
    return (Path(named) if named else find_params_dir()) / f"{experiment}.yaml"


def find_notebooks_dir(experiment: str | None = None) -> Path:
    """Return the folder of the source notebooks: those that experiments share, or one experiment's own."""
    shared = find_root() / "notebooks"
    return shared / experiment if experiment else shared


def find_library_dir() -> Path:
    """Return the folder of the checkout's packages: labkit's, if it is not installed elsewhere, and the user's own."""
    return find_root() / "lib"


def make_library_importable() -> None:
    """Add the checkout's packages to the end of `sys.path`, where they hide no other; outside a checkout do nothing."""
    try:
        library = str(find_library_dir())
    except ParamsError:
        return
    if library not in sys.path and Path(library).is_dir():
        sys.path.append(library)


def find_data_dir(experiment: str) -> Path:
    """Return the folder of an experiment's data."""
    return find_root() / "data" / experiment


def find_scratch_dir(experiment: str) -> Path:
    """Return the folder for output of runs by hand and sample runs, which git and DVC ignore."""
    return find_data_dir(experiment) / "scratch"


def find_work_dir() -> Path:
    """Return the folder for work in progress, on the same disk as the data; it is created if missing."""
    folder = find_root() / ".labkit" / "work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_serving_dir(experiment: str) -> Path:
    """Return the folder for what a service of an experiment keeps, such as its log; it need not exist."""
    return find_root() / ".labkit" / "serving" / experiment


def find_reports_dir(experiment: str | None = None) -> Path:
    """Return the folder of the rendered reports, of one experiment or of all."""
    reports = find_root() / "reports"
    return reports / experiment if experiment else reports


def get_experiment() -> str | None:
    """Return the experiment that notebooks work on if they name none, from `LABKIT_EXPERIMENT`; None if not set."""
    return os.environ.get(EXPERIMENT_VARIABLE) or None


def get_variable(name: str) -> str | None:
    """Return the value of an environment variable named in the params; None if it is not set or empty."""
    return os.environ.get(name) or None


def is_empty_variable(name: str) -> bool:
    """Return whether an environment variable is set, but to nothing."""
    return os.environ.get(name) == ""


def count_passed_sockets() -> int:
    """Return how many listening sockets systemd passes to this process; see sd_listen_fds(3)."""
    is_meant = os.environ.get("LISTEN_PID") == str(os.getpid())
    return int(os.environ.get("LISTEN_FDS", "0")) if is_meant else 0


def has_display() -> bool:
    """Return whether a browser could be shown: always on macOS and Windows, elsewhere if there is a graphical session.

    `BROWSER` names the browser to use, and counts as one.
    """
    named = (os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return sys.platform in ("darwin", "win32") or any(named)


def get_run_dir() -> Path | None:
    """Return the work folder of the run that this process belongs to; None in a notebook run by hand."""
    named = os.environ.get(RUN_DIR_VARIABLE)
    return Path(named) if named else None


def is_reloading() -> bool:
    """Return whether a kernel reloads edited modules: only one of a notebook by hand, unless `LABKIT_AUTORELOAD` is 0.

    The runner sets the folder of the run before it starts a kernel.
    """
    return get_run_dir() is None and os.environ.get(AUTORELOAD_VARIABLE) != "0"


def find_session_notebook() -> Path | None:
    """Return the file of the notebook that JupyterLab started this kernel for; None if it does not name one."""
    named = os.environ.get("JPY_SESSION_NAME", "")
    return Path(named) if named.endswith(".ipynb") and Path(named).is_file() else None


def get_runner_address() -> str | None:
    """Return the socket of the `labkit run` that started this process, or None."""
    return os.environ.get(RUNNER_VARIABLE) or None


def get_warm_address() -> str | None:
    """Return the socket of the process from which kernels are forked; empty: do not fork, None: the checkout's own."""
    return os.environ.get(WARM_VARIABLE)


def get_most_cores() -> int | None:
    """Return the largest number of cores to use, from `LABKIT_CORES`; None if it is not set.

    Raises
    ------
    ParamsError
        It is no whole number from 1 on.
    """
    named = os.environ.get(CORES_VARIABLE)
    if not named:
        return None
    if not (named.isascii() and named.isdigit() and int(named)):
        raise ParamsError(f"{CORES_VARIABLE} is {named!r}: set it to a whole number from 1 on, or unset it")
    return int(named)


def get_parent_run_id() -> str | None:
    """Return the MLflow run id of the pipeline run, or None outside a pipeline run."""
    return os.environ.get(PARENT_VARIABLE) or None


def is_sample_run() -> bool:
    """Return whether this process belongs to a sample run, which writes to scratch only."""
    return bool(os.environ.get("LABKIT_SAMPLE_ROWS"))


def get_tracking_uri() -> str:
    """Return the URI of the MLflow store: `MLFLOW_TRACKING_URI`, or the SQLite file that `mlflow ui` opens by default.

    A relative path of a SQLite file is resolved from the root of the checkout. PostgreSQL is accessed with psycopg 3.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or make_sqlite_uri(find_own_store())
    if file := find_sqlite_file(uri):
        return uri if file.is_absolute() else make_sqlite_uri(find_root() / file)
    scheme, separator, rest = uri.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else uri


def find_own_store() -> Path:
    """Return the checkout's own MLflow database, whether or not it exists."""
    return find_root() / "mlflow.db"


def make_sqlite_uri(path: Path) -> str:
    """Return the URI of a SQLite file.

    A path without special characters is used literally. Otherwise it has to be quoted and the driver named: MLflow
    takes what follows `sqlite:///` for the literal path, and creates folders of that name.

    Parameters
    ----------
    path
        Absolute path of the file.

    Examples
    --------
    >>> make_sqlite_uri(Path("/work/kit/mlflow.db"))
    'sqlite:////work/kit/mlflow.db'
    >>> make_sqlite_uri(Path("/work/50%/mlflow.db"))
    'sqlite+pysqlite:////work/50%25/mlflow.db'
    """
    quoted = quote(str(path))
    return f"sqlite:///{path}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def find_sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI; None for any other URI and for a database in memory.

    Parameters
    ----------
    uri
        URI of a database or server.

    Examples
    --------
    >>> find_sqlite_file("sqlite+pysqlite:////work/50%25/mlflow.db")
    PosixPath('/work/50%/mlflow.db')
    """
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    return Path(path) if scheme.partition("+")[0] == "sqlite" and path not in ("", ":memory:") else None


def get_artifact_root() -> str | None:
    """Return the root of a team's artifacts, from the variable of `mlflow server`; None if it is not set."""
    return os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT") or None


def show_address(uri: str) -> str:
    """Return a URI that is safe to show: without user and password, and without options, which may contain them.

    Parameters
    ----------
    uri
        URI of a database or server.

    Examples
    --------
    >>> show_address("http://me:hidden@host:5000/x")
    'http://host:5000/x'
    >>> show_address("postgresql://host/runs?user=me&password=hidden")
    'postgresql://host/runs'
    """
    parts = urlsplit(uri)
    if find_sqlite_file(uri) or (not parts.netloc and not parts.query):
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def copy_environment() -> dict[str, str]:
    """Return a copy of this process's environment."""
    return dict(os.environ)


def reads_environment(value: object) -> bool:
    """Return whether an object is the environment, or a function that reads it."""
    return value is os.environ or value is os.getenv or value is os.path.expandvars


def watch_environment(note: Callable[[str | None, FrameType | None], None]) -> None:
    """Call `note` with each environment variable that Python code of this process reads from now on.

    Accesses by C libraries are not noticed.

    Parameters
    ----------
    note
        Called with the name of the variable, None if all names are listed, and with the frame that reads it.
    """

    class Watched(type(os.environ)):  # type: ignore[misc]
        def __getitem__(self, key: str) -> str:
            note(key, sys._getframe(1))
            return str(super().__getitem__(key))

        def __iter__(self) -> Iterator[str]:
            note(None, sys._getframe(1))
            return iter(list(super().__iter__()))

    os.environ.__class__ = Watched


def make_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment with the variables that every stage process needs.

    The hash seed and thread counts are fixed, so that results are reproducible; telemetry of MLflow and DVC is off. The
    time spent looking for a lost tracking server is limited, unless the environment sets another limit. Notebooks could
    print the address of the webhook, which may contain a secret: it is left out.

    Parameters
    ----------
    **extra
        Further variables, which take precedence.
    """
    fixed = {
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "2",
        # One thread, so that a process that has only imported modules is single-threaded and can be forked.
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        # Waiting threads sleep: on a busy machine, spinning threads made gradient boosting thirty times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "DO_NOT_TRACK": "1",
        # Commands of this environment come first, even if it has not been activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "JUPYTER_PATH": os.pathsep.join(filter(None, [str(KERNELS_DIR), os.environ.get("JUPYTER_PATH")])),
        "LABKIT_ROOT": str(find_root()),
        "MLFLOW_TRACKING_URI": get_tracking_uri(),
    }
    kept = {name: value for name, value in os.environ.items() if name != WEBHOOK_VARIABLE}
    return {**TRACKING_PATIENCE, **kept, **fixed, **extra}


def show_path(path: Path, *, root: Path | None = None) -> str:
    """Return a path relative to the root of the checkout, or to another one; unchanged if it is outside."""
    try:
        return str(path.relative_to(root or find_root()))
    except (ValueError, ParamsError):
        return str(path)


def make_printable_name(name: str) -> str:
    """Return a name with bytes that are not valid UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()

"""What a team shares, started by a test on loopback: a database server and an object store."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers import find_free_port, serve

PASSWORD = "a-long-word-nobody-may-read"


def skip_outside_of_ci(reason: str) -> NoReturn:
    """Skip a test that needs what this machine does not have; in CI, where everything is installed, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def require_strace() -> None:
    """Skip, or in CI fail, a test that looks at the system calls of processes where that cannot be done."""
    program = shutil.which("strace")
    if program is None:
        skip_outside_of_ci("no strace on this machine: install it from the distribution")
    if subprocess.run([program, "-qq", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        skip_outside_of_ci("processes may not be traced on this machine: allow ptrace")


def find_program(name: str) -> str | None:
    """Return a program of PostgreSQL, which Debian keeps out of the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


@contextmanager
def serve_postgresql() -> Iterator[str]:
    """Start PostgreSQL with an empty database and yield its address; it does not run as root, which it refuses to."""
    initdb, postgres = find_program("initdb"), find_program("postgres")
    if initdb is None or postgres is None:
        skip_outside_of_ci("no PostgreSQL on this machine: install it from the distribution")
    # pytest's own folders can be entered by nobody else.
    folder = Path(tempfile.mkdtemp(prefix="labkit-postgresql-"))
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    if os.getuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    (folder / "password").write_text(PASSWORD)
    data, port = folder / "data", find_free_port()
    (folder / "password").chmod(0o644)
    words = ["--username=team", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8"]
    subprocess.run([initdb, "-D", data, "--no-locale", *words], check=True, **options)
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "port": port}
    command = [postgres, "-D", data, *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))]
    server = subprocess.Popen(command, start_new_session=True, **options)
    try:
        wait_for_database(f"postgresql://team:{PASSWORD}@127.0.0.1:{port}/postgres", server)
        yield f"postgresql://team:{PASSWORD}@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


def wait_for_database(address: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a database lets one in, a minute at most."""
    import time

    import psycopg

    for _ in range(240):
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            psycopg.connect(address, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.25)
        else:
            return
    raise AssertionError("PostgreSQL did not come up in a minute")


def make_database(address: str, name: str) -> str:
    """Make an empty database and return its address."""
    import psycopg

    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return f"{address}/{name}"


@contextmanager
def serve_s3(folder: Path, *, bucket: str) -> Iterator[dict[str, str]]:
    """Start an S3 server with an empty bucket and yield the variables by which clients find it."""
    import boto3

    port = find_free_port()
    address = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with serve(command, folder=folder, environment={**os.environ, **keys}, address=f"{address}/moto-api/"):
        session = boto3.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        session.client("s3", endpoint_url=address).create_bucket(Bucket=bucket)
        yield {**keys, "AWS_ENDPOINT_URL": address, "MLFLOW_S3_ENDPOINT_URL": address}


def fork(task: Callable[[], object]) -> int:
    """Do something in a child process that exits with 0 if it succeeds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        finally:
            os._exit(code)
    return child

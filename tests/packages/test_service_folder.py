"""A release as a folder: it serves on its own, with nothing of this checkout, as systemd and SageMaker start it."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labkit.model.release import bundle
from labkit.packages import service_folder
from labkit.packages.lock import START

from tests.conftest import ROOT
from tests.model.tables import make_new_rows
from tests.services import skip_outside_of_ci
from tests.serving.running import Client, make_rows, wait_for, write_release

LABKIT = """#!{python}
import sys
from importlib.metadata import packages_distributions

LOCKED = {locked!r}
UNLOCKED = {{
    module for module, owners in packages_distributions().items()
    if not any(owner.lower().replace("_", "-") in LOCKED for owner in owners)
}}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in UNLOCKED:
            raise ImportError(f"{{name}} is not in the lock")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {wheel!r})
from labkit.cli.main import main
import labkit
assert labkit.__file__.startswith({wheel!r}), labkit.__file__
main()
"""
"""A stand-in for what is installed: labkit from the wheel in the folder, and no package that the lock does not have."""
PASS = """
import os, sys

os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
"""
TOKEN = {"authorization": "Bearer told-to-no-one"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a service folder, moved, with its packages installed."""
    made = tmp_path_factory.mktemp("service")
    opened = bundle.load_release(write_release(made / "release"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        place = service_folder.write_service(opened, made / "made")
    place = place.rename(made / "elsewhere")
    [wheel] = place.glob("labkit-*.whl")
    locked = {found["name"] for found in START.finditer((place / "requirements.lock").read_text())}
    (place / ".venv" / "bin").mkdir(parents=True)
    command = place / ".venv" / "bin" / "labkit"
    shutil.unpack_archive(wheel, made / "installed", "zip")
    command.write_text(
        LABKIT.format(python=sys.executable, locked=sorted({*locked, "labkit"}), wheel=str(made / "installed"))
    )
    command.chmod(0o755)
    return place


@contextmanager
def run(folder: Path, listener: socket.socket, **environment: str) -> Iterator[None]:
    """Start the service as systemd does: with the socket as descriptor 3, and few environment variables."""
    process = subprocess.Popen(
        [sys.executable, "-c", PASS, str(listener.fileno()), str(folder / "serve")],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LABKIT_SERVE_ALLOW_HOST": "*", **environment},
        pass_fds=[listener.fileno()],
    )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held


@pytest.mark.slow
@pytest.mark.xdist_group("service")
def test_folder_serves_alone_as_systemd_and_sagemaker_start_it(
    folder: Path, listener: socket.socket, tmp_path: Path
) -> None:
    rows, port = make_new_rows().drop(index=[40, 41]), listener.getsockname()[1]
    expected = bundle.load_release(folder / "release").pipeline.predict_proba(rows)[:, 1]
    (tmp_path / "labkit_serve_token").write_text("told-to-no-one\n")
    waiting: list[tuple[int, bytes]] = []
    with run(folder, listener, CREDENTIALS_DIRECTORY=str(tmp_path), STATE_DIRECTORY=str(tmp_path / "state")):
        client = Client(port)
        assert client.ask("/ping", headers={"host": "10.0.0.7:8080"}) == (200, b"")
        body = {"dataframe_records": make_rows(rows)}
        assert client.ask("/invocations", body)[0] == 401
        status, content = client.ask("/invocations", body, headers=TOKEN)
        assert status == 200, content
        found = [row["yes"] for row in json.loads(content)["probabilities"]]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        status, content = client.ask("/predict", (folder / "example.json").read_bytes(), headers=TOKEN)
        assert (status, len(json.loads(content)["predictions"])) == (200, 5)
        wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob("state/log/*.jsonl")))
    assert not (folder / "state").exists()
    # While nobody serves, a client waits in the socket that systemd holds.
    client = threading.Thread(target=lambda: waiting.append(Client(port).ask("/ping")))
    client.start()
    with run(folder, listener):
        client.join(60)
        assert waiting == [(200, b"")]
    assert (folder / "state" / "log").is_dir()


def read_container(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the environment variables and the command of the image that the folder's Containerfile describes."""
    content = (folder / "Containerfile").read_text().replace("\\\n", " ")
    lines = dict(line.split(" ", 1) for line in content.splitlines() if line and not line.startswith("#"))
    variables = dict(part.split("=", 1) for part in shlex.split(lines["ENV"]))
    assert (lines["EXPOSE"], lines["WORKDIR"]) == (variables["LABKIT_SERVE_PORT"], "/opt/service")
    return variables, json.loads(lines["CMD"])


@pytest.mark.slow
@pytest.mark.xdist_group("service")
def test_folder_answers_as_sagemaker_asks_a_container(folder: Path, tmp_path: Path) -> None:
    """The command, its argument and its variables are those of the image; the port too, but for being free here."""
    variables, command = read_container(folder)
    assert (variables["LABKIT_SERVE_PORT"], variables["LABKIT_SERVE_HOST"]) == ("8080", "0.0.0.0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = {name: value.replace("/opt/service", str(folder)) for name, value in variables.items()}
    here["PATH"] = here["PATH"].replace("$PATH", "/usr/bin:/bin")
    here |= {"LABKIT_SERVE_PORT": str(port), "STATE_DIRECTORY": str(tmp_path)}
    program = shutil.which(command[0], path=here["PATH"])
    assert program == str(folder / "serve")
    rows = make_new_rows().drop(index=[40, 41])
    expected = bundle.load_release(folder / "release").pipeline.predict_proba(rows)[:, 1]
    process = subprocess.Popen([program, *command[1:]], cwd="/", env=here)
    try:
        wait_for(lambda: process.poll() is not None or is_listening(port))
        client = Client(port)
        assert client.ask("/ping", headers={"host": "model.aws.local:8080"}) == (200, b"")
        bodies: list[tuple[str, Any]] = [("application/json", {"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}),
                  ("application/json", {"instances": make_rows(rows)}),
                  ("text/csv", rows.to_csv(index=False).encode())]  # fmt: skip
        for kind, body in bodies:
            status, content = client.ask("/invocations", body, headers={"content-type": kind})
            assert status == 200, content
            found = [row["yes"] for row in json.loads(content)["probabilities"]]
            np.testing.assert_allclose(found, expected, atol=1e-5)
        assert client.ask("/invocations", b"{", headers={"content-type": "application/json"})[0] == 400
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert [*tmp_path.glob("log/*.jsonl")]


def is_listening(port: int) -> bool:
    """Return whether a program accepts connections at a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_folder_does_not_serve_without_the_token_that_its_unit_names(folder: Path, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    done = subprocess.run([str(folder / "serve")], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "no token: write /etc/credstore/labkit-shop-token, or remove LoadCredential from the unit\n",
    )
    # systemd passes over a missing file unless it is named by its whole path.
    unit, token = (folder / "labkit-shop.service").read_text(), "/etc/credstore/labkit-shop-token"
    assert f"\nLoadCredential=labkit_serve_token:{token}\n" in unit
    readme, script = (folder / "README.md").read_text(), (ROOT / "deploy" / "aws" / "ec2-user-data.sh").read_text()
    assert f"head -c 32 /dev/urandom | base64 > {token}" in readme
    assert "TOKEN=/etc/credstore/labkit-$NAME-token" in script
    assert readme.index("rm -rf /opt/labkit/shop") < readme.index("cp -r . /opt/labkit/shop")


def test_folder_names_no_place_of_this_machine_and_no_index(folder: Path) -> None:
    lock = (folder / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert not {"pandas", "scikit-learn", "mlflow"} & {found["name"] for found in START.finditer(lock)}
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".whl":
            content = path.read_text()
            assert str(ROOT) not in content
            assert "EXPERIMENT" not in content


def test_units_are_valid_and_confine_the_service(folder: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        skip_outside_of_ci("no systemd-analyze on this machine: install systemd from the distribution")
    units = [tmp_path / f"labkit-shop.{kind}" for kind in ("service", "socket")]
    for unit in units:
        content = (folder / unit.name).read_text()
        unit.write_text(content.replace("/opt/labkit/shop/serve", str(folder / "serve")))
    command = [program, "verify", "--man=no", *map(str, units)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    # Tenths: a service that is not confined has 96, and systemd calls one below 20 OK.
    command = [program, "security", "--no-pager", "--offline=yes", "--threshold=20", str(units[0])]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout


def test_readme_and_container_install_and_start_alike(folder: Path) -> None:
    """The commands were run by hand; here, that all places name the same files, and that these are there."""
    container, readme = (folder / "Containerfile").read_text(), (folder / "README.md").read_text()
    for command in ("pip install --no-cache-dir --require-hashes -r requirements.lock", 'CMD ["serve"]'):
        assert command in container
    assert ".venv/bin/pip install --require-hashes -r requirements.lock\n" in readme
    assert os.access(folder / "serve", os.X_OK)
    for name in ("labkit-shop.socket", "labkit-shop.service", "example.json"):
        assert name in readme
        assert (folder / name).is_file()

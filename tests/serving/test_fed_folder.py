"""Files of joined tables, from which a running service keeps its tables current."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from labkit.cli.main import cli
from labkit.errors import LabkitError
from labkit.model.release import bundle
from labkit.params.experiment import Params
from labkit.serving.engine import Engine, load_engine
from labkit.serving.fed_folder import FedFolder, open_folder

from tests.run.small import make_small
from tests.serving import running
from tests.serving.shop_release import TABLES, list_orders, make_orders, write_shop_release
from tests.serving.shop_release import make_shop_params as make_params

ORDERS, JOINED = make_orders()
RATES = TABLES["rates"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop_release(tmp_path_factory.mktemp("shop") / "release")


def write(path: Path, rows: pd.DataFrame, *, second: int) -> None:
    """Write a file as if it had been written at another second."""
    rows.to_csv(path, index=False)
    os.utime(path, (second, second))


def start(release: Path, root: Path) -> tuple[Engine, FedFolder, list[str]]:
    """Return the model of a service, its folder of files, and the lines that are reported."""
    lines: list[str] = []
    (root / "files").mkdir()
    write(root / "files" / "rates.csv", RATES.head(20), second=1)
    (root / "files" / "notes.txt").write_text("not a table of the shop")
    engine = load_engine(release, digest=None, version=None, state_dir=root)
    return engine, open_folder(root / "files", make_params(root), lines.append), lines


def update(engine: Engine, folder: FedFolder, *, times: int = 2) -> None:
    """Look at the files, the second time those that have stopped changing."""
    assert engine.fed is not None
    for _ in range(times):
        folder.update(engine.fed)


def test_service_predicts_with_the_rows_of_files_as_they_change(release: Path, tmp_path: Path) -> None:
    engine, folder, lines = start(release, tmp_path)
    path = tmp_path / "files" / "rates.csv"
    update(engine, folder)
    write(path, RATES.tail(len(RATES) - 15), second=2)
    update(engine, folder, times=1)
    assert lines == [f"table rates: 20 new rows in {path}"], "it may still be written"
    update(engine, folder)
    update(engine, folder)
    assert lines[1:] == [f"table rates: {len(RATES) - 20} new rows in {path}"], "what is known is not recorded again"
    orders = ORDERS.to_json(orient="records", date_format="iso", double_precision=15)
    rows = engine.read(f'{{"rows": {orders}}}'.encode())
    found = engine.predict(engine.reader.make_columns(rows))
    np.testing.assert_array_equal(found, bundle.load_release(release).predict(JOINED))
    assert len((tmp_path / "tables" / "rates.jsonl").read_text().splitlines()) == 2
    again = FedFolder(folder.folder, folder.params, lines.append)
    update(load_engine(release, digest=None, version=None, state_dir=tmp_path), again)
    assert lines[2:] == [f"table rates: 0 new rows in {path}"], "after a restart"


def test_fault_in_a_file_is_reported_once_and_read_again_when_it_changes(release: Path, tmp_path: Path) -> None:
    engine, folder, lines = start(release, tmp_path)
    path = tmp_path / "files" / "rates.csv"
    write(path, RATES.head(3).assign(value="high"), second=2)
    update(engine, folder)
    assert lines == [
        f"table rates: {path}: column 'value' holds 'high': give numbers, as in the training data; it is read again when "
        "it changes"
    ]
    write(path, RATES.head(3), second=3)
    update(engine, folder)
    assert lines[1:] == [f"table rates: 3 new rows in {path}"]


@pytest.mark.slow
@pytest.mark.xdist_group("service")
def test_running_service_follows_its_folder_and_outlives_it(release: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "files").mkdir()
    write(tmp_path / "files" / "rates.csv", RATES, second=1)
    folder = open_folder(tmp_path / "files", make_params(tmp_path), lines.append)
    with running.start(tmp_path, release) as supervisor:
        folder.follow(supervisor)
        assert lines == [f"table rates: {len(RATES)} new rows in {tmp_path}/files/rates.csv"]
        client = running.Client(running.get_port(supervisor))
        running.wait_for(lambda: client.ask("/predict", {"rows": list_orders(ORDERS)})[0] == 200)
        shutil.rmtree(tmp_path / "files")
        folder.follow(supervisor)
        folder.follow(supervisor)
        assert len(lines) == 2
        assert "No such file or directory" in lines[1]


def test_folder_without_a_file_of_a_table_is_refused(tmp_path: Path) -> None:
    params: Params = make_params(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "rate.csv").touch()
    with pytest.raises(LabkitError) as refused:
        open_folder(tmp_path / "empty", params, print)
    known = "name files as customers.csv; rates.csv; regions.csv"
    assert str(refused.value) == f"--tables {tmp_path}/empty: has no file of a joined table: {known}"


def test_a_release_without_a_checkout_has_no_rules_for_reading_files(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["serve", "shop", "--release", str(release), "--tables", str(tmp_path)])
    why = "--tables: files are read as the params of shop declare: serve from its checkout, or send rows to /tables/<table>: "
    assert str(done.exception).startswith(why)


@pytest.mark.slow
@pytest.mark.xdist_group("service")
def test_a_release_is_served_with_files_of_its_checkout(tmp_path: Path, release: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda")
    (root / "params" / "shop.yaml").write_text(
        yaml.safe_dump(make_params(root).model_dump(mode="json", exclude_unset=True))
    )
    (tmp_path / "files").mkdir()
    RATES.to_csv(tmp_path / "files" / "rates.csv", index=False)
    options = [
        "--release",
        str(release),
        "--tables",
        str(tmp_path / "files"),
        "--port",
        "0",
        "--state",
        str(tmp_path / "state"),
    ]
    command = [sys.executable, "-c", "from labkit.cli.main import main; main()", "serve", "shop", *options]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        (limit := threading.Timer(60, process.kill)).start()
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                if f"table rates: {len(RATES)} new rows" in line:
                    break
            else:
                raise AssertionError("".join(said))
        finally:
            limit.cancel()
            process.terminate()
    assert (tmp_path / "state" / "tables" / "rates.jsonl").stat().st_size

"""How files are written: whole or not at all, whatever fails. Calls failed one by one: `tests.test_faults`."""

import errno
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from labkit.errors import DiskError
from labkit.storage import atomic
from labkit.storage.digests import compute_digest

from tests.conftest import call_labkit, make_checkout
from tests.services import require_strace, skip_outside_of_ci
from tests.writers import WRITERS


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder on a disk of 2 MB."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        skip_outside_of_ci("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.fault
@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize("name", WRITERS)
def test_full_disk_leaves_the_version_before_and_names_path_and_bytes(small_disk: Path, name: str) -> None:
    folder = small_disk / name
    place = folder / ("x.parquet" if name == "table" else "x")
    folder.mkdir()
    for version in (2, 1):  # the second fits on the empty disk
        WRITERS[name](folder / "x", version)
    shutil.rmtree(folder / "work", ignore_errors=True)
    before, names = compute_digest(place), sorted(path.name for path in folder.iterdir())
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass
    os.truncate(filler, filler.stat().st_size - 20_000)
    try:
        with pytest.raises(DiskError) as refused:
            WRITERS[name](folder / "x", 2)
    finally:
        filler.unlink()
    wanted = r"disk full: needs (more than )?[\d.]+ (kB|bytes|MB)[^:]*, [\d.]+ (kB|bytes)[^:]* free at " + str(folder)
    assert re.match(wanted, str(refused.value))
    assert refused.value.exit_code == 1
    assert compute_digest(place) == before
    shutil.rmtree(folder / "work", ignore_errors=True)
    assert sorted(path.name for path in folder.iterdir()) == names
    shutil.rmtree(folder)


@pytest.mark.fault
@pytest.mark.parametrize("name", WRITERS)
def test_size_limit_leaves_the_version_before(tmp_path: Path, name: str) -> None:
    """The same without a small disk: the system refuses files above 20 kB."""
    place = tmp_path / ("x.parquet" if name == "table" else "x")
    WRITERS[name](tmp_path / "x", 1)
    if name == "notebook":
        WRITERS[name](tmp_path / "x", 2)
    before = compute_digest(place)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"cannot be written: File too large"):
            WRITERS[name](tmp_path / "x", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert compute_digest(place) == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


FAILING = {
    "open": ("open", errno.EACCES, "Permission denied"),
    "fsync": ("fsync", errno.EIO, "Input/output error"),
    "rename": ("replace", errno.EROFS, "Read-only file system"),
    "full": ("fsync", errno.ENOSPC, "disk full: needs 3 bytes"),
    "quota": ("fsync", errno.EDQUOT, "disk full: needs 3 bytes"),
}


@pytest.mark.parametrize("case", FAILING)
def test_failing_call_is_reported_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """The same as the sweep over all calls, where processes may not be traced."""
    name, number, message = FAILING[case]
    path = tmp_path / "x"
    atomic.write_text(path, "old")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(DiskError, match=message):
            atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_permissions_are_the_umasks_or_those_before(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "x", "new")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
        for before, after in ((0o600, 0o600), (0o444, 0o644), (0o755, 0o755)):
            (tmp_path / "x").chmod(before)
            atomic.write_text(tmp_path / "x", "newer")
            assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == after
        atomic.write_text(tmp_path / "x", "secret", mode=0o600)
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    finally:
        os.umask(umask)


def test_error_of_the_content_is_not_taken_for_one_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.copy_file(tmp_path / "none", tmp_path / "x")
    with pytest.raises(PermissionError, match="elsewhere"), atomic.atomic_write(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/y")
    assert list(tmp_path.iterdir()) == []


def test_long_names_can_be_written(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / ("ü" * 120), "x")
    assert (tmp_path / ("ü" * 120)).read_text() == "x"


def test_folders_exchange_their_places(tmp_path: Path) -> None:
    for name in ("old", "new"):
        atomic.write_text(tmp_path / name / f"{name}.txt", name)
    atomic.place_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new.txt"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["old.txt"]
    atomic.place_folder(tmp_path / "new", tmp_path / "there" / "is nothing yet")
    assert not (tmp_path / "new").exists()


def test_folders_exchange_their_places_on_systems_that_cannot_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    test_folders_exchange_their_places(tmp_path)


@pytest.mark.parametrize("is_file", [False, True])
def test_new_folder_replaces_nothing_that_appears_meanwhile(tmp_path: Path, is_file: bool) -> None:
    path = tmp_path / "kept"
    theirs = path if is_file else path / "notes.txt"

    def write_both() -> None:
        with atomic.atomic_folder(path, is_new=True) as beside:
            atomic.write_text(beside / "x.txt", "x")
            atomic.write_text(theirs, "theirs")

    with pytest.raises(DiskError, match=f"^{path}: exists by now, and is not replaced: name another folder$"):
        write_both()
    assert theirs.read_text() == "theirs"
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]


def test_new_folder_may_be_empty_before(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("kept", "other"):
        with atomic.atomic_folder(tmp_path / name, is_new=True) as beside:
            atomic.write_text(beside / "x.txt", "x")
        assert (tmp_path / name / "x.txt").read_text() == "x"


def test_late_writer_of_an_ended_run_reaches_nothing(tmp_path: Path) -> None:
    """A process that outlives its run has the run's own folder, which is somewhere else by then."""
    work, final = tmp_path / "work" / "clean", tmp_path / "data" / "clean"
    atomic.write_text(work / "x.json", "whole")
    with atomic.atomic_write(work / "x.json") as late:
        late.write_text("late")
        atomic.place_folder(work, final)
        shutil.rmtree(work, ignore_errors=True)
        late.parent.mkdir()
        late.write_text("late")
    assert (final / "x.json").read_text() == "whole"


def test_file_is_on_disk_before_its_name_and_its_name_before_its_record(tmp_path: Path) -> None:
    require_strace()
    program = (
        "from pathlib import Path; from labkit.storage.append import append_line; from labkit.storage.atomic import move, place_folder, write_text\n"
        f"here = Path({str(tmp_path)!r})\n"
        "write_text(here / 'work' / 'out' / 'x.json', '1')\n"
        "place_folder(here / 'work' / 'out', here / 'out')\n"
        "append_line(here / 'done.jsonl', 'done')\n"
        "move(here / 'out', here / 'aside' / 'damaged')\n"
    )
    log = tmp_path / "calls"
    subprocess.run(
        ["strace", "-y", "-o", log, "-e", "trace=fsync,rename,renameat2,write", sys.executable, "-c", program],
        check=True,
    )
    names = []
    for line in log.read_text().splitlines():
        call, places = line.partition("(")[0], re.findall(r"[<\"](/[^>\"]*)", line)
        if str(tmp_path) in line and not re.search(r"= -1 ", line):
            names.append(f"{call} {Path(places[-1]).name.partition('.json.')[0]}")
    assert names == [
        "write .x",
        "fsync .x",
        "rename x.json",
        "fsync out",
        "fsync x.json",
        "fsync out",
        "rename out",
        f"fsync {tmp_path.name}",
        "write done.jsonl",
        "fsync done.jsonl",
        f"fsync {tmp_path.name}",
        "rename damaged",
        "fsync aside",
    ]


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize("arguments", [("run", "diabetes"), ("status", "diabetes")], ids=" ".join)
def test_full_disk_is_one_clear_line_on_the_command_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", disk], check=False).returncode:
        skip_outside_of_ci("only root may mount a small disk")
    try:
        root = make_checkout(disk / "checkout")
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as stream:
            while stream.write(bytes(4096)):
                pass
        done = call_labkit(root, *arguments, PYTHONDONTWRITEBYTECODE="1")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"labkit: disk full: needs .*, .* free at {disk}/checkout/\S+: free disk space", done.stderr)
    assert "Traceback" not in done.stderr

"""Wheels hold what they were given, described as installers expect it."""

import csv
import hashlib
import zipfile
from base64 import urlsafe_b64decode
from pathlib import Path

from labkit.storage.wheel import write_wheel

FILES = {"shop/__init__.py": b"", "shop/a, b.txt": "ä".encode()}


def test_record_has_digest_and_size_of_each_file(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "shop", "1.2", files=FILES, metadata={"entry_points.txt": "[console_scripts]\n"})
    assert wheel.name == "shop-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    record = members.pop("shop-1.2.dist-info/RECORD").decode()
    rows = {path: (digest, size) for path, digest, size in csv.reader(record.splitlines())}
    assert rows.pop("shop-1.2.dist-info/RECORD") == ("", "")
    assert {*rows} == {*members}
    for path, (digest, size) in rows.items():
        method, _, encoded = digest.partition("=")
        assert urlsafe_b64decode(f"{encoded}=") == hashlib.new(method, members[path]).digest()
        assert int(size) == len(members[path])
    assert FILES.items() <= members.items()
    assert members["shop-1.2.dist-info/METADATA"] == b"Metadata-Version: 2.1\nName: shop\nVersion: 1.2\n"


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_wheel(tmp_path / name, "shop", "1", files=FILES) for name in "ab")
    assert first.read_bytes() == second.read_bytes()

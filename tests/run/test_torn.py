"""What labkit itself wrote, torn by a crash or a stranger: one clear line each, and no traceback."""

import json
from pathlib import Path

import pytest
from labkit.run.fingerprint.fingerprint_file import (
    describe_fingerprint_change,
    find_fingerprint_copy,
    find_fingerprint_dir,
    load_fingerprint,
    write_if_new,
)
from labkit.run.notebook.step_log import check_finished, load_log
from labkit.run.records.stage_record import StageRecord, load_records, save_record
from labkit.secrets.redaction import Mask

from tests.conftest import call_in_process

TORN = {
    "empty": b"",
    "cut short": b'{"stage": "train',
    "another form": b"[1, 2]",
    "nothing in it": b"{}",
    "a number": b"7",
    "zeros": b"\0" * 40,
    "not UTF-8": b"\xff\xfe\x00",
    "more than we know": b'{"stage": "training", "more": 1}',
    "no names": b'{"stage": 1, "page": [], "title": "", "status": "finished", "started": "", "seconds": 1, "headline": "", "run_id": null}',
    "no seconds": b'{"stage": "training", "page": "04_training", "title": "", "status": "finished", "started": "", "seconds": 1, "headline": "", "run_id": null, "cells": "x"}',
    "deep": b"[" * 100_000,
}
RECORD = StageRecord(
    "eda", "01_eda", "What?", "finished", "2026-11-24T10:11:12+00:00", 1.5, "all well", "1", cells=(1, 2)
)


@pytest.mark.fault
@pytest.mark.parametrize("content", TORN.values(), ids=TORN)
def test_torn_record_is_reported_and_the_others_are_read(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "diabetes"
    save_record(RECORD, folder)
    (folder / "04_training.json").write_bytes(content)
    records = load_records(folder)
    assert records["eda"] == RECORD
    assert records["training"].status == "failed"
    assert (
        records["training"].headline == "its record 04_training.json is damaged: labkit run diabetes --force training"
    )
    assert records["training"].key == "", "it is the record of no run"


@pytest.mark.fault
@pytest.mark.slow
def test_torn_records_are_reported_by_the_command_line(checkout: Path) -> None:
    folder = checkout / "reports" / "diabetes"
    folder.mkdir(parents=True)
    for name in ("04_training", "05_evaluation"):
        (folder / f"{name}.json").write_bytes(TORN["cut short"])
    (checkout / ".labkit/outputs/diabetes").mkdir(parents=True)
    (checkout / ".labkit/outputs/diabetes/raw.json").write_bytes(TORN["zeros"])
    (checkout / "data/diabetes/fingerprint").mkdir(parents=True)
    (checkout / "data/diabetes/fingerprint/eda.json").write_bytes(TORN["not UTF-8"])
    done = call_in_process(checkout, "status", "diabetes", COLUMNS="250")
    assert done.returncode == 0, done.stderr
    assert "its record 04_training.json is damaged: labkit run diabetes --force training" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.fault
@pytest.mark.parametrize("content", [TORN[name] for name in TORN if name not in ("nothing in it",)])
def test_torn_line_of_the_log_is_counted_and_fails_the_stage(tmp_path: Path, content: bytes) -> None:
    lines = [
        json.dumps({"kind": "metrics", "metrics": {"mae": 1.0}}).encode(),
        content.replace(b"\n", b"") or b" ",
        json.dumps({"kind": "finish", "headline": "done"}).encode(),
    ]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    log = load_log(tmp_path / "log.jsonl", Mask())
    assert log.metrics == {"mae": 1.0}
    assert log.headline == "done"
    assert log.n_torn == 1
    failure = check_finished(log, 3)
    assert failure is not None
    assert failure.summary == "1 of the lines that the notebook reported are damaged, so its results are incomplete"


def test_log_cut_short_by_the_kernels_end_reports_what_is_whole(tmp_path: Path) -> None:
    whole = json.dumps({"kind": "metrics", "metrics": {"mae": 1.0}})
    for length in range(len(whole)):
        (tmp_path / "log.jsonl").write_text(f"{whole}\n{whole[:length]}")
        log = load_log(tmp_path / "log.jsonl", Mask())
        assert log.metrics == {"mae": 1.0}
        assert not log.is_finished
        assert log.n_torn == (length > 0)


FINGERPRINTS = {**TORN, "code is a number": b'{"code": 7}', "tables are a list": b'{"code": {}, "tables": [1]}'}


@pytest.mark.fault
@pytest.mark.parametrize("content", FINGERPRINTS.values(), ids=FINGERPRINTS)
def test_torn_fingerprint_counts_as_missing(checkout: Path, content: bytes) -> None:
    path = find_fingerprint_dir("diabetes") / "training.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    find_fingerprint_copy("a" * 32).parent.mkdir(parents=True)
    find_fingerprint_copy("a" * 32).write_bytes(content)
    assert load_fingerprint(path) == {}
    assert describe_fingerprint_change("diabetes", "training", "a" * 32) == ["code of training changed"]
    write_if_new(path, '{"code": {}}\n')
    assert load_fingerprint(path) == {"code": {}}

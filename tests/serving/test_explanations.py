"""Explanations of a service: named, refused where they cannot be computed, and no hindrance to predictions."""

import asyncio
import json
from pathlib import Path

import pytest
from labkit.errors import ModelError
from labkit.model.release import bundle
from labkit.model.release.runtime import BACKGROUND
from labkit.serving.access import Access
from labkit.serving.app import Service
from labkit.serving.board import Board
from labkit.serving.engine import Engine, load_engine
from labkit.serving.explanations import MOST_WAITING, Explainer
from labkit.serving.requests import RequestError
from labkit.serving.settings import LOOPBACK, Settings

from tests.model.tables import make_table
from tests.serving.running import make_rows, open_engine, write_release

ROWS = make_rows(make_table(30))


def make_explainer(folder: Path, engine: Engine) -> Explainer:
    settings = Settings("shop", str(folder), log_folder=None, feedback_path="", n_workers=1, hosts=LOOPBACK)
    board = Board(folder / "board", n_workers=1)
    return Explainer(Service(settings, engine, board, 0, access=Access(LOOPBACK, None), log=None))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_output_that_is_explained(tmp_path: Path, task: str) -> None:
    engine = open_engine(tmp_path / "release", task)
    rows = engine.reader.convert(ROWS)
    answer = json.loads(asyncio.run(make_explainer(tmp_path, engine).answer(engine, rows[:20])))
    assert answer["scale"] == {"multiclass": "probability", "regression": "outcome"}[task]
    predicted = engine.predict(engine.reader.make_columns(rows))
    for found, expected in zip(answer["explanations"], predicted, strict=False):
        assert found.get("class") == (None if task == "regression" else int(expected.argmax()))
        assert found["prediction"] == pytest.approx(expected.max(), rel=1e-6)
        assert found["base"] + sum(found["contributions"].values()) == pytest.approx(found["prediction"], rel=1e-9)


def test_columns_that_determine_each_other_are_named(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "release")
    rows, explainer = engine.reader.convert(ROWS[:1]), make_explainer(tmp_path, engine)
    assert "determined" not in json.loads(asyncio.run(explainer.answer(engine, rows)))
    groups = [list(engine.reader.kinds)[:2]]
    engine.facts["determined"] = groups
    assert json.loads(asyncio.run(explainer.answer(engine, rows)))["determined"] == groups


def test_release_without_background_is_not_explained(tmp_path: Path) -> None:
    engine = load_engine(write_release(tmp_path / "release", n_background=0), digest=None, version=1)
    with pytest.raises(RequestError, match=r"`deploy.background_rows` above 0, and promote the version") as caught:
        asyncio.run(make_explainer(tmp_path, engine).answer(engine, engine.reader.convert(ROWS[:1])))
    assert caught.value.status == 409


def test_release_with_a_background_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release")
    bundle.extend_release(folder, {BACKGROUND: b'{"columns": ["a_b"], "data": [["many"]]}'})
    with pytest.raises(ModelError, match="cannot explain its example rows by its background"):
        load_engine(folder, digest=None, version=1)


def test_no_more_than_a_few_requests_wait(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "release")
    explainer, rows = make_explainer(tmp_path, engine), engine.reader.convert(ROWS[:1])

    async def ask_at_once() -> list[bytes | BaseException]:
        asked = [explainer.answer(engine, rows) for _ in range(MOST_WAITING + 2)]
        return await asyncio.gather(*asked, return_exceptions=True)

    refused = [answer for answer in asyncio.run(ask_at_once()) if isinstance(answer, RequestError)]
    assert [error.status for error in refused] == [429, 429]
    assert explainer.n_waiting == 0

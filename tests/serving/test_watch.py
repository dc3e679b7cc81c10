"""What a worker does between requests, here without a process: it follows releases and joins the rows of tables."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labkit.serving.access import Access
from labkit.serving.app import Service
from labkit.serving.board import ANNOUNCED, CURRENT, SEEN, Board
from labkit.serving.following import load_pointed
from labkit.serving.settings import FEEDBACK, LOOPBACK, Settings

from tests.serving.running import make_pointer
from tests.serving.shop_release import TABLES, feed, list_orders, write_shop_release

RATES = list_orders(TABLES["rates"])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop_release(tmp_path_factory.mktemp("shop") / "release")


@pytest.fixture
def service(tmp_path: Path, release: Path) -> Service:
    """Return a worker's service whose champion has generation 1."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    settings = Settings("shop", str(run_dir), None, str(tmp_path / FEEDBACK), 1, LOOPBACK, canary_percent=10)
    board = Board(settings.board_path, n_workers=1)
    board.words[CURRENT] = board.words[ANNOUNCED] = 1
    engine = load_pointed(make_pointer(release, 1), settings.tables_dir)
    return Service(settings, engine, board, 0, access=Access(LOOPBACK, None), log=None)


def watch_until(service: Service, *steps: Callable[[], Any]) -> None:
    """Let the service watch until each of some conditions has held, one after the other."""

    async def run() -> None:
        watching = asyncio.ensure_future(service.watch())
        for step in steps:
            async with asyncio.timeout(20):
                while not await asyncio.to_thread(step):
                    await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(run())


def announce(service: Service, release: Path, generation: int) -> bool:
    make_pointer(release, generation).save(Path(service.settings.folder) / "next.json")
    service.board.words[ANNOUNCED] = generation
    return True


def count_rates(service: Service, generation: int) -> int:
    fed = service.champion.prepared[generation].fed
    assert fed is not None
    return int(fed.describe()["rates"]["rows"])


def put_in_force(service: Service, generation: int) -> bool:
    service.board.words[CURRENT] = generation
    return True


def test_rows_reach_a_model_before_and_after_it_is_in_force_without_a_request(service: Service, release: Path) -> None:
    other = load_pointed(make_pointer(release, 9), service.settings.tables_dir)
    watch_until(
        service,
        lambda: announce(service, release, 2),
        lambda: 2 in service.champion.prepared,
        lambda: feed(other, "rates", *RATES[:5]),
        lambda: count_rates(service, 2) == 5,
        lambda: put_in_force(service, 2),
        lambda: service.board.slots[0, SEEN] == 2,
        lambda: feed(other, "rates", *RATES),
        lambda: count_rates(service, 2) == len(RATES),
    )
    assert service.engine.generation == 2  # what a challenger is compared with


def test_rows_are_joined_while_a_model_is_loaded(service: Service, release: Path) -> None:
    other, is_seen = load_pointed(make_pointer(release, 9), service.settings.tables_dir), threading.Event()

    def load(pointer: object) -> Any:
        assert is_seen.wait(30)
        return other

    service.champion.load = load
    watch_until(
        service,
        lambda: announce(service, release, 2),
        lambda: service.champion.tried == 2,
        lambda: feed(other, "rates", *RATES),
        lambda: count_rates(service, 1) == len(RATES),
        lambda: is_seen.set() or True,
    )


def test_only_the_model_in_force_and_the_newest_stay_in_memory(service: Service, release: Path) -> None:
    for generation in (2, 3):
        announce(service, release, generation)
        service.champion.prepare()
    assert sorted(service.champion.prepared) == [1, 3]

"""Mixed load while the server and the network fail in every way: each unit is told the truth."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from tests.contract.face import checked_out, drive
from tests.support.fixtures import SETTINGS
from tests.support.proxy import Proxy

from unitofwork import Outcome
from unitofwork.testing.postgres import EmbeddedPostgres

from .books import TABLES, Books
from .faults import Faults
from .load import KINDS, TIMEOUT, Load

SECONDS = float(os.environ.get("UNITOFWORK_SOAK") or 20)
WORKERS = 6
#: Beyond its timeout a unit may ask for five seconds what became of its COMMIT, or have the
#: application ask in a unit of its own; the rest is for a machine that does other things too.
LONGEST = TIMEOUT + 5.0 + TIMEOUT + 7.0


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """One of its own, for it does not survive well."""
    with EmbeddedPostgres(18, SETTINGS) as server:
        yield server


@pytest.fixture
def rows(server: EmbeddedPostgres) -> Iterator[Engine]:
    engine = create_engine(server.url("psycopg"), pool_pre_ping=True)
    with engine.begin() as connection:
        for statement in TABLES:
            connection.execute(text(statement))
    yield engine
    engine.dispose()


def in_tasks(loads: list[Load]) -> None:
    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for load in loads:
                for _ in range(WORKERS):
                    group.create_task(load.work(asyncio.sleep))
        for load in loads:
            await load.uow.engine.dispose()

    asyncio.run(run())


def in_thread(load: Load) -> None:
    drive(load.work(time.sleep))


@pytest.mark.timeout(SECONDS + 90)
def test_every_unit_is_told_the_truth(
    server: EmbeddedPostgres, rows: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows are those of the units that were told so, once each, and nothing is left out."""
    seed = int(os.environ.get("UNITOFWORK_SEED") or random.randrange(10**6))
    books = Books()
    with Proxy(server.host, server.port) as proxy:
        loads = [
            Load("asyncpg", server.url("asyncpg", port=proxy.port), books),
            Load("psycopg", server.url("psycopg", port=proxy.port), books),
            Load("psycopg-sync", server.url("psycopg", port=proxy.port), books),
        ]
        threads = [threading.Thread(target=in_tasks, args=(loads[:2],))]
        threads += [threading.Thread(target=in_thread, args=(loads[2],)) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        faults = Faults(server, proxy, seed)
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                time.sleep(0.7)
                faults.next()
            time.sleep(1.0)
        finally:
            for load in loads:
                load.stopping = True
            for thread in threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        left = {load.name: (checked_out(load.uow), load.uow.stats()) for load in loads}
        loads[2].uow.engine.dispose()
    with capsys.disabled():
        print(f"\nsoak of {SECONDS:.0f} s, UNITOFWORK_SEED={seed}; {len(books.told)} increments")
        print("faults:", ", ".join(f"{n} {name}" for name, n in sorted(faults.counts.items())))
        print(books.summary())
    assert books.differences(rows) == []
    for name, (out, stats) in left.items():
        assert (name, out, stats.admitted, stats.running_units) == (name, 0, 0, 0)
    slowest = max(books.told.values(), key=lambda told: told.seconds)
    assert slowest.seconds < LONGEST, slowest
    committed = {told.kind for told in books.told.values() if told.outcome is Outcome.COMMITTED}
    assert len(committed) == len(loads) * len(KINDS)

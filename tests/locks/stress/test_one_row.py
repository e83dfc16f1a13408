"""PostgreSQL's own deadlock and wait, about one row: without the library, and carried by units."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest
from sqlalchemy import update
from tests.support.probe import ServerProbe

from unitofwork import AsyncUnitOfWork, RetryPolicy
from unitofwork.testing.postgres import EmbeddedPostgres

from .model import RESET, Owner
from .one_row import LOCKERS, OneRow

EACH = 4
SECONDS = 60.0


@pytest.mark.timeout(120)
async def test_one_lock_on_one_row_is_enough(stress_server: EmbeddedPostgres) -> None:
    """Transactions that take one lock each, all on one row, and nothing else, deadlock.

    KEY SHARE, UPDATE and a plain UPDATE at once. If this never comes about any more, the server
    has mended it: then docs/locks.md and `OneRow` can do without.
    """
    with ServerProbe(stress_server.url(None)) as probe:
        probe.execute(RESET)
    statements = (
        "SELECT 1 FROM stress_owner WHERE id = 1 FOR KEY SHARE",
        "SELECT 1 FROM stress_owner WHERE id = 1 FOR UPDATE",
        "UPDATE stress_owner SET v = v + 1 WHERE id = 1",
    )
    until = time.monotonic() + SECONDS
    told: list[str] = []

    async def work(statement: str) -> None:
        connection = await asyncpg.connect(stress_server.url(None))
        try:
            while not told and time.monotonic() < until:
                async with connection.transaction():
                    await connection.execute(statement)
        except asyncpg.DeadlockDetectedError as error:
            told.append(str(error))
        finally:
            await connection.close()

    await asyncio.gather(*(work(each) for each in statements for _ in range(EACH)))
    assert told


async def test_two_have_one_row(stress_server: EmbeddedPostgres) -> None:
    """The server grants FOR UPDATE and FOR KEY SHARE of one row at once, to plain transactions.

    One updates the row and then has it FOR UPDATE. While it does, a second one waits FOR UPDATE,
    and a third one FOR KEY SHARE: for the new version of the row. The first rolls back. The third
    one finds that there is no new version, and does not look again at who has locked the old one.
    If this never comes about any more, the server has mended it: see above.
    """
    with ServerProbe(stress_server.url(None)) as probe:
        probe.execute(RESET)

        async def until_waiting(count: int) -> None:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while probe.execute(waiting) != [(count,)]:
                await asyncio.sleep(0.005)

        connections = [await asyncpg.connect(stress_server.url(None)) for _ in range(3)]
        first, second, third = connections
        row = "SELECT 1 FROM stress_owner WHERE id = 1"
        locked: list[Any] = []
        for _ in range(100):
            for connection in connections:
                await connection.execute("BEGIN")
            await first.execute("UPDATE stress_owner SET v = v + 1 WHERE id = 1")
            await first.execute(f"{row} FOR UPDATE")
            owning = asyncio.create_task(second.execute(f"{row} FOR UPDATE"))
            await until_waiting(1)
            sharing = asyncio.create_task(third.execute(f"{row} FOR KEY SHARE"))
            await until_waiting(2)
            await first.execute("ROLLBACK")
            await asyncio.wait([owning, sharing], timeout=0.5)
            if owning.done() and sharing.done():
                lockers = LOCKERS.format(table="stress_owner", condition="id = 1")
                locked = [mode for mode, _ in probe.execute(lockers)]
                break
            # They came in the other order, and one of them waits for the other.
            for connection, task in sorted(
                [(second, owning), (third, sharing)], key=lambda one: not one[1].done()
            ):
                await task
                await connection.execute("ROLLBACK")
        for connection in connections:
            await connection.close()
        assert sorted(locked) == ["forupd", "keysh"]


async def test_units_carry_it(stress_server: EmbeddedPostgres) -> None:
    """No unit fails and no write is lost; what deadlocks there are, are these and no others."""
    url = stress_server.url("asyncpg")
    uow = AsyncUnitOfWork.from_url(url, pool_size=3 * EACH)
    policy = RetryPolicy(attempts=60, timeout=60, wait_initial=0.001, wait_max=0.02)
    until = time.monotonic() + 5
    written = 0

    async def share(tx: Any) -> None:
        await tx.lock(Owner, 1, strength="key_share")

    async def own(tx: Any) -> None:
        await tx.lock(Owner, 1, strength="update")

    async def write(tx: Any) -> None:
        await tx.execute(update(Owner).where(Owner.id == 1).values(v=Owner.v + 1))

    async def work(body: Any) -> None:
        nonlocal written
        while time.monotonic() < until:
            await uow.run(body, retry=policy)
            written += body is write

    with ServerProbe(stress_server.url(None)) as probe:
        probe.execute(RESET)
        before = probe.deadlocks()
        one_row = OneRow(uow, probe)
        try:
            await asyncio.gather(*(work(each) for each in (share, own, write) for _ in range(EACH)))
        finally:
            await uow.engine.dispose()
        await probe.wait_until_quiet_async(10.0)
        assert probe.deadlocks() - before == one_row.deadlocks
        assert probe.execute("SELECT v FROM stress_owner WHERE id = 1") == [(written,)]
        print(f"{written} written; deadlocks {one_row.deadlocks}")

"""PostgreSQL's own deadlock, about one row: it is there without the library, and units carry it."""

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
from .one_row import OneRow

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

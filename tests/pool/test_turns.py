"""What a unit costs the event loop: a free gate and an empty unit don't give way to it once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from .pool_face import PoolFace


def suspensions(coroutine: Coroutine[Any, Any, Any]) -> int:
    """Run to the end what needs no event loop. Returns how often it yielded to one."""
    count = 0
    try:
        while True:
            coroutine.send(None)
            count += 1
    except StopIteration:
        return count


async def turns_of(work: Callable[[], Awaitable[Any]]) -> int:
    """The turns that the loop makes for `work` while nothing else runs; the fewest of 30 times."""
    loop: Any = asyncio.get_running_loop()
    run_once, count = loop._run_once, 0

    def counted() -> None:
        nonlocal count
        count += 1
        run_once()

    found = []
    loop._run_once = counted
    try:
        for _ in range(30):
            await asyncio.sleep(0)
            count = 0
            await work()
            found.append(count)
    finally:
        del loop._run_once
    return min(found)


async def test_an_empty_unit_never_gives_way(async_face: PoolFace) -> None:
    """`async with uow() as tx: pass` runs through at once: no turn, no connection."""
    uow = async_face.make(pool_size=2)
    await async_face.warm(uow, 2)

    async def empty() -> None:
        async with uow():
            pass

    async def reserved() -> None:
        async with uow(connections=2):
            async with uow(propagation="requires_new"):
                pass

    assert suspensions(empty()) == 0
    assert suspensions(reserved()) == 0
    assert uow.stats().granted == 2
    assert uow.stats().committed == 3


async def test_a_free_gate_is_passed_without_a_turn(async_face: PoolFace) -> None:
    """Up to the first statement nothing is awaited, the statements cost what they cost anyway."""
    uow = async_face.make(pool_size=1)
    await async_face.warm(uow, 1)
    entered = uow()
    assert suspensions(entered.__aenter__()) == 0
    entered.unit.tx.set_rollback_only()
    assert suspensions(entered.__aexit__(None, None, None)) == 0


async def test_one_statement_costs_one_turn_more_at_most(async_face: PoolFace) -> None:
    """A one-statement unit against a plain session: one turn more, for the exit that runs apart."""
    uow = async_face.make(pool_size=1)
    await async_face.warm(uow, 1)
    query = text("SELECT 1")

    async def in_unit() -> None:
        async with uow() as tx:
            await tx.execute(query)

    async def in_session() -> None:
        async with AsyncSession(uow.engine) as session, session.begin():
            await session.execute(query)

    for _ in range(20):  # statement caches
        await in_unit()
        await in_session()
    assert await turns_of(in_unit) <= await turns_of(in_session) + 1

"""Memory of this process per open unit, against a session that is open in the same way."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import async_sessionmaker

from unitofwork.testing.postgres import EmbeddedPostgres

from .model import Account, async_engine, async_units, next_id
from .report import Section, table

HAND, UNIT = "by hand", "unit"
HEAD = ("state", "unit / by hand", "unit, KiB", "by hand, KiB", "open at once")
BEGUN, READ, WAITING = "begun, nothing asked yet", "one row read", "waiting for a connection"
#: Seconds to wait in line.
PATIENCE = 600


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """Begun, after a read, and waiting in line."""
    section = Section("Growth: memory of open units")
    section.text.append(
        f"{__doc__} What Python has allocated more (tracemalloc), each in a task of its own, "
        "which is in the figure; connections are there before."
    )
    many = 200 if quick else 1000
    rows = []
    for state, number, pool_size in ((BEGUN, many, many), (READ, 20, 20), (WAITING, many, 1)):
        async with AsyncExitStack() as stack:
            url = server.url("asyncpg")
            # Held idle on purpose: the watch need not say so.
            made_units = async_units(url, pool_size, hold_warning=PATIENCE)
            uow = await stack.enter_async_context(made_units)
            made = async_engine(url, pool_size=pool_size, pool_timeout=PATIENCE)
            begin = async_sessionmaker(
                await stack.enter_async_context(made), expire_on_commit=False
            ).begin
            reads = state != BEGUN
            waiting = state == WAITING
            patient = partial(uow, acquire_timeout=PATIENCE)
            unit = await _each(patient, number, reads, waiting)
            hand = await _each(begin, number, reads, waiting)
        rows.append([state, f"**{unit / hand:.2f}**", f"{unit:.1f}", f"{hand:.1f}", number])
    section.text.append(table(HEAD, rows))
    return section


async def _each(open_one: Callable[[], Any], number: int, reads: bool, waiting: bool) -> float:
    """KiB per open unit, when `number` of them are open."""
    close = asyncio.Event()

    async def task() -> None:
        async with open_one() as session:
            if reads:
                await session.get(Account, next_id())
            await close.wait()

    async def all_open(count: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(task()) for _ in range(count)]
        await asyncio.sleep(0.2 + count * 0.002)
        return tasks

    # Connects and fills caches; the one that holds, where the others are to wait.
    first = await all_open(1 if waiting else number)
    if not waiting:
        close.set()
        await asyncio.gather(*first)
        first = []
        close.clear()
    gc.collect()
    tracemalloc.start()
    try:
        tasks = await all_open(number)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    close.set()
    for each in tasks if waiting else []:
        each.cancel()
    ends = await asyncio.gather(*first, *tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return size / number / 1024

"""What a unit costs in a process with 1 to 50 engines, and what they cost while nothing happens."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from sqlalchemy.ext.asyncio import async_sessionmaker

from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Series, in_tasks, interleave, ratio
from .model import async_engine, async_units
from .report import Section, table
from .works import READ, async_works

ENGINES = (1, 5, 20, 50)
HAND, UNIT = "by hand", "unit"
HEAD = (
    "engines",
    "unit / unit with one",
    "by hand / with one",
    "unit / by hand",
    "unit, µs",
    "by hand, µs",
    "idle CPU, ms/s",
)


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """One-row reads on each engine in turn."""
    section = Section("Growth: engines")
    section.text.append(
        f"{__doc__} One-row reads on each engine in turn, one at once; each engine has one "
        "connection and its units are in their lifespan, so with a watch. Idle CPU: of this "
        "process with so many lifespans open, while nothing runs. Flat is 1.00."
    )
    levels = (1, 20) if quick else ENGINES
    url = server.url("asyncpg")
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(async_engine(url, pool_size=1))
            for _ in range(max(levels))
        ]
        hand = [
            async_works(async_sessionmaker(engine, expire_on_commit=False).begin)[READ]
            for engine in engines
        ]
        units: list[Callable[[], Awaitable[object]]] = []
        idle, blocks = {}, {}
        for number in levels:
            while len(units) < number:
                uow = await stack.enter_async_context(async_units(url, 1))
                units.append(async_works(uow)[READ])
            idle[number] = await _idle_cpu(0.3 if quick else 2.0)
            blocks[HAND, number] = in_tasks(_in_turn(hand[:number]), 1)
            blocks[UNIT, number] = in_tasks(_in_turn(units[:number]), 1)
        names = {f"{way} {number}": block for (way, number), block in blocks.items()}
        # Each engine connects at its first unit.
        for works in (hand, units):
            for work in works:
                await work()
        found = await interleave(names, 10 if quick else 40)
    rows = [_row(number, found, idle[number]) for number in levels]
    section.text.append(table(HEAD, rows))
    return section


def _in_turn(
    works: list[Callable[[], Awaitable[object]]],
) -> Callable[[], Awaitable[object]]:
    turn = itertools.cycle(works)
    return lambda: next(turn)()


async def _idle_cpu(seconds: float) -> float:
    """Milliseconds of CPU per second."""
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.perf_counter() - began) * 1000


def _row(number: int, found: dict[str, Series], idle: float) -> list[object]:
    unit, hand = found[f"{UNIT} {number}"], found[f"{HAND} {number}"]
    grown = (
        ratio(one.elapsed, found[f"{way} 1"].elapsed) for way, one in ((UNIT, unit), (HAND, hand))
    )
    times = (f"{unit.microseconds:.0f}", f"{hand.microseconds:.0f}")
    return [number, *grown, ratio(unit.elapsed, hand.elapsed), *times, f"{idle:.1f}"]

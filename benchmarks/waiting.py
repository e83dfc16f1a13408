"""What a unit costs while others wait for a connection: 1 to 10,000 tasks on a pool of five."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from sqlalchemy.ext.asyncio import async_sessionmaker

from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Ratio, Series, ratio
from .model import async_engine, async_units
from .plots import Plot
from .report import Section, table
from .works import READ, async_works

HAND, UNIT = "by hand", "unit"
TASKS = (1, 10, 100, 1000, 10_000)
#: The first level at which somebody waits; the others are compared with it.
BASE = 10
WARM_UP = 50
#: Seconds that each may wait, so that nobody gives up.
PATIENCE = 600
HEAD = (
    "tasks",
    "unit / unit of 10 tasks",
    "by hand / by hand of 10 tasks",
    "unit / by hand",
    "unit, µs",
    "by hand, µs",
    "unit's client CPU, µs",
    "by hand, its client CPU, µs",
)
Work = Callable[[], Awaitable[object]]


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """One-row reads, at each number of tasks."""
    section = Section("Growth: waiting tasks")
    section.text.append(
        f"{__doc__} Each task reads one row in one unit after the other; all but five wait in "
        f"line. Ratios to {BASE} tasks are within a round; flat is 1.00."
    )
    levels = (1, BASE, 1000) if quick else TASKS
    found: dict[tuple[str, int], Series] = defaultdict(Series)
    async with AsyncExitStack() as stack:
        ways = await _ways(server, stack)
        keys = [(way, tasks) for way in ways for tasks in levels]
        for _ in range(2 if quick else 3):
            random.shuffle(keys)
            for way, tasks in keys:
                elapsed, cpu = await _per_unit(ways[way], tasks, 300 if quick else 1000)
                found[way, tasks].elapsed.append(elapsed)
                found[way, tasks].cpu.append(cpu)
    _tell(section, levels, found)
    return section


async def _ways(server: EmbeddedPostgres, stack: AsyncExitStack) -> dict[str, Work]:
    url = server.url("asyncpg")
    uow = await stack.enter_async_context(async_units(url))
    engine = await stack.enter_async_context(async_engine(url, pool_timeout=PATIENCE))
    begin = async_sessionmaker(engine, expire_on_commit=False).begin
    return {
        HAND: async_works(begin)[READ],
        UNIT: async_works(lambda: uow(acquire_timeout=PATIENCE))[READ],
    }


async def _per_unit(work: Work, tasks: int, counted: int) -> tuple[float, float]:
    """Seconds, elapsed and of client CPU, per unit, while the other tasks wait in line."""
    done = 0
    began = cpu_began = elapsed = cpu = 0.0
    over = asyncio.Event()

    async def task() -> None:
        nonlocal done, began, cpu_began, elapsed, cpu
        while not over.is_set():
            await work()
            done += 1
            if done == WARM_UP:
                began, cpu_began = time.perf_counter(), time.process_time()
            elif done == WARM_UP + counted:
                elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu_began
                over.set()

    gc.collect()
    running = [asyncio.create_task(task()) for _ in range(tasks)]
    finished = asyncio.create_task(over.wait())
    await asyncio.wait([finished, *running], return_when=asyncio.FIRST_COMPLETED)
    for each in running:
        each.cancel()
    ends = await asyncio.gather(*running, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return elapsed / counted, cpu / counted


def _tell(
    section: Section, levels: tuple[int, ...], found: Mapping[tuple[str, int], Series]
) -> None:
    rows = []
    grown: dict[str, dict[int, Ratio]] = {UNIT: {}, HAND: {}}
    for tasks in levels:
        unit, hand = found[UNIT, tasks], found[HAND, tasks]
        for way, one in ((UNIT, unit), (HAND, hand)):
            grown[way][tasks] = ratio(one.elapsed, found[way, BASE].elapsed)
        ratios = (grown[UNIT][tasks], grown[HAND][tasks], ratio(unit.elapsed, hand.elapsed))
        times = [unit.elapsed, hand.elapsed, unit.cpu, hand.cpu]
        figures = (f"{statistics.median(each) * 1e6:.0f}" for each in times)
        rows.append([f"{tasks:,}", *ratios, *figures])
    lines = {
        way: [(tasks, at.median) for tasks, at in by_tasks.items()]
        for way, by_tasks in grown.items()
    }
    axes = "tasks", f"time per unit / that of {BASE} tasks"
    plot = Plot("waiting", "Tasks that wait for a connection", *axes, lines, x_scale="log")
    section.text += [table(HEAD, rows), plot]

"""What a unit costs against the same work in `sessionmaker.begin()`, with and without pre-ping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Block, Ratio, Series, in_tasks, in_threads, interleave, ratio
from .model import async_engine, async_units, sync_engine, sync_units
from .plots import Plot
from .report import Section, table
from .works import Works, async_works, sync_works

HAND, PING, UNIT = "by hand", "by hand with pre-ping", "unit"
#: Tasks or threads at once, and connections in the pool.
ASYNC_LEVELS = ((1, 5), (20, 20), (20, 5))
SYNC_LEVELS = ((1, 5), (20, 5))
HEAD = ("work", "by hand, µs", "unit, µs", "unit / by hand", "its client CPU", "and when quiet")
HEAD_PING = "with pre-ping / unit"
#: Of each work, the ratio to by hand at each level.
Bars = dict[str, list[tuple[float | str, float]]]
#: No slower than by hand, and 1.2 times the speed with pre-ping.
BY_HAND, WITH_PING = 1.0, 1.2


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """Every work at every level."""
    section = Section("Overhead of a unit")
    section.text.append(__doc__ or "")
    section.text.append(
        "Everything on: admission, ledger, and watch in a lifespan, on an engine by `from_url`. "
        "Times are medians per unit; ratios are medians of those within a round, quartiles in "
        "brackets. When quiet: the ratio of the lowest deciles of client CPU, which other programs "
        "disturb least. In the last column more is better, in the others less."
    )
    rounds = 8 if quick else 36
    bars: Bars = defaultdict(list)
    for concurrency, pool_size in ASYNC_LEVELS:
        async with AsyncExitStack() as stack:
            blocks = await _async_blocks(server, stack, concurrency, pool_size)
            await _level(section, "asyncpg, tasks", blocks, rounds, concurrency, pool_size, bars)
    for concurrency, pool_size in SYNC_LEVELS:
        async with AsyncExitStack() as stack:
            blocks = _sync_blocks(server, stack, concurrency, pool_size)
            await _level(section, "psycopg, threads", blocks, rounds, concurrency, pool_size, bars)
    plot = Plot("overhead", section.title, "", "time / that by hand", bars, bars=True)
    section.text.append(plot)
    return section


async def _async_blocks(
    server: EmbeddedPostgres, stack: AsyncExitStack, concurrency: int, pool_size: int
) -> dict[str, dict[str, Block]]:
    url = server.url("asyncpg")
    uow = await stack.enter_async_context(async_units(url, pool_size))
    ways: dict[str, Works] = {}
    for name, ping in ((HAND, False), (PING, True)):
        made = async_engine(url, pool_size=pool_size, pool_pre_ping=ping)
        engine = await stack.enter_async_context(made)
        ways[name] = async_works(async_sessionmaker(engine, expire_on_commit=False).begin)
    ways[UNIT] = async_works(uow, joining=uow)
    return _by_work(ways, lambda work: in_tasks(work, concurrency))


def _sync_blocks(
    server: EmbeddedPostgres, stack: AsyncExitStack, concurrency: int, pool_size: int
) -> dict[str, dict[str, Block]]:
    url = server.url("psycopg")
    uow = stack.enter_context(sync_units(url, pool_size))
    ways: dict[str, Works] = {}
    for name, ping in ((HAND, False), (PING, True)):
        made = sync_engine(url, pool_size=pool_size, pool_pre_ping=ping)
        ways[name] = sync_works(
            sessionmaker(stack.enter_context(made), expire_on_commit=False).begin
        )
    ways[UNIT] = sync_works(uow, joining=uow)
    threads = stack.enter_context(ThreadPoolExecutor(concurrency))
    return _by_work(ways, lambda work: in_threads(work, concurrency, threads))


def _by_work(
    ways: Mapping[str, Works], block: Callable[[Callable[[], Any]], Block]
) -> dict[str, dict[str, Block]]:
    return {work: {name: block(works[work]) for name, works in ways.items()} for work in ways[UNIT]}


async def _level(
    section: Section,
    kind: str,
    blocks: Mapping[str, Mapping[str, Block]],
    rounds: int,
    concurrency: int,
    pool_size: int,
    bars: Bars,
) -> None:
    title = f"{kind}: {concurrency} at once, pool of {pool_size}"
    rows: list[list[str]] = []
    times: dict[str, Ratio] = {}
    cpu: dict[str, float] = {}
    speeds: dict[str, Ratio] = {}
    for work, ways in blocks.items():
        found = await interleave(ways, rounds, concurrency)
        cpu[work] = found[UNIT].quiet_cpu / found[HAND].quiet_cpu
        times[work] = ratio(found[UNIT].elapsed, found[HAND].elapsed)
        speeds[work] = ratio(found[PING].elapsed, found[UNIT].elapsed)
        bars[work].append((title, times[work].median))
        rows.append(_row(work, found, times[work], cpu[work], speeds[work]))
    section.text += [f"### {title}", table((*HEAD, HEAD_PING), rows)]
    section.target(f"{title}: time of the unit / by hand", "≤", BY_HAND, times)
    section.target(f"{title}: its client CPU when quiet", "≤", BY_HAND, cpu)
    section.target(f"{title}: speed of the unit / with pre-ping", "≥", WITH_PING, speeds)


def _row(
    work: str, found: Mapping[str, Series], time: Ratio, quiet: float, speed: Ratio
) -> list[str]:
    hand, unit = found[HAND], found[UNIT]
    figures = (f"{hand.microseconds:.0f}", f"{unit.microseconds:.0f}")
    cpu = ratio(unit.cpu, hand.cpu)
    return [work, *figures, str(time), str(cpu), f"{quiet:.2f}", str(speed)]

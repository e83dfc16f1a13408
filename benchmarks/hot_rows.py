"""Hot rows: transfers between few accounts, by units and by the ways that people write by hand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from unitofwork import RetriesExceededError
from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Ratio, percentile, ratio
from .model import Account, async_engine, async_units
from .plots import Plot
from .report import Section, table
from .transfers import LATE, LOCK_MANY, NAIVE, SORTED, Tally, Way, by_hand, in_units, raw

ACCOUNTS, TASKS = (2, 8, 100, 1000), (8, 16, 64)
#: Seconds of each block that are not counted.
WARM_UP = 0.3
#: Accounts from this one on belong to one task each, to connect with before the clock runs.
FREE = 5000
#: Seconds that tasks have to connect, and to end.
TO_CONNECT, TO_END = 30.0, 1.0
#: Transfers that deadlock take seconds: with so few accounts, a block must see some of them end.
HOT, TIMES_LONGER = 8, 4
TIMES_NAIVE, OF_SORTED, LEVEL = 15, 0.9, 0.9
HEAD = (
    "accounts",
    "way",
    f"of {SORTED}",
    "commits/s",
    "lowest",
    "highest",
    "p99, ms",
    "deadlocks",
    "restarts",
    "given up",
    "commits",
)


@dataclass(slots=True)
class Found:
    """The blocks of one way."""

    #: Commits per second of each block.
    rates: list[float] = field(default_factory=list)
    #: Seconds; those under way at the end of a block are in it, with the time so far.
    latencies: list[float] = field(default_factory=list)
    commits: int = 0
    tally: Tally = field(default_factory=Tally)


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """Few to many accounts, 8 to 64 tasks."""
    section = Section("Hot rows")
    section.text += [
        f"{__doc__} Each task makes one transfer after the other between two accounts that are "
        "chosen at random; there is a connection for each task. "
        f'"{LOCK_MANY}": both rows in one call, in `uow.attempts()`. "{LATE}": two `tx.lock` in '
        f'the order of the transfer. "{NAIVE}": the same two with SQLAlchemy, run again after a '
        f'deadlock, with the same waits. "{SORTED}": one sorted `SELECT ... FOR NO KEY UPDATE`.',
        "Ratios are medians of those within a round; a block without a commit counts as having "
        "one. Deadlocks and restarts are those that the client was told of, in all rounds and also "
        f"before and after the counted part of a block, whose first {WARM_UP} s are left out.",
    ]
    rounds, seconds = (1, 0.5) if quick else (3, 1.2)
    found: dict[tuple[int, int], dict[str, Found]] = {}
    for tasks in TASKS[:1] if quick else TASKS:
        async with AsyncExitStack() as stack:
            engine, ways = await _ways(server, stack, tasks)
            for accounts in (8, 1000) if quick else ACCOUNTS:
                before = await _total(engine)
                found[tasks, accounts] = await _level(ways, accounts, tasks, rounds, seconds)
                if await _total(engine) != before:
                    raise AssertionError("a way to transfer loses updates")
        levels = {accounts: ways for (at, accounts), ways in found.items() if at == tasks}
        _tell(section, tasks, levels)
    _targets(section, found)
    return section


async def _ways(
    server: EmbeddedPostgres, stack: AsyncExitStack, tasks: int
) -> tuple[AsyncEngine, dict[str, Way]]:
    url = server.url("asyncpg")
    ways: dict[str, Way] = {}
    for name in (LOCK_MANY, LATE):  # each its own, whose statistics count its deadlocks alone
        uow = await stack.enter_async_context(async_units(url, tasks))
        ways[name] = in_units(uow)[name]
    engine = await stack.enter_async_context(async_engine(url, pool_size=tasks))
    pool = asyncpg.create_pool(server.url(None), min_size=1, max_size=tasks)
    return engine, {**ways, **by_hand(engine), **raw(await stack.enter_async_context(pool))}


async def _total(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.sum(Account.balance))) or 0)


async def _level(
    ways: Mapping[str, Way], accounts: int, tasks: int, rounds: int, seconds: float
) -> dict[str, Found]:
    found: dict[str, Found] = defaultdict(Found)
    order = list(ways)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            longer = TIMES_LONGER if name == NAIVE and accounts <= HOT else 1
            await _block(ways[name], found[name], accounts, tasks, seconds * longer)
    return {name: found[name] for name in ways}


async def _block(way: Way, found: Found, accounts: int, tasks: int, seconds: float) -> None:
    """So many tasks at once for so many seconds."""
    under_way: dict[int, float] = {}
    done: list[float] = []
    over = False
    connected = asyncio.Barrier(tasks + 1)

    async def worker(number: int) -> None:
        for _ in range(3):
            await way.transfer(FREE + 2 * number, FREE + 2 * number + 1)
        await connected.wait()
        while not over:
            under_way[number] = time.perf_counter()
            with contextlib.suppress(RetriesExceededError):
                await way.transfer(*random.sample(range(1, accounts + 1), 2))
                done.append(time.perf_counter() - under_way[number])
            del under_way[number]

    before = way.tally()
    workers = [asyncio.create_task(worker(number)) for number in range(tasks)]
    await asyncio.wait_for(connected.wait(), TO_CONNECT)
    await asyncio.sleep(WARM_UP)
    done.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    ended, commits, over = time.perf_counter(), len(done), True
    found.latencies += [*done, *(ended - since for since in under_way.values())]
    await _end(workers)
    found.commits += commits
    found.rates.append(max(commits, 1) / (ended - began))
    after = way.tally()
    found.tally.restarts += after.restarts - before.restarts
    found.tally.deadlocks += after.deadlocks - before.deadlocks
    found.tally.given_up += after.given_up - before.given_up


async def _end(workers: Iterable[asyncio.Task[None]]) -> None:
    """Let them end by themselves, so that connections last; those in a deadlock are cancelled."""
    done, left = await asyncio.wait(workers, timeout=TO_END)
    while left:
        # More than once: where the server's error arrives together with a cancellation, asyncpg
        # raises the error, and a loop that retries on it goes on.
        for each in left:
            each.cancel()
        ended, left = await asyncio.wait(left, timeout=1.0)
        done |= ended
    for each in done:
        if not each.cancelled():
            each.result()


def _tell(section: Section, tasks: int, levels: Mapping[int, Mapping[str, Found]]) -> None:
    rows: list[list[object]] = []
    for accounts, ways in levels.items():
        for name, one in ways.items():
            rates = (statistics.median(one.rates), min(one.rates), max(one.rates))
            tally = (one.tally.deadlocks, one.tally.restarts, one.tally.given_up)
            rows.append(
                [
                    *(accounts, name, ratio(one.rates, ways[SORTED].rates)),
                    *(f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}" for rate in rates),
                    *(f"{percentile(one.latencies, 99) * 1000:.0f}", *tally, one.commits),
                ]
            )
    names = next(iter(levels.values()))
    lines = {
        name: [(accounts, statistics.median(at[name].rates)) for accounts, at in levels.items()]
        for name in names
    }
    what = f"{tasks} tasks on hot rows", "accounts", "commits/s"
    plot = Plot(f"hot-rows-{tasks}", *what, lines, x_scale="log", y_scale="log")
    section.text += [f"### {tasks} tasks", table(HEAD, rows), plot]


def _targets(section: Section, found: Mapping[tuple[int, int], Mapping[str, Found]]) -> None:
    deadlocks: dict[str, Ratio | float] = {
        name: sum(at[name].tally.deadlocks for at in found.values()) for name in (LOCK_MANY, LATE)
    }
    section.target("deadlocks of units, in all", "≤", 0, deadlocks)

    def against(name: str, accounts: int | None = None) -> dict[str, Ratio | float]:
        return {
            f"{of} accounts, {tasks} tasks": ratio(at[LOCK_MANY].rates, at[name].rates)
            for (tasks, of), at in found.items()
            if accounts in (None, of)
        }

    section.target(f"{LOCK_MANY}: commits/s / {NAIVE}", "≥", TIMES_NAIVE, against(NAIVE, 8))
    section.target(f"{LOCK_MANY}: commits/s / {SORTED}", "≥", OF_SORTED, against(SORTED))
    section.target(f"{LOCK_MANY}: commits/s / {NAIVE}, level", "≥", LEVEL, against(NAIVE, 1000))

"""Requests per second with an external call in the middle of their work, held or released."""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from unitofwork.testing.postgres import EmbeddedPostgres

from .kinds import HOLDING, OUTSIDE, TWO, Request, requests
from .model import async_engine, async_units
from .plots import Plot
from .report import Section, table

ALONE = "one task alone"
POOLS = (5, 20)
#: Seconds.
CALLS = (0.02, 0.2, 0.5)
TASKS = 100
OF_BOUND, OF_HOLDING = 0.95, 10
HEAD = ("pool", "call, ms", HOLDING, "its bound", TWO, OUTSIDE, "their bound", "set by")
RATIOS = ("outside / bound", "outside / two by hand", "outside / holding")


#: Ways to do a request.
Ways = Mapping[str, Request]


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """Pools of 5 and 20, calls of 20, 200 and 500 ms."""
    section = Section("External calls")
    section.text += [
        f"{__doc__} Read a row, call, write the row: {TASKS} tasks that do one request after the "
        "other, in a steady state (the first and last wave are not counted). "
        f'"{HOLDING}": in one transaction. "{TWO}": in two, the second one reading the row again '
        f'with a lock. "{OUTSIDE}": in one unit, with the call in `tx.outside`.',
        "The bound, by Little's law: of holding, connections / (call + database time), of the "
        f"others {TASKS} tasks / (call + database time); and in no case more than the machine can "
        "do, which is measured by hand with a call of 0 ms.",
    ]
    rows, introduced = [], len(section.text)
    for pool_size in POOLS:
        async with AsyncExitStack() as stack:
            url = server.url("asyncpg")
            made = async_engine(url, pool_size=pool_size, pool_timeout=120)
            engine = await stack.enter_async_context(made)
            uow = await stack.enter_async_context(async_units(url, pool_size))
            calls = CALLS[1:2] if quick else CALLS
            rows += await _pool(section, pool_size, requests(engine, uow), calls, 1 if quick else 2)
    section.text.insert(introduced, table((*HEAD, *RATIOS), rows))
    return section


async def _pool(
    section: Section, pool_size: int, ways: Ways, calls: Sequence[float], rounds: int
) -> list[list[object]]:
    found: dict[tuple[str, float], list[float]] = defaultdict(list)
    for request in ways.values():
        await rate(request, 0, TASKS, TASKS)  # connects, and fills caches
    for _ in range(rounds):
        found[ALONE, 0].append(await rate(ways[TWO], 0, 1, 40))
        for name in (HOLDING, TWO):
            found[name, 0].append(await rate(ways[name], 0, TASKS, 3 * TASKS))
        for call, (name, request) in itertools.product(calls, ways.items()):
            wave = pool_size if name == HOLDING else TASKS
            found[name, call].append(await rate(request, call, wave, wave * waves(call, wave)))
    medians = {key: statistics.median(rates) for key, rates in found.items()}
    lines = {name: [(call * 1000, medians[name, call]) for call in calls] for name in ways}
    axes = "call, ms", "requests/s"
    plot = Plot(f"external-{pool_size}", f"External calls, pool of {pool_size}", *axes, lines)
    section.text.append(plot)
    return [_row(section, pool_size, call, medians) for call in calls]


def waves(call: float, wave: int) -> int:
    """How many waves to count: about half a second of calls, at most some hundred requests."""
    return max(2, min(math.ceil(0.4 / call), 300 // wave))


async def rate(request: Request, call: float, wave: int, counted: int) -> float:
    """Requests per second in a steady state.

    `wave`: how many can be in the middle of a call at once; a wave before and one after those
    that are `counted` are left out, so that nothing starts up or dries out meanwhile.
    """
    left = itertools.repeat(None, counted + 2 * wave)
    done: list[float] = []

    async def task() -> None:
        for _ in left:
            await request(call)
            done.append(time.perf_counter())

    await asyncio.gather(*(task() for _ in range(TASKS if wave > 1 else 1)))
    return counted / (done[wave + counted - 1] - done[wave - 1])


def _row(
    section: Section, pool_size: int, call: float, rates: Mapping[tuple[str, float], float]
) -> list[object]:
    took, machine = call + 1 / rates[ALONE, 0], rates[TWO, 0]
    held, bound = min(pool_size / took, rates[HOLDING, 0]), min(TASKS / took, machine)
    holding, two, outside = (rates[name, call] for name in (HOLDING, TWO, OUTSIDE))
    shares = {"tx.outside": outside / bound, "two by hand": two / bound}
    what = f"pool of {pool_size}, call of {call * 1000:.0f} ms"
    section.target(f"{what}: requests per second / the bound", "≥", OF_BOUND, shares)
    if (pool_size, call) == (5, 0.2):
        gain = {"tx.outside": outside / holding}
        section.target(f"{what}: requests per second / holding", "≥", OF_HOLDING, gain)
    figures = [f"{figure:.0f}" for figure in (holding, held, two, outside, bound)]
    set_by = "the machine" if bound == machine else "the tasks"
    ratios = (f"**{outside / bound:.2f}**", f"{outside / two:.2f}", f"**{outside / holding:.1f}**")
    return [pool_size, f"{call * 1000:.0f}", *figures, set_by, *ratios]

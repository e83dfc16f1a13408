"""Three times as many requests as can be served: what still arrives in time, and how late."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import async_sessionmaker

from unitofwork import AcquireTimeoutError, Shedding
from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import in_tasks, percentile
from .model import async_engine, async_units
from .plots import Plot
from .report import Section, table

HAND, UNIT, SHED = "by hand", "units", "units with Shedding"
POOL, TIMES = 5, 3
#: What a request does on the server, so that the pool is the limit and not the machine.
WORK = text("SELECT pg_sleep(0.02)")
#: Seconds that a client waits for its answer.
PATIENCE = 1.0
HEAD = (
    "way",
    "goodput / capacity",
    "in time/s",
    "served",
    "p50, ms",
    "p99, ms",
    "refused",
    "told after, p99, ms",
    "unanswered",
)
Request = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Found:
    """What became of the requests; all times in seconds."""

    seconds: float
    #: When it was served, and how long that took.
    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    unanswered: int = 0

    @property
    def goodput(self) -> float:
        """Served within a client's patience, per second."""
        return sum(took <= PATIENCE for _, took in self.served) / self.seconds

    def per_second(self) -> list[tuple[float, float]]:
        """Served in time, in each second of the load."""
        counts = [0] * max(1, int(self.seconds))
        for at, took in self.served:
            if took <= PATIENCE and at < len(counts):
                counts[int(at)] += 1
        return [(float(second), float(count)) for second, count in enumerate(counts, 1)]


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """By hand, in units, and in units that shed load; 30 s each."""
    section = Section("Overload")
    seconds = 4.0 if quick else 30.0
    async with AsyncExitStack() as stack:
        ways = await _ways(server, stack)
        capacity = await _capacity(ways[HAND], 1.0 if quick else 3.0)
        found = {name: await _load(ways[name], TIMES * capacity, seconds) for name in ways}
    rows = [_row(name, one, capacity) for name, one in found.items()]
    lines = {name: one.per_second() for name, one in found.items()}
    axes = "second of the load", f"served within {PATIENCE:g} s, per second"
    section.text += [
        f"{__doc__} A pool of {POOL}; a request is one statement that takes 20 ms on the server; "
        f"they come at random for {seconds:g} s, {TIMES} times as many as a closed loop of {POOL} "
        f"tasks does ({capacity:.0f}/s), and do not wait for each other. In time is what is "
        f"served within {PATIENCE:g} s, after which its client would have left. Waits are bounded "
        f'by 30 s by hand and 10 s in units; "{SHED}": `shedding=Shedding()`. Unanswered: waiting '
        "when the load ended.",
        table(HEAD, rows),
        Plot("overload", f"{TIMES} times the capacity", *axes, lines),
    ]
    return section


async def _ways(server: EmbeddedPostgres, stack: AsyncExitStack) -> dict[str, Request]:
    url = server.url("asyncpg")
    engine = await stack.enter_async_context(async_engine(url, pool_size=POOL))
    plain = await stack.enter_async_context(async_units(url, POOL))
    shedding = await stack.enter_async_context(async_units(url, POOL, shedding=Shedding()))

    def request(begin: Callable[[], Any]) -> Request:
        async def one() -> None:
            async with begin() as session:
                await session.execute(WORK)

        return one

    begin = async_sessionmaker(engine, expire_on_commit=False).begin
    return {HAND: request(begin), UNIT: request(plain), SHED: request(shedding)}


async def _capacity(request: Request, seconds: float) -> float:
    block = in_tasks(request, POOL)
    await block(2 * POOL)  # connects
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        await block(2 * POOL)
        done += 2 * POOL
    return done / took


async def _load(request: Request, rate: float, seconds: float) -> Found:
    """`rate` requests a second at random times, whatever becomes of those before."""
    await in_tasks(request, POOL)(2 * POOL)  # connects
    found, began = Found(seconds), time.perf_counter()

    async def one(due: float) -> None:
        try:
            await request()
        except (AcquireTimeoutError, exc.TimeoutError):
            found.refused.append(time.perf_counter() - due)
        else:
            now = time.perf_counter()
            found.served.append((now - began, now - due))

    tasks = []
    due = began
    for _ in itertools.count():
        due += random.expovariate(rate)
        if due > began + seconds:
            break
        # Due when it should have come: a loop that is late by itself is the request's loss too.
        await asyncio.sleep(max(0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.sleep(max(0, began + seconds - time.perf_counter()))
    left = [task for task in tasks if not task.done()]
    found.unanswered = len(left)
    for task in left:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    failed = [task for task in tasks if not task.cancelled() and task.exception() is not None]
    for task in failed[:1]:
        task.result()
    return found


def _row(name: str, found: Found, capacity: float) -> list[object]:
    took = [each for _, each in found.served]
    times = (f"{percentile(took, percent) * 1000:.0f}" for percent in (50, 99))
    told = f"{percentile(found.refused, 99) * 1000:.0f}" if found.refused else "-"
    goodput = (f"**{found.goodput / capacity:.2f}**", f"{found.goodput:.0f}")
    return [name, *goodput, len(took), *times, len(found.refused), told, found.unanswered]

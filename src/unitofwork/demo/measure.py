"""The load, and the figures taken from it."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import exc

from unitofwork import AcquireTimeoutError

from .plan import EXPECTED, WORKERS, Job, Plan

DEADLOCK_DETECTED = "40P01"


class Side(Protocol):
    """One way to write the work; `attempts` counts those at a transfer."""

    attempts: int

    async def request(self, customer_id: int) -> None: ...
    async def transfer(self, source_id: int, target_id: int, amount: int) -> None: ...


@dataclass(slots=True)
class Requests:
    """What became of the requests; times in seconds."""

    latencies: list[float] = field(default_factory=list)
    pool_timeouts: int = 0
    other_errors: list[str] = field(default_factory=list)
    elapsed: float = 0.0
    held: int = 0
    written: int = 0

    @property
    def served(self) -> int:
        return len(self.latencies)

    @property
    def failed(self) -> int:
        return self.pool_timeouts + len(self.other_errors)

    @property
    def per_second(self) -> float:
        return self.served / self.elapsed

    def latency(self, percent: int) -> float | None:
        """A percentile of the requests that were served; None if none was."""
        return percentile(self.latencies, percent)


@dataclass(slots=True)
class Transfers:
    """What became of the transfers; `total` is the sum of the accounts after them."""

    done: int = 0
    restarts: int = 0
    elapsed: float = 0.0
    deadlocks: int = 0
    total: int = EXPECTED

    @property
    def per_second(self) -> float:
        return self.done / self.elapsed


def percentile(values: list[float], percent: int) -> float | None:
    """The value that `percent` of 100 don't exceed, between two neighbours interpolated."""
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


async def send_requests(side: Side, plan: Plan, advance: Callable[[], None]) -> Requests:
    """All requests at once."""
    figures = Requests()

    async def one(customer_id: int) -> None:
        began = time.perf_counter()
        try:
            await side.request(customer_id)
        except (exc.TimeoutError, AcquireTimeoutError):
            figures.pool_timeouts += 1
        except Exception as error:
            figures.other_errors.append(f"{type(error).__name__}: {error}".splitlines()[0])
        else:
            figures.latencies.append(time.perf_counter() - began)
        advance()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for customer_id in range(1, plan.requests + 1):
            group.create_task(one(customer_id))
    figures.elapsed = time.perf_counter() - began
    return figures


async def make_transfers(
    side: Side, jobs: Iterable[Job], limit: float, figures: Transfers, advance: Callable[[], None]
) -> None:
    """Workers take one transfer after the other, for `limit` seconds; adds to the figures.

    A deadlock's victim tries again, in time. What ends after it doesn't count: at the end of plain
    SQLAlchemy one deadlock after the other is waited for.
    """
    left = iter(jobs)
    started = 0
    began = time.perf_counter()

    def over() -> bool:
        return time.perf_counter() - began > limit

    async def work() -> None:
        nonlocal started
        for job in left:
            started += 1
            while not await attempt(job):
                pass
            if over():
                return

    async def attempt(job: Job) -> bool:
        try:
            await side.transfer(*job)
        except exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != DEADLOCK_DETECTED:
                raise
            # As people do: at random intervals, so that the same ones don't meet again.
            await asyncio.sleep(random.uniform(0, 0.1))
            return over()
        if not over():
            figures.done += 1
            advance()
        return True

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    figures.elapsed += min(time.perf_counter() - began, limit)
    figures.restarts += side.attempts - started

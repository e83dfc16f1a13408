"""Shedding: under three times the load it can take, the pool goes on working at full speed."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.contract.face import drive

from unitofwork import AcquireTimeoutError
from unitofwork.policies.shedding import Shedding

from .pool_face import LONG, PoolFace, both, sleep_in_database

POOL = 5
SERVICE = 0.05
SHEDDING = Shedding(target=0.1, interval=1.0)
SECONDS = 30.0 if LONG else 8.0


@dataclass
class Log:
    """When the units that got in came, how long they waited, and when they were done."""

    came: list[tuple[float, float]] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    late: int = 0

    async def unit(self, uow: Any) -> None:
        began = time.monotonic()
        try:
            async with both(uow()) as tx:
                self.came.append((began, time.monotonic() - began))
                await sleep_in_database(tx, SERVICE)
            self.done.append(time.monotonic())
        except AcquireTimeoutError as error:
            self.late += "shedding" not in str(error)
            self.shed.append(error.waited)


async def load(face: PoolFace, log: Log, uow: Any, rate: float, seconds: float) -> None:
    """Open `rate` units a second, whatever becomes of them."""
    start = time.monotonic()
    with ThreadPoolExecutor(400) as threads:
        tasks: list[Any] = []
        for number in range(int(rate * seconds)):
            due = start + number / rate - time.monotonic()
            if due > 0:
                await face.pause(due)
            if face.is_async:
                tasks.append(asyncio.create_task(log.unit(uow)))
            else:
                tasks.append(threads.submit(lambda: drive(log.unit(uow))))
        for task in tasks:
            await face.join(task)


async def capacity(face: PoolFace, uow: Any) -> float:
    """Units a second that the pool really does: a closed loop of as many workers as permits."""
    log, end = Log(), time.monotonic() + 1.5

    async def work() -> None:
        while time.monotonic() < end:
            await log.unit(uow)

    began = time.monotonic()
    await face.all([work] * POOL)
    return len(log.done) / (time.monotonic() - began)


@pytest.mark.timeout(900)
async def test_overload_is_shed(face: PoolFace) -> None:
    """At 3 times the capacity, waits stay within twice the target and 90 % of it gets done."""
    uow = face.gated(pool_size=POOL, max_overflow=0, shedding=SHEDDING)
    await face.warm(uow, POOL)
    normal = await capacity(face, uow)
    log = Log()
    start = time.monotonic()
    await load(face, log, uow, 3 * normal, SECONDS)

    settled = start + 2 * SHEDDING.interval  # until then it might have been a burst
    waits = sorted(wait for began, wait in log.came if began > settled)
    # A thread or task that was let in may have to wait for its turn to notice it.
    noticed = 0.05
    assert waits[int(len(waits) * 0.99)] <= 2 * SHEDDING.target + noticed
    done = [at for at in log.done if settled < at < start + SECONDS]
    assert len(done) / (SECONDS - 2 * SHEDDING.interval) >= 0.9 * normal
    assert log.shed
    assert log.late == 0
    stats = uow.stats()
    assert stats.shed == len(log.shed)
    assert stats.admitted == stats.waiting == stats.checked_out == stats.timeouts == 0


async def test_a_short_burst_loses_nothing(face: PoolFace) -> None:
    """A line that is worked off within the interval is no overload, however long its waits."""
    uow = face.gated(pool_size=POOL, max_overflow=0, shedding=SHEDDING)
    await face.warm(uow, POOL)
    log = Log()
    burst = 50  # 0.5 s of work for the pool: waits of five times the target
    await face.all([lambda: log.unit(uow)] * burst)
    assert len(log.done) == burst
    assert max(wait for _, wait in log.came) > 2 * SHEDDING.target
    assert uow.stats().shed == 0


async def test_after_the_storm_all_is_as_before(face: PoolFace) -> None:
    """When the overload is over, units come in at once again, and a burst is a burst again."""
    uow = face.gated(pool_size=POOL, max_overflow=0, shedding=SHEDDING)
    await face.warm(uow, POOL)
    log = Log()
    await load(face, log, uow, 300, 3 * SHEDDING.interval)
    assert log.shed
    calm = Log()
    await load(face, calm, uow, 30, 1.5 * SHEDDING.interval)
    await face.all([lambda: calm.unit(uow)] * 40)
    assert calm.shed == []

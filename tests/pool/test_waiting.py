"""The line before the pool: first in first out, no permit is ever lost, and not too long."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import pytest

from unitofwork import AcquireTimeoutError

from .pool_face import LONG, PoolFace, both, one, sleep_in_database


async def in_line(face: PoolFace, uow: Any, work: Any, count: int) -> list[Any]:
    """Start `count` of `work`, each when the one before it is in line; no children of a unit."""
    children = []
    for number in range(count):
        children.append(face.apart(lambda number=number: work(number)))
        await face.until(lambda number=number: uow.stats().waiting == number + 1)
    return children


@pytest.mark.parametrize("connections", [1, 2])
async def test_first_in_first_out(face: PoolFace, connections: int) -> None:
    """50 that wait for a pool of 2 get in exactly in the order in which they came."""
    uow = face.make(pool_size=2)
    passed: list[int] = []

    async def work(number: int) -> None:
        async with both(uow(connections=connections)) as tx:
            passed.append(number)
            await one(tx)

    # One at a time gets in, or two threads that were let in together could overtake each other
    # on their way from the gate to `passed`.
    gong = face.event()

    async def hold() -> None:
        async with both(uow()):
            await gong.heard()

    async with both(uow(connections=2)):
        held = face.start(hold) if connections == 1 else None
        children = await in_line(face, uow, work, 50)
    for child in children:
        await face.join(child)
    gong.ring()
    if held is not None:
        await face.join(held)
    assert passed == list(range(50))
    assert uow.stats().admitted == uow.stats().waiting == 0


async def test_late_threads_do_not_starve(sync_face: PoolFace) -> None:
    """50 threads at work on a pool of 2 get about the same share; a bare QueuePool starves some."""
    uow = sync_face.make(pool_size=2)
    done: Counter[int] = Counter()
    seconds = 2.0
    start = time.monotonic()

    async def work(number: int) -> None:
        while time.monotonic() < start + seconds:
            async with both(uow()) as tx:
                await one(tx)
                done[number] += 1

    ended = await sync_face.all(
        [lambda number=number: work(number) for number in range(50)]  # type: ignore[misc]
    )
    assert ended == [None] * 50
    fair = sum(done.values()) / 50
    assert fair >= 2, "too few units to tell"
    assert min(done[number] for number in range(50)) >= fair / 2 - 1
    assert max(done.values()) <= fair * 2 + 1


@pytest.mark.parametrize("seed", range(5 if LONG else 2))
async def test_cancelled_waiters_lose_nothing(async_face: PoolFace, seed: int) -> None:
    """300 units cancelled anywhere: who gets in does so in order, and every permit comes back."""
    uow = async_face.make(pool_size=3)
    await async_face.warm(uow, 3)
    dice = random.Random(seed)
    passed: list[int] = []
    answers: Counter[str] = Counter()

    async def work(number: int) -> None:
        try:
            async with uow(connections=1 + number % 2) as tx:
                passed.append(number)
                await one(tx)
        except asyncio.CancelledError:
            answers["cancelled"] += 1
            raise
        answers["done"] += 1

    tasks = [asyncio.create_task(work(number)) for number in range(300)]
    waiting = list(tasks)
    while not all(task.done() for task in tasks):
        dice.shuffle(waiting)
        for task in waiting[: dice.randrange(4)]:
            task.cancel()
        waiting = [task for task in waiting if not task.done()]
        await asyncio.sleep(dice.choice([0, 0, 0.001]))
    assert passed == sorted(passed)
    assert answers["cancelled"] > 20 < answers["done"]
    stats = uow.stats()
    assert stats.admitted == stats.waiting == stats.checked_out == 0

    # The whole pool is there again, all of it at once.
    async with uow(connections=3, acquire_timeout=1) as tx:
        await one(tx)


async def test_a_cancelled_big_one_lets_the_others_by(async_face: PoolFace) -> None:
    """A tree at the head that wanted the whole pool blocks nobody any more once it is cancelled."""
    uow = async_face.make(pool_size=2)
    async with uow() as tx:
        await one(tx)

        async def big() -> None:
            async with uow(connections=2):
                raise AssertionError("was admitted")

        async def small() -> int:
            async with uow() as tx:
                return await one(tx)

        first = async_face.apart(big)
        await async_face.until(lambda: uow.stats().waiting == 1)
        second = async_face.apart(small)
        await async_face.until(lambda: uow.stats().waiting == 2)
        first.cancel()
        assert await asyncio.wait_for(second, 5) == 1
        assert first.cancelled()


async def test_waiters_that_time_out_lose_nothing(face: PoolFace) -> None:
    """Deadlines that pass in the line, some just when a permit comes: all permits are back."""
    uow = face.make(pool_size=2)
    dice = random.Random(7)
    patience = [dice.uniform(0.001, 0.12) for _ in range(60)]

    async def work(seconds: float) -> str:
        try:
            async with both(uow(acquire_timeout=seconds)) as tx:
                await sleep_in_database(tx, 0.01)
        except AcquireTimeoutError as error:
            return "too late" if error.waited >= seconds * 0.99 else "too early"
        return "done"

    works = [lambda seconds=seconds: work(seconds) for seconds in patience]
    answers = Counter(await face.all(works))
    assert answers["too late"] + answers["done"] == 60
    assert answers["too late"] > 0 < answers["done"]
    stats = uow.stats()
    assert stats.timeouts == answers["too late"]
    assert stats.admitted == stats.waiting == stats.checked_out == 0
    async with both(uow(connections=2, acquire_timeout=1)) as tx:
        await one(tx)


async def test_a_line_that_is_long_enough_refuses_at_once(face: PoolFace) -> None:
    """`max_waiting=2`: two wait, the third is told so at once; the two are served later."""
    uow = face.gated(pool_size=1, max_overflow=0, max_waiting=2)
    gong = face.event()

    async def work(number: int) -> int:
        async with both(uow()) as tx:
            await gong.heard()
            return await one(tx) + number

    holder = face.start(lambda: work(100))
    await face.until(lambda: uow.stats().admitted == 1)
    children = await in_line(face, uow, work, 2)
    began = time.monotonic()
    with pytest.raises(AcquireTimeoutError) as caught:
        async with both(uow()):
            raise AssertionError("was admitted")
    assert time.monotonic() - began < 1
    assert caught.value.waited < 1
    assert "max_waiting" in str(caught.value)
    assert "2 were waiting" in str(caught.value)
    stats = uow.stats()
    assert (stats.refused, stats.timeouts, stats.waiting) == (1, 0, 2)
    gong.ring()
    assert [await face.join(child) for child in (holder, *children)] == [101, 1, 2]


async def test_nobody_may_wait(face: PoolFace) -> None:
    """`max_waiting=0`: the pool's capacity is served, everyone else is refused at once."""
    uow = face.gated(pool_size=2, max_overflow=1, max_waiting=0)
    gong = face.event()

    async def work() -> int:
        async with both(uow()) as tx:
            await gong.heard()
            return await one(tx)

    holders = [face.start(work) for _ in range(3)]
    await face.until(lambda: uow.stats().admitted == 3)
    ended = await face.all([work] * 10)
    assert [type(error) for error in ended] == [AcquireTimeoutError] * 10
    gong.ring()
    assert [await face.join(child) for child in holders] == [1, 1, 1]

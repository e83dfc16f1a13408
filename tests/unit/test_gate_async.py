"""The gate for tasks: no extra turn when free, first in first out, and no permit is ever lost."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from unitofwork.faces.gate_async import AsyncGate
from unitofwork.policies.admission import Admission, GateRefused, GateTimeout
from unitofwork.policies.shedding import Shedding


def suspensions(coroutine: Coroutine[Any, Any, None]) -> int:
    """Run to the end what needs no event loop. Returns how often it yielded to one."""
    count = 0
    try:
        while True:
            coroutine.send(None)
            count += 1
    except StopIteration:
        return count


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_free_gate_adds_no_turn_of_the_loop() -> None:
    """`acquire` runs through without a suspension while permits are left, as `try_acquire` does."""
    gate = AsyncGate(3)
    assert suspensions(gate.acquire(2)) == 0
    assert gate.try_acquire(1)
    assert not gate.try_acquire(1)
    gate.release(3)
    assert suspensions(gate.acquire(3, deadline=time.monotonic() + 1)) == 0


async def test_the_order_is_exactly_that_of_arrival() -> None:
    """1,000 tasks of 1 to 5 permits each pass in the order in which they came."""
    gate, dice, passed = AsyncGate(5), random.Random(3), []

    async def pass_through(number: int, permits: int) -> None:
        await gate.acquire(permits)
        passed.append(number)
        await turns(dice.randrange(3))
        gate.release(permits)

    await gate.acquire(5)
    tasks = [asyncio.create_task(pass_through(n, dice.randint(1, 5))) for n in range(1000)]
    await turns()
    assert gate.stats().waiting == 1000
    gate.release(5)
    await asyncio.gather(*tasks)
    assert passed == list(range(1000))


@pytest.mark.parametrize("steps", [*itertools.permutations(["release", "cancel 0", "cancel 1"])])
async def test_cancelled_in_the_turn_of_the_grant(steps: tuple[str, ...]) -> None:
    """In whichever order grant and cancellations come in one turn, the next in line gets it."""
    gate = AsyncGate(1)
    await gate.acquire()
    tasks = [asyncio.create_task(gate.acquire()) for _ in range(4)]
    await turns()
    for step in steps:
        if step == "release":
            gate.release()
        else:
            tasks[int(step[-1])].cancel()
    await turns()
    assert [task.cancelled() for task in tasks[:2]] == [True, True]
    assert tasks[2].done()
    assert not tasks[3].done()
    gate.release()
    await asyncio.wait_for(tasks[3], 5)
    gate.release()
    assert (gate.stats().in_use, gate.stats().waiting) == (0, 0)


async def test_a_cancelled_big_head_unblocks_those_behind_it() -> None:
    """Permits that it alone held up go on at once, without a release."""
    gate = AsyncGate(3)
    await gate.acquire(2)
    big = asyncio.create_task(gate.acquire(3))
    await turns()
    small = asyncio.create_task(gate.acquire(1))
    await turns()
    assert not small.done()
    big.cancel()
    await asyncio.wait_for(small, 5)


async def test_a_coroutine_that_is_thrown_away_leaves_the_line() -> None:
    """Closing it, as a garbage collection does, is a cancellation too."""
    gate = AsyncGate(1)
    await gate.acquire()
    waiter = gate.acquire()
    waiter.send(None)
    assert gate.stats().waiting == 1
    waiter.close()
    assert gate.stats().waiting == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shedding", [None, Shedding(target=0.0005, interval=0.002)])
async def test_random_cancellations_lose_no_permit(seed: int, shedding: Shedding | None) -> None:
    """3,000 tasks, cancelled, timed out or shed anywhere: all permits back, nobody passed."""
    gate = AsyncGate(7, shedding=shedding)
    dice = random.Random(seed)
    holding = 0
    order = []
    answers = {"cancelled": 0, "granted": 0, "not granted": 0}

    async def unit(number: int, permits: int) -> None:
        nonlocal holding
        await turns(dice.randrange(50))
        if not gate.try_acquire(permits):
            arrived = next(arrivals)
            suspended: list[bool] = []
            asyncio.get_running_loop().call_soon(suspended.append, True)
            in_time = time.monotonic() + dice.choice((0, 0.001, 0.01, 60))
            try:
                await gate.acquire(permits, deadline=in_time)
            except (GateTimeout, GateRefused):
                answers["not granted"] += 1
                return
            # A grant without a suspension is seen here before older ones, whose tasks run later.
            if suspended:
                order.append(arrived)
        holding += permits
        try:
            assert holding <= 7
            await turns(dice.randrange(4))
        finally:
            holding -= permits
            gate.release(permits)
        answers["granted"] += 1

    async def cancel_some(tasks: list[asyncio.Task[None]]) -> None:
        while pending := [task for task in tasks if not task.done()]:
            for task in dice.sample(pending, min(len(pending), dice.randrange(4))):
                task.cancel()
            await turns(1)

    arrivals = itertools.count()
    for _ in range(3):
        tasks = [asyncio.create_task(unit(n, dice.randint(1, 7))) for n in range(1000)]
        await cancel_some(tasks)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result
            answers["cancelled"] += result is not None
    stats = gate.stats()
    assert order == sorted(order)
    assert (stats.in_use, stats.waiting, holding) == (0, 0, 0)
    assert sum(answers.values()) == 3000
    assert min(answers.values()) > 20, answers
    assert gate.try_acquire(7)


async def test_the_deadline_ends_the_wait_and_says_what_it_was() -> None:
    """`GateTimeout` has the wait and the counts; the place in line is given up."""
    gate = AsyncGate(2)
    await gate.acquire(2)
    started = time.monotonic()
    with pytest.raises(GateTimeout, match=r"2 of 2 permits: timed out after 0\.\d+ s") as caught:
        await gate.acquire(2, deadline=started + 0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert caught.value.reason is Admission.TIMED_OUT
    assert 0.04 < caught.value.waited < 5
    assert caught.value.permits == 2
    stats = caught.value.stats
    assert (stats.capacity, stats.in_use, stats.waiting) == (2, 2, 0)
    assert (stats.granted, stats.timeouts, stats.shed, stats.refused) == (1, 1, 0, 0)
    assert stats.wait_seconds == stats.max_wait == caught.value.waited


async def test_a_deadline_in_the_past_asks_without_waiting() -> None:
    """Granted where the gate is free; else `GateTimeout`, without a turn of the loop."""
    gate = AsyncGate(1)
    assert suspensions(gate.acquire(deadline=0)) == 0
    with pytest.raises(GateTimeout):
        suspensions(gate.acquire(deadline=0))


async def test_a_big_head_that_times_out_unblocks_those_behind_it() -> None:
    """At its deadline what it had been holding up passes, without a release."""
    gate = AsyncGate(3)
    await gate.acquire(2)
    big = asyncio.create_task(gate.acquire(3, deadline=time.monotonic() + 0.05))
    await turns()
    await asyncio.wait_for(gate.acquire(1), 5)
    with pytest.raises(GateTimeout):
        await big


async def test_what_can_never_be_granted_and_a_long_line_are_refused_at_once() -> None:
    """`GateRefused`, with the reason, without a turn of the loop."""
    gate = AsyncGate(2, max_waiting=1)
    with pytest.raises(GateRefused) as caught:
        suspensions(gate.acquire(3))
    assert caught.value.reason is Admission.TOO_MANY
    await gate.acquire(2)
    waiter = asyncio.create_task(gate.acquire())
    await turns()
    with pytest.raises(GateRefused) as caught:
        suspensions(gate.acquire())
    assert caught.value.reason is Admission.REFUSED
    assert gate.stats().refused == 2
    gate.release(2)
    await asyncio.wait_for(waiter, 5)


async def test_shed_waiters_are_told_though_nothing_comes_back() -> None:
    """All connections stuck: after the interval the late ones go, and later ones when late."""
    gate = AsyncGate(1, shedding=Shedding(target=0.05, interval=0.2))
    await gate.acquire()
    told: list[int] = []

    async def wait(number: int) -> None:
        with pytest.raises(GateRefused) as caught:
            await gate.acquire(deadline=time.monotonic() + 60)
        assert caught.value.reason is Admission.SHED
        told.append(number)

    started = time.monotonic()
    tasks = [asyncio.create_task(wait(number)) for number in range(10)]
    await asyncio.sleep(0.2)
    tasks += [asyncio.create_task(wait(number)) for number in range(10, 20)]
    await asyncio.gather(*tasks)
    assert told == list(range(20))
    assert 0.29 < time.monotonic() - started < 5
    assert (gate.stats().shed, gate.stats().waiting) == (20, 0)


def test_a_gate_serves_one_event_loop_after_the_other() -> None:
    """Nothing of a loop that is closed stays behind, not even the timer of the shedding."""
    gate = AsyncGate(1, shedding=Shedding(target=0.01, interval=0.05))

    async def leave_a_timer() -> None:
        await gate.acquire()
        waiter = asyncio.create_task(gate.acquire())
        await turns()
        waiter.cancel()
        await turns()

    async def wait_to_be_shed() -> None:
        with pytest.raises(GateRefused):
            await asyncio.wait_for(gate.acquire(), 5)

    asyncio.run(leave_a_timer())
    asyncio.run(wait_to_be_shed())


async def test_a_wait_that_is_over_leaves_no_timer() -> None:
    """Nothing in the loop refers to the gate until a deadline that no longer matters."""
    gate = AsyncGate(1, shedding=Shedding(target=100, interval=1000))
    await gate.acquire()
    tasks = [asyncio.create_task(gate.acquire(deadline=time.monotonic() + 3600)) for _ in range(2)]
    await turns()
    tasks[1].cancel()
    gate.release()
    await turns()
    gone = weakref.ref(gate)
    del gate, tasks
    gc.collect()
    assert gone() is None


async def test_giving_back_too_much_is_an_error_and_changes_nothing() -> None:
    """`ValueError`; the gate goes on as before."""
    gate = AsyncGate(2)
    await gate.acquire()
    for permits in (0, 2):
        with pytest.raises(ValueError):
            gate.release(permits)
    with pytest.raises(ValueError):
        gate.try_acquire(0)
    gate.release()
    assert gate.try_acquire(2)


async def test_10_000_waiters_are_cheap() -> None:
    """In line, half of them cancelled, the rest served: seconds at most, not minutes."""
    gate = AsyncGate(1)
    await gate.acquire()
    started = time.perf_counter()
    deadline = time.monotonic() + 60
    tasks = [asyncio.create_task(gate.acquire(deadline=deadline)) for _ in range(10_000)]
    await turns()
    for task in tasks[::2]:
        task.cancel()
    await turns()
    gate.release()
    for task in tasks[1::2]:
        await task
        gate.release()
    assert time.perf_counter() - started < 10
    assert gate.stats().withdrawn == 5000

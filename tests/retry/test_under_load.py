"""Many units at once: on two hot rows, and on a server that is down."""

from __future__ import annotations

import collections
from typing import Any

import pytest
from sqlalchemy import exc
from tests.support.proxy import Proxy

from unitofwork import RetriesExceededError, RetryPolicy, set_testing
from unitofwork.policies.retrying import RetryBudget

from .world import Purse, RetryFace, both, each, fail, result


async def test_64_tasks_on_2_hot_rows(face: RetryFace) -> None:
    """Half of them lock the two rows in the other order: every unit ends within its 8 attempts."""
    tries: collections.Counter[int] = collections.Counter()

    async def move(tx: Any, number: int) -> None:
        tries[number] += 1
        source, target = (1, 2) if number % 2 else (2, 1)
        one = await result(tx.get_one(Purse, source, with_for_update=True))
        two = await result(tx.get_one(Purse, target, with_for_update=True))
        one.balance -= number
        two.balance += number

    def work(number: int) -> Any:
        async def one() -> None:
            await face.run(move, number, retry=RetryPolicy(), acquire_timeout=90)

        return one

    ended = await face.all(work(number) for number in range(64))
    assert ended == [None] * 64
    moved = sum(number if number % 2 else -number for number in range(64))
    assert face.balances() == [100 - moved, 100 + moved]
    most, all_of_them = max(tries.values()), sum(tries.values())
    print(f"{face.name}: 64 units, {all_of_them} attempts, at most {most} for one")
    assert most <= 8


async def test_an_outage_adds_a_tenth(face: RetryFace, proxy: Proxy, budget: RetryBudget) -> None:
    """Every statement loses its connection: 100 units try 100 + 10 + 20 times at most."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    set_testing()
    calls = 0

    async def body(tx: Any) -> None:
        nonlocal calls
        calls += 1
        proxy.cut()
        await result(tx.get(Purse, 1))

    notes = 0
    await result(_probe_once(face))
    proxy.when(b"retry_purse", times=1_000_000)
    for _ in range(100):
        with pytest.raises((exc.DBAPIError, RetriesExceededError)) as caught:
            await face.run(body, retry=RetryPolicy(attempts=8))
        notes += any("budget" in note for note in getattr(caught.value, "__notes__", ()))
    print(f"{face.name}: 100 units, {calls} attempts, {notes} times the budget was spent")
    assert 100 < calls <= 100 + 10 + 20
    assert notes >= 70
    assert not budget.spend()


async def _probe_once(face: RetryFace) -> None:
    async for attempt in each(face.uow.attempts()):
        async with both(attempt) as tx:
            await result(tx.get(Purse, 1))


async def test_deadlocks_are_not_on_the_budget(face: RetryFace, budget: RetryBudget) -> None:
    """They come from the application, and waiting makes them rarer: always retried."""
    while budget.spend():
        pass
    set_testing()
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        if len(calls) % 3:
            await fail(tx, 1_000, "40001")

    for _ in range(10):
        await face.run(body)
    assert len(calls) == 30


async def test_a_server_that_refuses_connections(face: RetryFace, proxy: Proxy) -> None:
    """It restarts: a unit that finds nobody there has done nothing, and is run again."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    calls = []
    proxy.refuse()

    async def body(tx: Any) -> None:
        calls.append(tx)
        if len(calls) == 3:
            proxy.refuse(False)
        await result(tx.get(Purse, 1))

    await face.run(body)
    assert len(calls) == 3


async def test_a_server_that_stays_away(face: RetryFace, proxy: Proxy, budget: RetryBudget) -> None:
    """Refused connections are on the budget, too: 100 units try at most 100 + 10 + 20 times."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    set_testing()
    calls = []
    proxy.refuse()

    async def body(tx: Any) -> None:
        calls.append(tx)
        await result(tx.get(Purse, 1))

    for _ in range(100):
        with pytest.raises((exc.DBAPIError, OSError, RetriesExceededError)):
            await face.run(body)
    print(f"{face.name}: 100 units, {len(calls)} attempts")
    assert len(calls) <= 100 + 10 + 20

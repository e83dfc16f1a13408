"""How many units a pool of each kind admits, and what becomes of the gate with the pool."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.pool import AssertionPool, NullPool, StaticPool
from tests.contract.face import sync_engine

from unitofwork import ConfigurationError

from .pool_face import PoolFace, both, one, pool_events, result, sleep_in_database


async def most_at_once(face: PoolFace, uow: Any, count: int = 20) -> int:
    """How many units are inside at the same time when so many are opened."""
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        async with both(uow()) as tx:
            inside += 1
            most = max(most, inside)
            await sleep_in_database(tx, 0.02)
            inside -= 1

    assert await face.all([work] * count) == [None] * count
    return most


async def test_the_gate_is_as_large_as_the_pool(face: PoolFace) -> None:
    """Size and overflow together."""
    uow = face.gated(pool_size=2, max_overflow=1)
    assert await most_at_once(face, uow) == 3
    stats = uow.stats()
    assert (stats.size, stats.overflow) == (2, 1)


async def test_more_than_the_pool_has_is_refused(face: PoolFace) -> None:
    """A reservation that can never be had is an error before any I/O, not a wait for ever."""
    uow = face.gated(pool_size=2, max_overflow=1)
    events = pool_events(uow)
    with pytest.raises(ConfigurationError) as caught:
        async with both(uow(connections=4)):
            raise AssertionError("was admitted")
    assert "connections=4" in str(caught.value)
    assert "3" in str(caught.value)
    assert events == []
    assert uow.stats().running_units == 0
    async with both(uow(connections=3)) as tx:
        await one(tx)


@pytest.mark.parametrize(
    "options",
    [{"poolclass": NullPool}, {"pool_size": 2, "max_overflow": -1}, {"pool_size": 0}],
    ids=["NullPool", "max_overflow=-1", "pool_size=0"],
)
async def test_a_pool_without_a_limit_has_no_gate(face: PoolFace, options: Any) -> None:
    """Nobody waits, nobody is refused, reservations mean nothing; the ledger works as ever."""
    uow = face.gated(**options)
    assert await most_at_once(face, uow) > 5
    async with both(uow(connections=50)) as tx:
        await one(tx)
        async with both(uow(propagation="requires_new")) as inner:
            await one(inner)
            async with both(uow(propagation="requires_new")) as third:
                await one(third)
                assert uow.stats().checked_out == 3
                assert len(uow.holders()) == 3
                assert uow.stats().overflow is None
                assert uow.stats().waiting == 0
    assert uow.holders() == []
    assert uow.stats().committed == 23


@pytest.mark.parametrize("poolclass", [StaticPool, AssertionPool])
async def test_one_connection_means_one_unit(face: PoolFace, poolclass: Any) -> None:
    """Pools that have a single connection are used by one unit after the other."""
    uow = face.gated(poolclass=poolclass)
    assert await most_at_once(face, uow) == 1
    with pytest.raises(ConfigurationError):
        async with both(uow(connections=2)):
            raise AssertionError("was admitted")
    # StaticPool never closes its connection by itself.
    await result(uow.engine.dispose())


async def test_dispose_makes_a_fresh_gate(face: PoolFace) -> None:
    """The new pool has all its permits, whatever the old one's units still hold."""
    uow = face.make(pool_size=1)
    async with both(uow()) as tx:
        await one(tx)
        assert uow.stats().admitted == 1
        await result(uow.engine.dispose())
        assert uow.stats().admitted == 0
        # Not a child: it would take from the tree of the unit around it.
        other = face.apart(lambda: in_unit(uow))
        assert await face.join(other) == 1
        await one(tx)
    assert uow.stats().admitted == 0
    # The old unit's permit went to the old gate: the new one has still exactly one.
    assert await most_at_once(face, uow) == 1


async def in_unit(uow: Any) -> int:
    async with both(uow(acquire_timeout=5)) as tx:
        return int(await one(tx))


async def test_who_waits_at_the_old_gate_is_served(face: PoolFace) -> None:
    """Units in line when the engine is disposed get in when the old unit ends; nobody is lost."""
    uow = face.make(pool_size=1)
    async with both(uow()) as tx:
        await one(tx)
        children = [face.apart(lambda: in_unit(uow)) for _ in range(5)]
        await face.until(lambda: uow.stats().waiting == 5)
        await result(uow.engine.dispose())
        await one(tx)
    for child in children:
        assert await face.join(child) == 1
    assert uow.stats().admitted == uow.stats().waiting == 0


async def test_a_replaced_pool_keeps_its_size(face: PoolFace) -> None:
    """After dispose() the capacity is that of the new pool, which is the same."""
    uow = face.make(pool_size=2)
    old = sync_engine(uow).pool
    await result(uow.engine.dispose())
    assert sync_engine(uow).pool is not old
    assert await most_at_once(face, uow) == 2


async def test_one_gate_for_all_who_use_the_engine(face: PoolFace) -> None:
    """Two `UnitOfWork` objects on one engine stand in one line; a different rule is refused."""
    uow = face.gated(pool_size=1, max_overflow=0, max_waiting=3)
    twin = type(uow)(uow.engine)
    async with both(uow()) as tx:
        await one(tx)
        child = face.apart(lambda: in_unit(twin))
        await face.until(lambda: twin.stats().waiting == uow.stats().waiting == 1)
    assert await face.join(child) == 1
    type(uow)(uow.engine, max_waiting=3)
    with pytest.raises(ConfigurationError):
        type(uow)(uow.engine, max_waiting=4)
    with pytest.raises(ConfigurationError):
        type(uow)(face.make().engine, max_waiting=-1)

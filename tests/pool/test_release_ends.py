"""How a released unit ends and goes on: failures, the pair, outside(), cancellation, trees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.probe import ServerProbe

from unitofwork import (
    AcquireTimeoutError,
    NoUnitError,
    Outcome,
    TransactionReleasedError,
    TransactionStateError,
    UnitTimeoutError,
    current,
)

from .model import Account, Entry
from .pool_face import PoolFace, both, checked_out, one, pool_events, result


async def load(tx: Any) -> Any:
    return await result(tx.get(Account, 1))


async def test_a_failure_in_the_block(bank: Any, rows: None, probe: ServerProbe) -> None:
    """It leaves the unit released and rolled back; nothing is acquired for that."""
    events = []
    with pytest.raises(LookupError):
        async with both(bank()) as tx:
            await load(tx)
            try:
                async with both(tx.released()):
                    raise LookupError
            finally:
                assert checked_out(bank) == 0
                events = pool_events(bank)
    assert tx.outcome is Outcome.ROLLED_BACK
    assert events == []
    assert bank.stats().admitted == 0


async def test_a_failure_that_is_caught(bank: Any, rows: None) -> None:
    """The unit is still released; with `reacquire()` it can go on."""
    async with both(bank()) as tx:
        account = await load(tx)
        with pytest.raises(LookupError):
            async with both(tx.released()):
                raise LookupError
        with pytest.raises(TransactionReleasedError):
            await one(tx)
        await result(tx.reacquire())
        account.balance += 1
    assert tx.outcome is Outcome.COMMITTED
    async with both(bank()) as tx:
        assert (await load(tx)).balance == 101


async def test_the_block_may_end_while_released(bank: Any, rows: None) -> None:
    """There is nothing to commit: it is done, without another connection."""
    called = []
    async with both(bank()) as tx:
        tx.on_commit(lambda: called.append("commit"))
        await load(tx)
        await result(tx.release())
        events = pool_events(bank)
    assert events == []
    assert tx.outcome is Outcome.COMMITTED
    assert called == ["commit"]
    with pytest.raises(NoUnitError):
        current()


async def test_the_pair(bank: Any, rows: None) -> None:
    """`release()` and `reacquire()` do the same for code that can't use a block."""
    async with both(bank()) as tx:
        account = await load(tx)
        await result(tx.release())
        assert bank.stats().checked_out == bank.stats().admitted == 0
        with pytest.raises(TransactionReleasedError):
            await result(tx.release())
        await result(tx.reacquire())
        assert await one(tx) == 1
        with pytest.raises(TransactionStateError):
            await result(tx.reacquire())
        account.balance += 1
    async with both(bank()) as tx:
        assert (await load(tx)).balance == 101
    with pytest.raises(TransactionStateError):
        await result(tx.release())
    with pytest.raises(TransactionStateError):
        await result(tx.reacquire())


async def test_outside(face: PoolFace, bank: Any, rows: None) -> None:
    """One call, made with its arguments while the unit is released; its result comes back."""

    async def fetch(name: str, *, sign: str) -> str:
        assert bank.stats().checked_out == 0
        await face.pause(0.01)
        return f"hello {name}{sign}"

    async with both(bank()) as tx:
        account = await load(tx)
        answer = await result(tx.outside(face.function(fetch), "world", sign="!"))
        assert answer == "hello world!"
        account.balance += 1
    assert tx.outcome is Outcome.COMMITTED


async def test_outside_fails(face: PoolFace, bank: Any, rows: None) -> None:
    """The call's own error comes out, as it was; the unit is rolled back."""
    error = LookupError("theirs")

    async def fetch() -> str:
        raise error

    with pytest.raises(LookupError) as caught:
        async with both(bank()) as tx:
            await load(tx)
            await result(tx.outside(face.function(fetch)))
    assert caught.value is error
    assert tx.outcome is Outcome.ROLLED_BACK
    assert bank.stats().checked_out == bank.stats().admitted == 0


async def test_not_inside_a_savepoint(bank: Any, rows: None) -> None:
    """A savepoint can't outlive its transaction: refused, and the unit is as before."""
    async with both(bank()) as tx:
        await load(tx)
        async with both(tx.savepoint()):
            with pytest.raises(TransactionStateError):
                await result(tx.release())
            assert await one(tx) == 1
    assert tx.outcome is Outcome.COMMITTED


async def test_no_connection_on_return(face: PoolFace, rows: None) -> None:
    """Where the pool is taken meanwhile, the unit waits like any other, then it is rolled back."""
    uow = face.make(pool_size=1)
    inside, gong = face.event(), face.event()

    async def take() -> None:
        async with both(uow()) as tx:
            await one(tx)
            inside.ring()
            await gong.heard()

    with pytest.raises(AcquireTimeoutError) as caught:
        async with both(uow(acquire_timeout=0.2)) as tx:
            await load(tx)
            async with both(tx.released()):
                other = face.apart(take)
                await inside.heard()
    assert len(caught.value.holders) == 1
    assert tx.outcome is Outcome.ROLLED_BACK
    gong.ring()
    await face.join(other)
    assert uow.stats().admitted == uow.stats().waiting == 0


async def test_the_units_time_goes_on(async_face: PoolFace, rows: None) -> None:
    """`timeout` is for the whole unit: a call that takes longer is cut."""
    uow = async_face.make(pool_size=1)
    with pytest.raises(UnitTimeoutError):
        async with uow(timeout=0.2) as tx:
            await load(tx)
            async with tx.released():
                await asyncio.sleep(30)
    assert tx.outcome is Outcome.ROLLED_BACK


@pytest.mark.parametrize("seconds", [0, 30])
async def test_cancelled(async_face: PoolFace, rows: None, seconds: float) -> None:
    """Cancelled on the way out, outside, or on the way back: nothing is left, the outcome true."""
    uow = async_face.make(pool_size=1)
    units: list[Any] = []

    async def request() -> None:
        async with uow() as tx:
            units.append(tx)
            await load(tx)
            async with tx.released():
                await asyncio.sleep(seconds)
            await one(tx)

    for turns in range(40):
        task = asyncio.create_task(request())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        await async_face.until(lambda: not checked_out(uow))
        assert uow.stats().admitted == 0
    assert all(tx.outcome is not Outcome.PENDING for tx in units)
    async with uow(acquire_timeout=1) as tx:
        await one(tx)


async def test_a_reservation_is_given_back_and_taken_again(face: PoolFace, rows: None) -> None:
    """A tree of two permits holds none while released, and has both afterwards."""
    uow = face.make(pool_size=2)
    async with both(uow(connections=2)) as tx:
        await one(tx)
        async with both(tx.released()):
            assert uow.stats().admitted == 0
        assert uow.stats().admitted == 2
        async with both(uow(propagation="requires_new")) as inner:
            assert await one(inner) == 1


async def test_a_child_keeps_its_connection(face: PoolFace, rows: None) -> None:
    """A release while a child's unit is open lets go of the parent's own share only."""
    uow = face.make(pool_size=2)
    inside, gong = face.event(), face.event()

    async def child() -> None:
        async with both(uow()) as tx:
            await one(tx)
            inside.ring()
            await gong.heard()
            await one(tx)

    async with both(uow(connections=2)) as tx:
        await one(tx)
        running = face.start(child)
        await inside.heard()
        async with both(tx.released()):
            assert uow.stats().checked_out == 1
            assert uow.stats().admitted == 1
            gong.ring()
            await face.join(running)
            assert uow.stats().admitted == 0
        assert uow.stats().admitted == 2
    assert uow.stats().admitted == 0


async def test_a_unit_inside_of_a_released_one(face: PoolFace, rows: None) -> None:
    """`requires_new` in the block queues for a connection of its own: nothing is held meanwhile."""
    uow = face.make(pool_size=1)
    async with both(uow()) as tx:
        await one(tx)
        async with both(tx.released()):
            async with both(uow(propagation="requires_new")) as inner:
                assert await result(inner.scalar(select(Entry.id).limit(1))) == 11
            assert uow.stats().admitted == 0
        await one(tx)

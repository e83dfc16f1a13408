"""A released unit: it holds nothing, what it has loaded stays readable, and nothing else works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.orm import selectinload
from tests.support.probe import ServerProbe
from tests.support.proxy import Proxy

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
from .pool_face import PoolFace, both, checked_out, line, one, pool_events, result


async def load(tx: Any, key: int = 1) -> Any:
    return await result(tx.get(Account, key, options=[selectinload(Account.entries)]))


async def test_nothing_is_held(face: PoolFace, bank: Any, probe: ServerProbe) -> None:
    """No connection is out, no permit is taken, the server has no transaction of ours."""
    async with both(bank(name="caller")) as tx:
        await load(tx)
        assert checked_out(bank) == 1
        async with both(tx.released()):
            assert checked_out(bank) == 0
            assert bank.holders() == []
            stats = bank.stats()
            assert (stats.checked_out, stats.admitted, stats.running_units) == (0, 0, 1)
            assert probe.in_transaction() == []
            assert current() is tx
            assert tx.outcome is Outcome.PENDING
        assert await one(tx) == 1
        assert bank.stats().admitted == 1
    assert tx.outcome is Outcome.COMMITTED
    assert bank.stats().committed == 1


async def test_others_get_the_connection(face: PoolFace, rows: None) -> None:
    """A pool of one serves 20 units at once that all wait for the outside world."""
    uow = face.make(pool_size=1)
    inside = 0
    gong = face.event()

    async def request() -> None:
        nonlocal inside
        async with both(uow(acquire_timeout=10)) as tx:
            account = await load(tx)
            async with both(tx.released()):
                inside += 1
                await gong.heard()
            assert account.balance == 100

    children = [face.start(request) for _ in range(20)]
    await face.until(lambda: inside == 20)
    gong.ring()
    for child in children:
        await face.join(child)


USES: dict[str, Callable[[Any, Account], Any]] = {
    "execute": lambda tx, account: tx.execute(text("SELECT 1")),  # used by execute
    "scalar": lambda tx, account: tx.scalar(text("SELECT 1")),
    "scalars": lambda tx, account: tx.scalars(select(Account)),
    "get": lambda tx, account: tx.get(Account, 2),
    "get a loaded one": lambda tx, account: tx.get(Account, 1),
    "refresh": lambda tx, account: tx.refresh(account),
    "flush": lambda tx, account: tx.flush(),
    "merge": lambda tx, account: tx.merge(Account(id=1, balance=0)),
    "connection": lambda tx, account: tx.connection(),
    "begin_nested": lambda tx, account: tx.begin_nested(),
    "insert": lambda tx, account: tx.execute(insert(Account).values(id=9, balance=1)),
    "add": lambda tx, account: tx.add(Account(id=9, balance=1)),
    "delete": lambda tx, account: tx.delete(account),
    "release": lambda tx, account: tx.release(),  # used by release
}


@pytest.mark.parametrize("use", [*USES])
async def test_any_use_is_refused_before_io(
    face: PoolFace, rows: None, proxy: Proxy, use: str
) -> None:
    """Each use of `tx` raises, names the unit, its release and the remedy; no byte is sent."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    uow = face.make(pool_size=1)
    async with both(uow(name="caller")) as tx:
        account = await load(tx)
        async with both(tx.released()):
            await face.pause(0.02)
            before, events = dict(proxy.bytes), pool_events(uow)
            with pytest.raises(TransactionReleasedError) as caught:
                await result(USES[use](tx, account))
            await face.pause(0.02)
            assert proxy.bytes == before
            assert events == []
        assert await one(tx) == 1
    assert "'caller'" in str(caught.value)
    assert caught.value.name == "caller"
    assert caught.value.remedy


@pytest.mark.parametrize("use", ["execute", "release"])
async def test_the_error_names_both_places(face: PoolFace, bank: Any, use: str) -> None:
    """Where the unit was released, and where its transaction was used then."""
    caught: Any = None
    if face.is_async:
        async with bank() as tx:
            await one(tx)
            async with tx.released():  # released
                try:
                    await USES[use](tx, None)  # used
                except TransactionReleasedError as error:
                    caught = error
    else:
        with bank() as tx:
            await one(tx)
            with tx.released():  # released in sync
                try:
                    USES[use](tx, None)
                except TransactionReleasedError as error:
                    caught = error
    suffix = "" if face.is_async else " in sync"
    assert f"since {__file__}:{line(__file__, f'released{suffix}')}" in str(caught)
    used = line(__file__, "used") if face.is_async else line(__file__, f"used by {use}")
    assert f"used at {__file__}:{used}" in str(caught)


async def test_a_savepoint_is_refused(bank: Any, rows: None) -> None:
    """`tx.savepoint()` and a nested block need the transaction, too."""
    async with both(bank()) as tx:
        async with both(tx.released()):
            with pytest.raises(TransactionReleasedError):
                async with both(tx.savepoint()):
                    pass
            with pytest.raises(TransactionReleasedError):
                async with both(bank(propagation="nested")):
                    pass


async def test_a_joined_block_is_of_no_use(bank: Any, rows: None) -> None:
    """A function that joins the released unit finds the same error at its first statement."""
    async with both(bank()) as tx:
        await one(tx)
        async with both(tx.released()):
            with pytest.raises(TransactionReleasedError):
                async with both(bank()) as joined:
                    await one(joined)
        # It failed inside a block that had joined: the unit can't commit any more.
        tx.set_rollback_only()


async def test_loaded_attributes_stay_readable(bank: Any, rows: None) -> None:
    """Columns and collections that were loaded are there, in the block and after it."""
    async with both(bank()) as tx:
        account = await load(tx)
        async with both(tx.released()):
            assert (account.id, account.balance, account.note) == (1, 100, "note")
            assert [entry.id for entry in account.entries] == [11, 12]
            assert account.entries[0].account is account
        assert account.balance == 100
    assert account.balance == 100


@pytest.mark.parametrize("attribute", ["memo", "entries"])
async def test_lazy_loads_are_refused(face: PoolFace, bank: Any, attribute: str) -> None:
    """A deferred column or a relationship that was not loaded raises the same error."""
    async with both(bank()) as tx:
        account = await result(tx.get(Account, 1))
        async with both(tx.released()):
            with pytest.raises(TransactionReleasedError) as caught:
                if face.is_async:
                    await tx.run_sync(lambda _: getattr(account, attribute))
                else:
                    getattr(account, attribute)
        assert caught.value.remedy
        if face.is_async:
            await tx.run_sync(lambda _: getattr(account, attribute))
        assert getattr(account, attribute)


async def test_before_the_first_statement(bank: Any) -> None:
    """There is nothing to give back but the permit; the unit works afterwards."""
    events = pool_events(bank)
    async with both(bank()) as tx:
        async with both(tx.released()):
            assert bank.stats().admitted == 0
        assert events == []
        assert await one(tx) == 1
    assert tx.outcome is Outcome.COMMITTED


async def test_several_times(bank: Any, rows: None) -> None:
    """A unit may be released as often as it needs."""
    async with both(bank()) as tx:
        for _ in range(5):
            account = await load(tx)
            async with both(tx.released()):
                assert bank.stats().checked_out == 0
        account.balance += 1
    async with both(bank()) as tx:
        assert (await load(tx)).balance == 101


# --- the ends


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

"""A released unit: it holds nothing, what it has loaded stays readable, and nothing else works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.orm import selectinload
from tests.support.probe import ServerProbe
from tests.support.proxy import Proxy

from unitofwork import (
    Outcome,
    TransactionReleasedError,
    current,
)

from .model import Account
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

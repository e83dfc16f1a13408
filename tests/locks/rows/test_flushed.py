"""What the book has after a flush: no row that the flush has not locked, or that was let go of."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import Connection, event, exc, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm.exc import StaleDataError
from tests.contract.face import Face, both, result

from unitofwork import LateLockError, UnorderedWriteError

from .model import Account, Entry, Label, Pledge, Shelf
from .test_late import as_function, hold
from .test_rows import accounts, is_locked

WRITES = ("DELETE FROM lock_account", "UPDATE lock_account", "INSERT INTO lock_account")
WRITES += ("UPDATE lock_entry",)


def held(tx: Any) -> set[str]:
    return {str(resource) for resource in tx.unit.book.held}


async def test_a_flush_that_fails_in_begin_nested(face: Face, holder: Connection) -> None:
    """It goes back to the savepoint at once, and the book with it."""
    await accounts(face)
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.lock(Account, 1))
        with pytest.raises(exc.IntegrityError):
            async with both(tx.begin_nested()):
                await result(tx.lock(Account, 3))
                tx.add(Entry(id=1, account_id=77))
                await result(tx.flush())
        assert held(tx) == {"lock_account 1"}
        assert not is_locked(holder, "lock_account", "id = 3")
        with pytest.raises(UnorderedWriteError):
            await result(tx.execute(select(Account).with_for_update()))


async def test_a_foreign_key_that_commit_checks(face: Face, holder: Connection) -> None:
    """What it refers to is locked at once, in its place; COMMIT would come to it too late."""
    await accounts(face)
    async with both(face.uow()) as tx:
        tx.add(Pledge(id=1, account_id=2))
        await result(tx.flush())
        assert held(tx) == {"lock_account 2"}
        assert is_locked(holder, "lock_account", "id = 2", "UPDATE")


@pytest.mark.filterwarnings("ignore:The `objects` parameter")
async def test_a_flush_of_some_objects(face: Face, holder: Connection) -> None:
    """All that is to be written is locked; what was left out is not taken for written."""
    await accounts(face)
    async with both(face.uow()) as tx:
        one, two = [await result(tx.get(Account, key)) for key in (1, 2)]
        one.balance = two.balance = 5
        later = Entry(id=1, account_id=3)
        tx.add(later)
        await result(tx.flush([one]))
        assert not tx.unit.book.inserted
        for row in ("id = 1", "id = 2"):
            assert is_locked(holder, "lock_account", row)
        await result(tx.flush())
        assert {str(each) for each in tx.unit.book.inserted} == {"lock_entry 1"}


async def test_one_of_several_rows_has_gone(face: Face) -> None:
    """asyncpg does not tell how many rows were updated, so none of them is taken for locked."""
    await accounts(face)

    async def change(tx: Any) -> None:
        rows = [await result(tx.get(Account, key)) for key in (1, 2, 3)]
        face.aside("DELETE FROM lock_account WHERE id = 2")
        for row in rows:
            row.balance = 5
        await result(tx.flush())
        assert not held(tx)

    async with both(face.uow()) as tx:
        if face.uow.engine.dialect.supports_sane_multi_rowcount:
            with pytest.raises(StaleDataError):
                await change(tx)
            tx.set_rollback_only()
        else:
            await change(tx)


async def test_a_foreign_key_that_the_database_computes(face: Face, holder: Connection) -> None:
    """Nobody can lock first what it will refer to: the flush waits for a short time only."""
    await accounts(face)
    hold(holder, 2)
    with pytest.raises(exc.DBAPIError, match="lock timeout"):
        async with both(face.uow()) as tx:
            began = time.monotonic()
            tx.add(Entry(id=1, account_id=literal(1) + 1))
            await result(tx.flush())
    assert time.monotonic() - began < 3  # the session's own lock_timeout is 5 s
    holder.rollback()


@pytest.mark.parametrize("is_run_again", [False, True])
@pytest.mark.parametrize(
    "how", ["flush", "flush of a delete", "list of parameters", "upsert", "parent"]
)
async def test_a_row_that_comes_between_its_lock_query_and_the_statement(
    face: Face, holder: Connection, how: str, is_run_again: bool
) -> None:
    """Its query found none, so it was not locked in order: writing it is a late request."""
    await accounts(face)
    face.aside("INSERT INTO lock_entry VALUES (1, 2)")
    attempts = 0

    def come_back(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if attempts == 1 and statement.startswith(WRITES):
            face.aside("INSERT INTO lock_account VALUES (1, 'new', 0)")
            hold(holder, 1)

    async def write(tx: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            holder.rollback()
        await result(tx.lock(Account, 0))
        account = await result(tx.get(Account, 1))
        if attempts == 1:
            face.aside("DELETE FROM lock_account WHERE id = 1")
        if how == "list of parameters":
            sets = [{"id": 1, "balance": 5}, {"id": 2, "balance": 5}]
            await result(tx.execute(update(Account), sets))
        elif how == "parent":
            statement = update(Entry).where(Entry.account_id > 1).values(account_id=1)
            await result(tx.execute(statement))
        elif how == "upsert":
            given = upsert(Account).values(id=1, balance=5)
            await result(
                tx.execute(given.on_conflict_do_update(index_elements=["id"], set_={"balance": 5}))
            )
        elif how == "flush":
            account.balance = 5
        else:
            await result(tx.delete(account))
        await result(tx.flush())

    engine = getattr(face.uow.engine, "sync_engine", face.uow.engine)
    event.listen(engine, "before_cursor_execute", come_back)
    began = time.monotonic()
    try:
        if is_run_again:
            await result(face.uow.run(as_function(face, write)))
        else:
            with pytest.raises(LateLockError, match="were not there") as caught:
                async with both(face.uow()) as tx:
                    await write(tx)
            assert caught.value.wanted == ("lock_account 1",)
            assert "test_flushed.py" in str(caught.value)
    finally:
        event.remove(engine, "before_cursor_execute", come_back)
    assert time.monotonic() - began < 3
    assert (face.uow.stats().late_locks, face.uow.stats().uncovered_waits) == (1, 0)
    if is_run_again:
        left = face.aside("SELECT balance FROM lock_account WHERE id = 1")
        assert left == {"flush of a delete": [], "parent": [(0,)]}.get(how, [(5,)])
    holder.rollback()


async def test_all_that_a_flush_sends_is_its_own(face: Face) -> None:
    """Also the rows of association tables: `strict_locks` lets them pass."""
    await accounts(face)
    async with both(face.uow(strict_locks=True)) as tx:
        shelf = Shelf(id=1, labels=[Label(id=1), Label(id=2)])
        tx.add(shelf)
        await result(tx.flush())
        shelf.labels = [Label(id=3)]
        await result(tx.flush())
        await result(tx.delete(shelf))
        await result(tx.flush())
    assert face.aside("SELECT count(*) FROM lock_shelf_label") == [(0,)]

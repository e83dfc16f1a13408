"""What the book has after a flush: no row that the flush has not locked, or that was let go of."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import Connection, event, exc, literal, select
from sqlalchemy.orm.exc import StaleDataError
from tests.contract.face import Face, both, result

from unitofwork import UnorderedWriteError

from .model import Account, Entry, Pledge
from .test_late import hold
from .test_rows import accounts, is_locked


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


@pytest.mark.parametrize("is_delete", [False, True])
async def test_a_row_that_comes_between_its_lock_query_and_the_statement(
    face: Face, holder: Connection, is_delete: bool
) -> None:
    """The query found none, so the book has none; who has the new one is waited for shortly."""
    await accounts(face)

    def come_back(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("DELETE FROM lock_account", "UPDATE lock_account")):
            face.aside("INSERT INTO lock_account VALUES (1, 'new', 0)")
            hold(holder, 1)

    engine = getattr(face.uow.engine, "sync_engine", face.uow.engine)
    event.listen(engine, "before_cursor_execute", come_back)
    try:
        with pytest.raises(exc.DBAPIError, match="lock timeout"):
            async with both(face.uow()) as tx:
                await result(tx.lock(Account, 0))
                account = await result(tx.get(Account, 1))
                face.aside("DELETE FROM lock_account WHERE id = 1")
                if is_delete:
                    await result(tx.delete(account))
                else:
                    account.balance = 5
                began = time.monotonic()
                await result(tx.flush())
    finally:
        event.remove(engine, "before_cursor_execute", come_back)
    assert time.monotonic() - began < 3
    holder.rollback()

"""What a release would lose is refused, listed and kept; `commit=True` commits it instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from tests.support.probe import ServerProbe

from unitofwork import Outcome, SilentRollbackError, UnsavedWorkError

from .model import Account
from .pool_face import PoolFace, both, checked_out, one, result


async def execute(tx: Any, statement: Any) -> None:
    await result(tx.execute(text(statement) if isinstance(statement, str) else statement))


async def add(face: PoolFace, tx: Any) -> None:
    tx.add(Account(id=7, balance=7))


async def flushed(face: PoolFace, tx: Any) -> None:
    tx.add(Account(id=7, balance=7))
    await result(tx.flush())


async def changed(face: PoolFace, tx: Any) -> None:
    account = await result(tx.get(Account, 1))
    account.balance += 1


async def change_flushed(face: PoolFace, tx: Any) -> None:
    await changed(face, tx)
    await result(tx.flush())


async def deleted(face: PoolFace, tx: Any) -> None:
    await result(tx.delete(await result(tx.get(Account, 2))))


async def core_insert(face: PoolFace, tx: Any) -> None:
    await execute(tx, insert(Account.__table__).values(id=7, balance=7))


async def core_update(face: PoolFace, tx: Any) -> None:
    await execute(tx, update(Account).where(Account.id == 1).values(balance=1))


async def core_delete(face: PoolFace, tx: Any) -> None:
    await execute(tx, delete(Account).where(Account.id == 2))


async def text_update(face: PoolFace, tx: Any) -> None:
    await execute(tx, "UPDATE pool_account SET balance = 1 WHERE id = 1")


async def text_with(face: PoolFace, tx: Any) -> None:
    await execute(
        tx, "WITH new AS (UPDATE pool_account SET balance = 1 WHERE id = 1 RETURNING 1) TABLE new"
    )


async def ddl(face: PoolFace, tx: Any) -> None:
    await execute(tx, "CREATE TEMPORARY TABLE pool_scratch (id int) ON COMMIT DROP")


async def do_block(face: PoolFace, tx: Any) -> None:
    await execute(tx, "DO $$ BEGIN UPDATE pool_account SET balance = 1 WHERE id = 1; END $$")


async def through_a_function(face: PoolFace, tx: Any) -> None:
    await execute(tx, "SELECT pool_spend(1)")  # a SELECT by its text, a write by its deed


async def on_the_connection(face: PoolFace, tx: Any) -> None:
    connection = await result(tx.connection())
    await execute(connection, "UPDATE pool_account SET balance = 1 WHERE id = 1")


async def on_the_driver(face: PoolFace, tx: Any) -> None:
    await driver_says(face, tx, "UPDATE pool_account SET balance = 1 WHERE id = 1")


async def lock_on_the_driver(face: PoolFace, tx: Any) -> None:
    await driver_says(face, tx, "SELECT * FROM pool_account WHERE id = 1 FOR SHARE")


async def driver_says(face: PoolFace, tx: Any, sql: str) -> None:
    await one(tx)  # asyncpg begins its transaction with SQLAlchemy's first statement
    connection = await result(tx.connection())
    raw = await result(connection.get_raw_connection()) if face.is_async else connection.connection
    await result(raw.driver_connection.execute(sql))


async def locked(face: PoolFace, tx: Any) -> None:
    await result(tx.get(Account, 1, with_for_update=True))


async def share_locked(face: PoolFace, tx: Any) -> None:
    await execute(tx, select(Account).with_for_update(read=True, key_share=True))


async def text_locked(face: PoolFace, tx: Any) -> None:
    await execute(tx, "SELECT 1 FROM pool_account\n  FOR  NO KEY\n UPDATE")


async def table_locked(face: PoolFace, tx: Any) -> None:
    await execute(tx, "LOCK TABLE pool_account IN SHARE MODE")


async def advisory(face: PoolFace, tx: Any) -> None:
    await execute(tx, "SELECT pg_advisory_xact_lock(42)")


async def try_advisory(face: PoolFace, tx: Any) -> None:
    await execute(tx, "SELECT pg_try_advisory_xact_lock_shared(42)")


async def in_a_savepoint(face: PoolFace, tx: Any) -> None:
    async with both(tx.savepoint()):
        await core_update(face, tx)


Work = Callable[[PoolFace, Any], Awaitable[None]]
PENDING: list[Work] = [add, changed, deleted]
WRITES: list[Work] = [
    *(flushed, change_flushed, core_insert, core_update, core_delete, text_update, text_with),
    *(ddl, do_block, through_a_function, on_the_connection, on_the_driver, in_a_savepoint),
]
LOCKS: list[Work] = [
    *(locked, share_locked, text_locked, table_locked, lock_on_the_driver),
    *(advisory, try_advisory),
]


def contents(probe: ServerProbe) -> list[Any]:
    return probe.execute("SELECT id, balance FROM pool_account ORDER BY id")


UNTOUCHED = [(1, 100), (2, 100), (3, 100)]


@pytest.mark.parametrize("work", [*PENDING, *WRITES, *LOCKS])
async def test_unsaved_work_is_refused(
    face: PoolFace, bank: Any, probe: ServerProbe, work: Work
) -> None:
    """Pending, written or locked: refused and listed; the unit goes on as if not asked."""
    async with both(bank(name="writer")) as tx:
        await work(face, tx)
        for _ in range(2):
            with pytest.raises(UnsavedWorkError) as caught:
                async with both(tx.released()):
                    raise AssertionError("was released")
            assert caught.value.pending
            for each in caught.value.pending:
                assert each in str(caught.value)
            assert "'writer'" in str(caught.value)
            assert "commit=True" in caught.value.remedy
        if work not in PENDING:
            assert checked_out(bank) == 1
        assert contents(probe) == UNTOUCHED
        assert await one(tx) == 1
    assert tx.outcome is Outcome.COMMITTED
    if work in PENDING or (work in WRITES and work is not ddl):
        assert contents(probe) != UNTOUCHED


@pytest.mark.parametrize("work", [*PENDING, *WRITES, *LOCKS])
async def test_commit_is_asked_for(
    face: PoolFace, bank: Any, probe: ServerProbe, work: Work
) -> None:
    """With `commit=True` the work so far is committed when the block is entered, and stays."""
    with pytest.raises(LookupError):
        async with both(bank()) as tx:
            await work(face, tx)
            async with both(tx.released(commit=True)):
                assert bank.stats().checked_out == 0
                assert probe.in_transaction() == []
                after = contents(probe)
            await execute(tx, "UPDATE pool_account SET balance = 55 WHERE id = 3")
            raise LookupError
    # What came after the release is undone, and says so.
    assert tx.outcome is Outcome.ROLLED_BACK
    assert contents(probe) == after
    if work in PENDING or (work in WRITES and work is not ddl):
        assert after != UNTOUCHED


@pytest.mark.parametrize("recheck", ["raise", "refresh", "ignore"])
async def test_ones_own_commit_is_no_change(bank: Any, rows: None, recheck: str) -> None:
    """What the unit itself has committed at its release is not stale on return."""
    async with both(bank()) as tx:
        account = await result(tx.get(Account, 1))
        account.balance = 5
        async with both(tx.released(commit=True, recheck=recheck)):
            assert account.balance == 5
        account.balance += 1
    async with both(bank()) as tx:
        assert (await result(tx.get(Account, 1))).balance == 6


async def test_reads_are_no_work(bank: Any, rows: None) -> None:
    """Statements that only read are let go, also with harmless functions and quoted words."""
    async with both(bank()) as tx:
        for statement in (
            "SELECT count(*) FROM pool_account",
            "SELECT lower(note), now(), md5('for update') FROM pool_account",
            "SELECT 'INSERT INTO x; UPDATE y' -- FOR UPDATE",
            "WITH one AS (SELECT 1) SELECT * FROM one",
            "SHOW server_version",
            "EXPLAIN SELECT 1",
        ):
            await execute(tx, statement)
        await result(tx.execute(select(Account).order_by(Account.id)))
        async with both(tx.savepoint()):
            await one(tx)
        async with both(tx.released()):
            assert checked_out(bank) == 0


async def test_an_unchanged_change_is_no_work(bank: Any, rows: None) -> None:
    """Setting an attribute to what it was is nothing that could be lost."""
    async with both(bank()) as tx:
        account = await result(tx.get(Account, 1))
        account.balance = account.balance
        async with both(tx.released()):
            assert checked_out(bank) == 0


async def test_what_was_rolled_back_is_no_work(bank: Any, rows: None, probe: ServerProbe) -> None:
    """After a commit at a release the unit begins anew: only later work counts."""
    async with both(bank()) as tx:
        await execute(tx, "UPDATE pool_account SET balance = 5 WHERE id = 1")
        async with both(tx.released(commit=True)):
            pass
        async with both(tx.released()):
            assert contents(probe)[0] == (1, 5)
        await execute(tx, "UPDATE pool_account SET balance = 6 WHERE id = 1")
        with pytest.raises(UnsavedWorkError):
            await result(tx.release())


async def test_a_swallowed_failure(bank: Any, rows: None) -> None:
    """A transaction that can only be rolled back is not released as if all were well."""
    with pytest.raises(SilentRollbackError):
        async with both(bank()) as tx:
            with pytest.raises(Exception, match=r"(?i)division by zero"):
                await execute(tx, "SELECT 1 / 0")
            async with both(tx.released(commit=True)):
                raise AssertionError("was released")
    assert tx.outcome is Outcome.ROLLED_BACK

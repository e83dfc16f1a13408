"""How a unit ended is always said truly, above all where an error was swallowed in its block."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError

from unitofwork import Outcome, SilentRollbackError

from .face import Face, both, checked_out, result
from .model import Item, Part


async def ask(tx: Any, statement: str) -> Any:
    """Awaits here, so that this is the user's line that errors name."""
    rows = tx.execute(text(statement))
    return await rows if inspect.isawaitable(rows) else rows


async def swallow(tx: Any, statement: str) -> Exception:
    """What the traps look like in applications: the error is caught, and the unit goes on."""
    with pytest.raises(DBAPIError) as caught:
        await ask(tx, statement)
    return caught.value


async def driver_connection(tx: Any) -> Any:
    """The driver's own connection, as for COPY or LISTEN."""
    connection = await result(tx.connection())
    if hasattr(connection, "get_raw_connection"):
        return (await connection.get_raw_connection()).driver_connection
    return connection.connection.driver_connection


def assert_nothing_was_kept(face: Face, tx: Any) -> None:
    assert tx.outcome is Outcome.ROLLED_BACK
    assert checked_out(face.uow) == 0
    assert face.names() == []


# --- swallowed errors


async def test_a_swallowed_statement_error_is_no_success(postgres_face: Face) -> None:
    """PostgreSQL answers COMMIT by ROLLBACK then: the end names the error, statement and line."""
    face = postgres_face
    with pytest.raises(SilentRollbackError) as caught:
        async with both(face.uow(name="silent")) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            first = await swallow(tx, "SELECT no_such_column")
            await swallow(tx, "SELECT 1")  # refused too, but only because of the first one
    assert caught.value.swallowed is first
    assert caught.value.__cause__ is first
    assert caught.value.raised_at.function == "ask"
    assert caught.value.raised_at.file == __file__
    for part in ("'silent'", "SELECT no_such_column", "test_outcome.py", "savepoint"):
        assert part in str(caught.value)
    assert_nothing_was_kept(face, tx)


async def test_sqlite_goes_on_after_a_statement_error(sqlite_face: Face) -> None:
    """Its transactions survive a failed statement: the unit commits, and says so."""
    async with both(sqlite_face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
        await result(tx.flush())
        await swallow(tx, "SELECT no_such_column")
    assert tx.outcome is Outcome.COMMITTED
    assert sqlite_face.names() == ["one"]


async def test_sqlite_can_end_a_transaction_by_itself(sqlite_face: Face) -> None:
    """Where an error did roll back, the end that follows is no success."""
    with pytest.raises(SilentRollbackError) as caught:
        async with both(sqlite_face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            error = await swallow(tx, "INSERT OR ROLLBACK INTO item VALUES (1, 'again')")
    assert caught.value.swallowed is error
    assert_nothing_was_kept(sqlite_face, tx)


async def test_a_swallowed_flush_error_is_no_success(face: Face) -> None:
    """SQLAlchemy rolls the session back when a flush fails: nothing is left to commit."""
    with pytest.raises(SilentRollbackError) as caught:
        async with both(face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            await ask(tx, "INSERT INTO item VALUES (2, 'two')")
            tx.add(Item(id=2, name="again"))
            with pytest.raises(IntegrityError) as failed:
                await result(tx.flush())
            with pytest.raises(PendingRollbackError):
                await ask(tx, "SELECT 1")
    assert caught.value.swallowed is failed.value
    assert_nothing_was_kept(face, tx)


async def test_only_what_counts_is_blamed(postgres_face: Face) -> None:
    """A failure that a savepoint has undone is not named for one that came later."""
    with pytest.raises(SilentRollbackError) as caught:
        async with both(postgres_face.uow()) as tx:
            with pytest.raises(DBAPIError):
                async with both(tx.savepoint()):
                    await ask(tx, "SELECT undone")
            later = await swallow(tx, "SELECT later")
    assert caught.value.swallowed is later


async def test_an_error_undone_by_a_plain_savepoint_is_not_blamed(face: Face) -> None:
    """SQLAlchemy's own `begin_nested` makes the transaction sound again as `savepoint` does."""
    async with both(face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
        await result(tx.flush())
        nested = await result(tx.begin_nested())
        await swallow(tx, "SELECT no_such_column")
        await result(nested.rollback())
    assert tx.outcome is Outcome.COMMITTED
    assert face.names() == ["one"]


async def test_an_error_swallowed_inside_a_savepoint(postgres_face: Face) -> None:
    """The savepoint can't be released: its end raises; caught there, the rest is committed."""
    async with both(postgres_face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
        with pytest.raises(SilentRollbackError) as caught:
            async with both(tx.savepoint()):
                error = await swallow(tx, "SELECT no_such_column")
        assert caught.value.swallowed is error
        tx.add(Item(id=2, name="two"))
    assert tx.outcome is Outcome.COMMITTED
    assert postgres_face.names() == ["one", "two"]


@pytest.mark.parametrize("level", ["connection", "driver"])
async def test_an_error_swallowed_on_the_connection(postgres_face: Face, level: str) -> None:
    """Below the session, even below SQLAlchemy, where nothing is seen of it: the end asks."""
    with pytest.raises(SilentRollbackError) as caught:
        async with both(postgres_face.uow(name="lent")) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            with pytest.raises(Exception, match="no_such_column") as swallowed:
                if level == "driver":
                    driver = await driver_connection(tx)
                    await result(driver.execute("SELECT no_such_column"))
                else:
                    connection = await result(tx.connection())
                    await result(connection.exec_driver_sql("SELECT no_such_column"))
    assert caught.value.swallowed is (swallowed.value if level == "connection" else None)
    assert "lent" in str(caught.value)
    assert_nothing_was_kept(postgres_face, tx)


async def test_a_lent_connection_that_was_used_well(face: Face) -> None:
    """Asking for the connection alone is no reason to doubt the unit."""
    async with both(face.uow()) as tx:
        connection = await result(tx.connection())
        await result(connection.exec_driver_sql("INSERT INTO item VALUES (1, 'one')"))
    assert tx.outcome is Outcome.COMMITTED
    assert face.names() == ["one"]


async def test_an_error_after_a_swallowed_one_arrives_itself(face: Face) -> None:
    """The unit rolls back anyway, so the error that leaves the block is the one to see."""
    error = LookupError("later")
    with pytest.raises(LookupError) as caught:
        async with both(face.uow()) as tx:
            await swallow(tx, "SELECT no_such_column")
            raise error
    assert caught.value is error
    assert_nothing_was_kept(face, tx)


# --- COMMIT that the database refuses


async def test_a_constraint_that_is_checked_at_commit(face: Face) -> None:
    """The database's own error arrives; the outcome and the callbacks say what happened."""
    seen: list[str] = []
    with pytest.raises(IntegrityError):
        async with both(face.uow()) as tx:
            tx.on_commit(lambda: seen.append("committed"))
            tx.on_rollback(lambda: seen.append("rolled back"))
            tx.add_all([Item(id=1, name="one"), Part(id=1, item_id=2)])
    assert seen == ["rolled back"]
    assert_nothing_was_kept(face, tx)
    async with both(face.uow()) as tx:
        tx.add(Item(id=3, name="three"))
    assert face.names() == ["three"]


async def test_a_serialization_failure(postgres_face: Face) -> None:
    """Two units that read what the other one writes: one commits, one is rolled back, truly."""
    count = select(func.count(Item.id))
    options: dict[str, Any] = {"isolation": "SERIALIZABLE"}
    with pytest.raises(DBAPIError, match="could not serialize"):
        async with both(postgres_face.uow(connections=2, **options)) as one:
            await result(one.scalar(count))
            new = postgres_face.uow(propagation="requires_new", **options)
            async with both(new) as two:
                await result(two.scalar(count))
                two.add(Item(id=2, name="two"))
            one.add(Item(id=1, name="one"))
    assert (one.outcome, two.outcome) == (Outcome.ROLLED_BACK, Outcome.COMMITTED)
    assert postgres_face.names() == ["two"]


# --- connections that are lost


async def kill_backend(face: Face, tx: Any) -> None:
    """End the server's side of the unit's connection, and wait until it is gone."""
    assert face.probe is not None
    pid = await result(tx.scalar(text("SELECT pg_backend_pid()")))
    face.probe.execute("SELECT pg_terminate_backend(%s)", (pid,))
    probe = face.probe
    await face.until(lambda: pid not in [session.pid for session in probe.sessions()])
    await face.pause(0.1)  # for what the server said at the end to arrive


async def test_a_failed_rollback_does_not_mask_the_error(postgres_face: Face) -> None:
    """The backend is gone, so ROLLBACK fails: the caller still gets the error of the block."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with both(postgres_face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            await kill_backend(postgres_face, tx)
            raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert_nothing_was_kept(postgres_face, tx)
    async with both(postgres_face.uow()) as tx:
        tx.add(Item(id=2, name="two"))
    assert postgres_face.names() == ["two"]


@pytest.mark.parametrize("pending", [True, False])
async def test_a_backend_that_died_in_the_block(postgres_face: Face, pending: bool) -> None:
    """A block that ended well can't be committed: an error, and it was rolled back."""
    with pytest.raises(Exception):
        async with both(postgres_face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            await kill_backend(postgres_face, tx)
            if pending:
                tx.add(Item(id=2, name="two"))
    assert_nothing_was_kept(postgres_face, tx)


async def test_a_lost_connection_in_a_savepoint(postgres_face: Face) -> None:
    """ROLLBACK TO fails with the rest: the error of the block arrives, nothing was kept."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with both(postgres_face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            async with both(tx.savepoint()):
                await result(tx.flush())
                await kill_backend(postgres_face, tx)
                raise error
    assert caught.value is error
    assert_nothing_was_kept(postgres_face, tx)


async def test_a_lost_connection_that_was_swallowed(postgres_face: Face) -> None:
    """After a swallowed disconnect nothing may be sent on a new connection as if it went on."""
    with pytest.raises(SilentRollbackError) as caught:
        async with both(postgres_face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            await kill_backend(postgres_face, tx)
            error = await swallow(tx, "SELECT 1")
            with pytest.raises(PendingRollbackError):
                await ask(tx, "INSERT INTO item VALUES (2, 'two')")
    assert caught.value.swallowed is error
    assert_nothing_was_kept(postgres_face, tx)

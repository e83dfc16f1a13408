"""A unit's life: when it has a connection, what its `tx` is, what it refuses."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from unitofwork import (
    AsyncTransaction,
    ConfigurationError,
    Outcome,
    Transaction,
    TransactionStateError,
)

from .face import Face, both, checked_out, pool_events, result
from .model import Item

HERE = os.path.basename(__file__)


async def test_the_first_statement_checks_a_connection_out(face: Face) -> None:
    """Entering the block takes no connection; its first statement does; its end returns it."""
    events = pool_events(face.uow)
    async with both(face.uow()) as tx:
        assert events == []
        await result(tx.execute(text("SELECT 1")))
        assert checked_out(face.uow) == 1
        await result(tx.execute(text("SELECT 2")))
        assert events == ["connect", "checkout"]
    assert events == ["connect", "checkout", "checkin"]


async def test_a_unit_without_a_statement_touches_no_connection(face: Face) -> None:
    """Neither options nor callbacks nor an error cost a connection where nothing is asked."""
    events = pool_events(face.uow)
    async with both(face.uow(isolation="SERIALIZABLE", read_only=True, timeout=5)) as tx:
        tx.on_commit(lambda: None)
    with pytest.raises(LookupError):
        async with both(face.uow()) as failed:
            raise LookupError
    assert events == []
    assert (tx.outcome, failed.outcome) == (Outcome.COMMITTED, Outcome.ROLLED_BACK)


async def test_the_connection_is_back_before_callbacks_run(face: Face) -> None:
    """A callback runs with nothing checked out, so that it can wait or open a unit."""
    out = []
    async with both(face.uow()) as tx:
        tx.on_commit(lambda: out.append(checked_out(face.uow)))
        tx.add(Item(id=1, name="one"))
    with pytest.raises(LookupError):
        async with both(face.uow()) as tx:
            tx.on_rollback(lambda: out.append(checked_out(face.uow)))
            await result(tx.execute(text("SELECT 1")))
            raise LookupError
    assert out == [0, 0]


async def test_a_block_that_ends_well_commits(face: Face) -> None:
    """New, changed and deleted objects are in the database after the block, with no flush."""
    async with both(face.uow()) as tx:
        tx.add_all([Item(id=1, name="one"), Item(id=2, name="two")])
        assert tx.outcome is Outcome.PENDING
    assert tx.outcome is Outcome.COMMITTED
    async with both(face.uow()) as tx:
        first, second = await result(tx.get(Item, 1)), await result(tx.get(Item, 2))
        first.name = "changed"
        await result(tx.delete(second))
    assert face.names() == ["changed"]


async def test_an_error_rolls_back_and_arrives_as_it_was(face: Face) -> None:
    """The caller gets the very object that was raised, with no context added to it."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with both(face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            raise error
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert tx.outcome is Outcome.ROLLED_BACK
    assert face.names() == []


async def test_an_error_of_the_last_flush_arrives(face: Face) -> None:
    """What the end of the block sends may fail: the database's own error reaches the caller."""
    face.aside("INSERT INTO item VALUES (1, 'there')")
    with pytest.raises(IntegrityError):
        async with both(face.uow()) as tx:
            tx.add(Item(id=1, name="again"))
    assert tx.outcome is Outcome.ROLLED_BACK
    assert checked_out(face.uow) == 0
    assert face.names() == ["there"]


async def test_tx_is_a_session(face: Face) -> None:
    """Whatever takes a SQLAlchemy session takes `tx`."""
    async with both(face.uow()) as tx:
        kinds = (AsyncTransaction, AsyncSession) if face.is_async else (Transaction, Session)
        assert isinstance(tx, kinds[0])
        assert isinstance(tx, kinds[1])


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        ("commit", "leave the block"),
        ("rollback", "set_rollback_only"),
        ("close", "leave the block"),
        ("reset", "leave the block"),
        ("invalidate", "leave the block"),
        ("begin", "savepoint"),
    ],
)
async def test_what_the_block_decides_is_refused(face: Face, call: str, remedy: str) -> None:
    """`tx.commit()` and its like raise with the right call; the unit goes on and commits."""
    async with both(face.uow(name="mine")) as tx:
        tx.add(Item(id=1, name="one"))
        await result(tx.flush())
        with pytest.raises(TransactionStateError) as caught:
            await result(getattr(tx, call)())
        assert remedy in caught.value.remedy
        assert f"tx.{call}()" in str(caught.value)
        assert caught.value.name == "mine"
        assert HERE in caught.value.opened_at.file
    assert face.names() == ["one"]


async def test_a_session_block_inside_the_unit_is_refused(face: Face) -> None:
    """`with tx:` would close the session at its end: refused like `tx.close()`."""
    with pytest.raises(TransactionStateError):
        async with both(face.uow()) as tx:
            async with both(tx):
                await result(tx.execute(text("SELECT 1")))


USES = {
    "execute": lambda tx, _: tx.execute(text("SELECT 1")),
    "scalar": lambda tx, _: tx.scalar(select(func.count(Item.id))),
    "scalars": lambda tx, _: tx.scalars(select(Item)),
    "get": lambda tx, _: tx.get(Item, 1),
    "get_one": lambda tx, _: tx.get_one(Item, 1),
    "merge": lambda tx, _: tx.merge(Item(id=1, name="merged")),
    "refresh": lambda tx, item: tx.refresh(item),
    "flush": lambda tx, _: tx.flush(),
    "connection": lambda tx, _: tx.connection(),
    "begin_nested": lambda tx, _: tx.begin_nested(),
    "add": lambda tx, _: tx.add(Item(id=2, name="two")),
    "delete": lambda tx, item: tx.delete(item),
    "on_commit": lambda tx, _: tx.on_commit(lambda: None),
    "on_rollback": lambda tx, _: tx.on_rollback(lambda: None),
    "set_rollback_only": lambda tx, _: tx.set_rollback_only(),
}


@pytest.mark.parametrize("use", USES)
async def test_use_after_the_end_is_refused(face: Face, use: str) -> None:
    """After its block `tx` raises, with the place of the unit; it never gets a new connection."""
    async with both(face.uow(name="over")) as tx:
        item = Item(id=1, name="one")
        tx.add(item)
    events = pool_events(face.uow)
    with pytest.raises(TransactionStateError) as caught:
        await result(USES[use](tx, item))
    assert "over" in str(caught.value)
    assert "committed" in str(caught.value)
    assert HERE in str(caught.value)
    assert events == []


async def test_a_savepoint_after_the_end_is_refused(face: Face) -> None:
    """`tx.savepoint()` is a use like any other."""
    async with both(face.uow()) as tx:
        pass
    with pytest.raises(TransactionStateError):
        async with both(tx.savepoint()):
            pass


async def test_objects_stay_readable_after_the_end(face: Face) -> None:
    """Loaded attributes are not expired by the commit: a response can be built from them."""
    face.aside("INSERT INTO item VALUES (1, 'one')")
    async with both(face.uow()) as tx:
        loaded = await result(tx.get(Item, 1))
        added = Item(id=2, name="two")
        tx.add(added)
    assert (loaded.name, added.name) == ("one", "two")


async def test_a_query_does_not_flush(face: Face) -> None:
    """Autoflush is off: what is sent when is seen in the code, not caused by a read."""
    async with both(face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
        assert await result(tx.scalar(select(func.count(Item.id)))) == 0
        await result(tx.flush())
        assert await result(tx.scalar(select(func.count(Item.id)))) == 1


async def test_a_unit_has_a_name(face: Face) -> None:
    """Its name is the option's, else the file and line that opened it."""
    async with both(face.uow(name="orders")) as tx:
        assert tx.name == "orders"
        assert tx.attempt == 1
    async with both(face.uow()) as tx:
        file, line = tx.name.split(":")
        assert file == HERE
        assert 0 < int(line) < 1000


async def test_a_block_object_is_entered_once(face: Face) -> None:
    """A kept block can't be used for a second unit."""
    block = face.uow()
    async with both(block):
        pass
    with pytest.raises(TransactionStateError, match="entered twice"):
        async with both(block):
            pass


async def test_a_unit_of_work_takes_an_engine_of_its_face(face: Face) -> None:
    """Async over sync, sync over async, and no engine at all are refused when it is made."""
    kind: Any = type(face.uow)
    other = face.uow.engine.sync_engine if face.is_async else "sqlite://"
    with pytest.raises(ConfigurationError, match="Engine"):
        kind(other)
    with pytest.raises(ConfigurationError, match="URL"):
        kind.from_url("no url at all")


@pytest.mark.parametrize("end", ["well", "by an error"])
async def test_nothing_keeps_a_unit_that_has_ended(face: Face, end: str) -> None:
    """Neither the context of the task nor the library's books hold `tx` and what it loaded."""

    async def work() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        try:
            async with both(face.uow()) as tx:
                item = Item(id=1, name="one")
                tx.add(item)
                await result(tx.flush())
                async with both(face.uow()), both(tx.savepoint()):
                    pass
                if end == "by an error":
                    raise LookupError
        except LookupError:
            pass
        return weakref.ref(tx), weakref.ref(item)

    for reference in await work():
        gc.collect()
        assert reference() is None

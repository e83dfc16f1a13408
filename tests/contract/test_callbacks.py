"""Callbacks: after the outermost end, in order, once, with no unit and no connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from sqlalchemy import func, select, text

from unitofwork import ConfigurationError, NoUnitError, Outcome, TransactionStateError, current

from .face import Face, both, result
from .model import Item


def register(tx: Any, seen: list[str], name: str) -> None:
    tx.on_commit(lambda: seen.append(f"{name} committed"))
    tx.on_rollback(lambda: seen.append(f"{name} rolled back"))


async def test_they_run_in_order_and_once(face: Face) -> None:
    """In the order of registration, those for the outcome that came; a second unit runs none."""
    seen: list[str] = []
    async with both(face.uow()) as tx:
        register(tx, seen, "first")
        tx.add(Item(id=1, name="one"))
        register(tx, seen, "second")
        assert seen == []
    assert seen == ["first committed", "second committed"]
    async with both(face.uow()):
        pass
    with pytest.raises(LookupError):
        async with both(face.uow()) as tx:
            register(tx, seen, "third")
            await result(tx.execute(text("SELECT 1")))
            raise LookupError
    assert seen[2:] == ["third rolled back"]


async def test_they_run_without_a_statement_too(face: Face) -> None:
    """A unit that asked the database for nothing has an end like any other."""
    seen: list[str] = []
    async with both(face.uow()) as tx:
        register(tx, seen, "idle")
    with pytest.raises(LookupError):
        async with both(face.uow()) as tx:
            register(tx, seen, "failed")
            raise LookupError
    assert seen == ["idle committed", "failed rolled back"]


async def test_a_callback_sees_the_outcome(face: Face) -> None:
    """The commit is done and visible to others when the callback runs."""
    seen: list[Any] = []
    async with both(face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
        tx.on_commit(lambda: seen.extend([tx.outcome, face.names()]))
    assert seen == [Outcome.COMMITTED, ["one"]]


async def test_an_async_callback_is_awaited(async_face: Face) -> None:
    """Coroutine functions and plain ones mix, each done before the next one begins."""
    seen: list[str] = []

    async def slowly() -> None:
        await asyncio.sleep(0.02)
        seen.append("async")

    async with both(async_face.uow()) as tx:
        tx.on_commit(slowly)
        tx.on_commit(lambda: seen.append("sync"))
        tx.on_commit(lambda: slowly())
        await tx.execute(text("SELECT 1"))
    assert seen == ["async", "sync", "async"]


async def test_a_sync_unit_says_that_it_can_not_await(
    sync_face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    """An async callback never runs there: it is reported, not forgotten."""

    async def send() -> None:
        pass

    with sync_face.uow(name="orders") as tx:
        tx.on_commit(send)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "orders" in record.getMessage()
    assert "async" in record.getMessage()


async def test_one_that_fails_stops_no_other(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported in the log with its unit; the commit stands and the block does not raise."""
    seen: list[str] = []

    def broken() -> None:
        raise LookupError("broken callback")

    async with both(face.uow(name="orders")) as tx:
        tx.add(Item(id=1, name="one"))
        tx.on_commit(broken)
        tx.on_commit(lambda: seen.append("next"))
    assert tx.outcome is Outcome.COMMITTED
    assert seen == ["next"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name.startswith("unitofwork")
    assert "orders" in record.getMessage()
    assert "broken" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


async def test_one_that_fails_does_not_mask_the_error(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    """After a rollback the error of the block arrives, not the callback's."""

    def broken() -> None:
        raise KeyError("callback")

    error = LookupError("block")
    with pytest.raises(LookupError) as caught:
        async with both(face.uow()) as tx:
            tx.on_rollback(broken)
            raise error
    assert caught.value is error
    assert "broken" in caplog.text


async def test_no_unit_is_current_in_a_callback(face: Face) -> None:
    """The unit is over: nothing can join it by mistake."""
    seen: list[str] = []

    def look() -> None:
        with pytest.raises(NoUnitError):
            current()
        seen.append("none")

    async with both(face.uow()) as tx:
        tx.on_commit(look)
        tx.add(Item(id=1, name="one"))
    async with both(face.uow()) as tx:
        tx.on_commit(look)
    async with both(face.uow()) as tx:
        tx.on_rollback(look)
        tx.set_rollback_only()
    assert seen == ["none"] * 3


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_callback_can_open_a_unit(face: Face, end: str) -> None:
    """On a pool of one connection, which the unit that has ended does not hold any more."""
    uow = face.make(pool_size=1)
    seen: list[int] = []

    async def count() -> None:
        async with both(uow()) as own:
            own.add(Item(id=2, name="callback's"))
            seen.append(await result(own.scalar(select(func.count(Item.id)))))

    async with both(uow()) as tx:
        tx.add(Item(id=1, name="one"))
        await result(tx.flush())
        if end == "rollback":
            tx.set_rollback_only()
        tx.on_commit(face.function(count))
        tx.on_rollback(face.function(count))
    assert seen == [1 if end == "commit" else 0]
    assert face.names() == (["one"] if end == "commit" else []) + ["callback's"]


async def test_those_of_a_joined_block_wait_for_the_outermost_end(face: Face) -> None:
    """The inner block's end is no commit yet."""
    seen: list[str] = []
    async with both(face.uow()) as outer:
        register(outer, seen, "outer")
        async with both(face.uow()) as inner:
            register(inner, seen, "inner")
            await result(inner.execute(text("SELECT 1")))
        assert seen == []
    assert seen == ["outer committed", "inner committed"]


async def test_those_of_a_separate_unit_run_at_its_own_end(face: Face) -> None:
    """`requires_new` commits by itself, and its callbacks follow it."""
    seen: list[str] = []
    with pytest.raises(LookupError):
        async with both(face.uow(connections=2)) as outer:
            register(outer, seen, "outer")
            async with both(face.uow(propagation="requires_new")) as inner:
                register(inner, seen, "inner")
                inner.add(Item(id=1, name="one"))
            assert seen == ["inner committed"]
            raise LookupError
    assert seen == ["inner committed", "outer rolled back"]


@pytest.mark.parametrize("propagation", ["nested", "savepoint"])
async def test_those_of_a_savepoint_follow_its_fate(face: Face, propagation: Any) -> None:
    """Rolled back alone: its commit callbacks are dropped, its rollback ones run after the end."""
    seen: list[str] = []

    def block(tx: Any) -> Any:
        if propagation == "savepoint":
            return both(tx.savepoint())
        return both(face.uow(propagation=propagation))

    async with both(face.uow()) as tx:
        register(tx, seen, "outer")
        with pytest.raises(LookupError):
            async with block(tx):
                register(tx, seen, "undone")
                raise LookupError
        async with block(tx):
            register(tx, seen, "kept")
        assert seen == []
    assert sorted(seen) == ["kept committed", "outer committed", "undone rolled back"]
    seen.clear()
    with pytest.raises(LookupError):
        async with both(face.uow()) as tx:
            async with block(tx):
                register(tx, seen, "kept")
            raise LookupError
    assert seen == ["kept rolled back"]


async def test_what_can_not_be_called_is_refused(face: Face) -> None:
    """A coroutine object or a result, where the function was meant, is refused at once."""

    async def send() -> None:
        pass

    coroutine = send()
    async with both(face.uow()) as tx:
        for wrong in (coroutine, None, "send"):
            with pytest.raises(ConfigurationError, match="callback") as caught:
                tx.on_commit(wrong)
            assert "on_commit(" in caught.value.remedy
            with pytest.raises(ConfigurationError):
                tx.on_rollback(wrong)
    coroutine.close()


async def test_a_callback_can_not_register_another(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is over when callbacks run: one that would never be called is an error."""
    async with both(face.uow()) as tx:
        tx.on_commit(lambda: tx.on_commit(lambda: None))
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], TransactionStateError)

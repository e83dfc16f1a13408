"""A unit belongs to the task (thread) that opened it, and is used by one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import time
from typing import Any

import pytest
from sqlalchemy import select, text

from unitofwork import (
    ConcurrentUseError,
    NoUnitError,
    Outcome,
    SilentRollbackError,
    TransactionStateError,
    current,
)

from .face import Face, both, checked_out, pool_events, result, statements
from .model import Item


async def first_query(face: Face, tx: Any, seconds: float = 0.5) -> Any:
    """Takes its time. Awaited here, so that this is the place that errors name."""
    rows = tx.execute(face.slow(seconds))
    return await rows if inspect.isawaitable(rows) else rows


async def second_query(tx: Any) -> Any:
    rows = tx.execute(select(Item))
    return await rows if inspect.isawaitable(rows) else rows


async def start_first_query(face: Face, tx: Any, seconds: float = 0.5) -> Any:
    """A child that is in the middle of its statement now."""
    sent = statements(face.uow)
    child = face.start(lambda: first_query(face, tx, seconds))
    await face.until(lambda: any("slow" in statement for statement in sent))
    await face.pause(0.05)
    return child


# --- whose it is


async def test_a_child_is_not_in_its_parents_unit(face: Face) -> None:
    """A child task (thread) has no unit, although the context was copied to it."""

    async def work() -> str:
        with pytest.raises(NoUnitError) as caught:
            current()
        return str(caught.value)

    async with both(face.uow(name="parents")) as tx:
        message = await face.join(face.start(work))
        assert current() is tx
    # It is a frequent surprise, so the message says that there is one, and whose.
    assert "parents" in message
    assert __file__ in message


async def test_a_child_opens_a_unit_of_its_own(face: Face) -> None:
    """The same call that would join in the parent begins a new transaction in the child."""

    async def work() -> Any:
        async with both(face.uow()) as own:
            assert current() is own
            own.add(Item(id=1, name="child's"))
        return own

    with pytest.raises(LookupError):
        async with both(face.uow(connections=2)) as tx:
            own = await face.join(face.start(work))
            assert own is not tx
            assert own.outcome is Outcome.COMMITTED
            raise LookupError
    assert tx.outcome is Outcome.ROLLED_BACK
    assert face.names() == ["child's"]


async def test_mandatory_is_refused_in_a_child(face: Face) -> None:
    """A child can't take part in its parent's unit by asking for it, either."""

    async def work() -> None:
        async with both(face.uow(propagation="mandatory")):
            pass

    async with both(face.uow()):
        with pytest.raises(NoUnitError):
            await face.join(face.start(work))


async def test_tx_may_be_handed_to_a_child(face: Face) -> None:
    """One after the other is no misuse: `tx` passed on works in the child, then here again."""
    async with both(face.uow()) as tx:
        await result(tx.execute(text("SELECT 1")))

        async def work() -> None:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())

        await face.join(face.start(work))
        assert len((await second_query(tx)).all()) == 1
    assert face.names() == ["one"]


async def test_wait_for_around_a_statement(async_face: Face) -> None:
    """`asyncio.wait_for` runs it in a task of its own on Python 3.11; it is this unit's use."""
    async with both(async_face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
        await asyncio.wait_for(tx.flush(), 10)
        assert await asyncio.wait_for(tx.get(Item, 1), 10)
        async with asyncio.timeout(10):
            await tx.execute(select(Item))
    assert async_face.names() == ["one"]


@pytest.mark.parametrize("how", ["wait_for", "timeout"])
async def test_a_statement_cut_by_a_timer_ends_the_transaction(async_face: Face, how: str) -> None:
    """Swallowed inside the block, it is no success: the connection and its work are gone."""
    with pytest.raises(SilentRollbackError) as caught:
        async with both(async_face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await tx.flush()
            with pytest.raises(TimeoutError):
                if how == "wait_for":
                    await asyncio.wait_for(first_query(async_face, tx), 0.1)
                else:
                    async with asyncio.timeout(0.1):
                        await first_query(async_face, tx)
    assert tx.outcome is Outcome.ROLLED_BACK
    assert caught.value.raised_at.function == "first_query"
    assert async_face.names() == []


# --- two at once


async def test_two_at_once_are_refused(face: Face) -> None:
    """The second caller gets an error that names both places; the first one's result is sound."""
    async with both(face.uow(name="shared")) as tx:
        child = await start_first_query(face, tx)
        with pytest.raises(ConcurrentUseError) as caught:
            await second_query(tx)
        assert (await face.join(child)).scalar() is not None
        await second_query(tx)
        tx.add(Item(id=1, name="one"))
    assert tx.outcome is Outcome.COMMITTED
    assert caught.value.here.function == "second_query"
    assert caught.value.there.function == "first_query"
    assert caught.value.here.file == caught.value.there.file == __file__
    assert "'shared'" in str(caught.value)
    assert "second_query" in str(caught.value)
    assert "first_query" in str(caught.value)
    assert face.names() == ["one"]


async def test_gather_on_one_transaction_is_refused(async_face: Face) -> None:
    """The usual form of it: one of the two calls works, the other one raises."""
    async with both(async_face.uow()) as tx:
        answers = await asyncio.gather(
            first_query(async_face, tx), second_query(tx), return_exceptions=True
        )
        kinds = [isinstance(answer, ConcurrentUseError) for answer in answers]
        assert kinds == [False, True]


async def test_every_use_waits_its_turn(face: Face) -> None:
    """Not only statements: whatever reaches the connection is refused while it is busy."""

    async def flush(tx: Any) -> None:
        tx.add(Item(id=1, name="one"))
        await result(tx.flush())

    async def savepoint(tx: Any) -> None:
        async with both(tx.savepoint()):
            pass

    async def nested(tx: Any) -> None:
        async with both(face.uow(propagation="nested")):
            pass

    async def get(tx: Any) -> None:
        await result(tx.get(Item, 1))

    async def begin_nested(tx: Any) -> None:
        await result(tx.begin_nested())

    async with both(face.uow()) as tx:
        child = await start_first_query(face, tx)
        for use in (flush, savepoint, nested, get, begin_nested):
            with pytest.raises(ConcurrentUseError):
                await use(tx)
        await face.join(child)
        tx.set_rollback_only()


# --- the end, while a child is still in a statement


async def test_the_end_refuses_to_run_under_a_childs_statement(face: Face) -> None:
    """The block can't end well: it is told at once, the query is stopped, nothing leaks."""
    began = time.monotonic()
    with pytest.raises(ConcurrentUseError) as caught:
        async with both(face.uow(name="ended early")) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            child = await start_first_query(face, tx, 8)
    assert caught.value.there.function == "first_query"
    assert "ended early" in str(caught.value)
    assert tx.outcome is Outcome.ROLLED_BACK
    with contextlib.suppress(Exception):  # its statement may have been done just in time
        await face.join(child)
    await face.until(lambda: checked_out(face.uow) == 0)
    assert time.monotonic() - began < 6
    async with both(face.uow()) as after:
        assert await result(after.scalar(text("SELECT 1"))) == 1
    assert face.names() == []


async def test_an_error_wins_over_a_childs_statement(face: Face) -> None:
    """What leaves the block is what the caller gets; the rest is only logged."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with both(face.uow()) as tx:
            child = await start_first_query(face, tx)
            raise error
    assert caught.value is error
    with contextlib.suppress(Exception):  # its statement may have been done just in time
        await face.join(child)
    await face.until(lambda: checked_out(face.uow) == 0)
    async with both(face.uow()) as after:
        assert await result(after.scalar(text("SELECT 1"))) == 1


# --- generators


async def test_an_abandoned_generator_rolls_back(face: Face) -> None:
    """Its unit ends when it is collected; what it handed out can't be used any more."""

    async def pages() -> Any:
        async with face.uow() as tx:
            tx.add(Item(id=1, name="one"))
            await tx.flush()
            yield tx

    def plain_pages() -> Any:
        with face.uow() as tx:
            tx.add(Item(id=1, name="one"))
            tx.flush()
            yield tx

    generator = pages() if face.is_async else plain_pages()
    tx = await anext(generator) if face.is_async else next(generator)
    assert checked_out(face.uow) == 1
    del generator
    gc.collect()
    await face.until(lambda: checked_out(face.uow) == 0)
    assert tx.outcome is Outcome.ROLLED_BACK
    events = pool_events(face.uow)
    with pytest.raises(TransactionStateError):
        await second_query(tx)
    with pytest.raises(NoUnitError):
        current()
    assert events == []
    assert face.names() == []

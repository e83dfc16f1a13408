"""`timeout` bounds the whole unit: it is rolled back, its query ended, and the error says so."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from unitofwork import Outcome, SilentRollbackError, UnitTimeoutError

from .conftest import face_fixture
from .face import Face, both, checked_out, pool_events, result, statements
from .model import Item


async def add(tx: Any, number: int) -> None:
    tx.add(Item(id=number, name=f"item {number}"))
    await result(tx.flush())


#: All but SQLite in threads, where nothing can end a statement.
cuttable_face = face_fixture([name for name in Face.ALL if name != "pysqlite"])


def assert_nothing_is_left(face: Face, tx: Any) -> None:
    assert tx.outcome is Outcome.ROLLED_BACK
    assert checked_out(face.uow) == 0
    assert face.names() == []
    if face.probe is not None:
        face.probe.wait_until_quiet()


async def test_a_statement_is_cut(cuttable_face: Face) -> None:
    """In the middle of a statement: it ends on the server too, and the pool is sound."""
    face = cuttable_face
    began = time.monotonic()
    with pytest.raises(UnitTimeoutError) as caught:
        async with both(face.uow(timeout=0.3, name="slow")) as tx:
            await add(tx, 1)
            await result(tx.execute(face.slow(20)))
    assert 0.2 < time.monotonic() - began < 10
    assert (caught.value.name, caught.value.timeout) == ("slow", 0.3)
    assert isinstance(caught.value, TimeoutError)
    assert "'slow'" in str(caught.value)
    assert __file__ in str(caught.value)
    assert_nothing_is_left(face, tx)
    async with both(face.uow()) as tx:
        assert await result(tx.scalar(text("SELECT 1"))) == 1


async def test_sqlite_threads_are_late_at_the_next_statement(sqlite_face: Face) -> None:
    """Nothing ends a SQLite statement of a thread: the next one is refused, with no I/O."""
    with pytest.raises(UnitTimeoutError):
        async with both(sqlite_face.uow(timeout=0.2)) as tx:
            await add(tx, 1)
            await result(tx.execute(sqlite_face.slow(0.4)))
            sent = statements(sqlite_face.uow)
            await add(tx, 2)
    if not sqlite_face.is_async:
        assert sent == []
    assert_nothing_is_left(sqlite_face, tx)


async def test_a_unit_that_is_late_at_its_end(face: Face) -> None:
    """Time that passed outside of the database counts: the end rolls back, with the error."""
    with pytest.raises(UnitTimeoutError):
        async with both(face.uow(timeout=0.15)) as tx:
            await add(tx, 1)
            await face.pause(0.3)
    assert_nothing_is_left(face, tx)


@pytest.mark.parametrize("asks", [True, False])
async def test_a_block_that_never_let_the_timer_run(async_face: Face, asks: bool) -> None:
    """Code that blocks the event loop keeps the timer from firing: the end looks at the clock."""
    with pytest.raises(UnitTimeoutError):
        async with both(async_face.uow(timeout=0.1)) as tx:
            if asks:
                await add(tx, 1)
            time.sleep(0.3)
    assert_nothing_is_left(async_face, tx)


async def test_a_late_unit_that_never_had_a_connection(face: Face) -> None:
    """Nothing was kept, so nothing is lost: but the caller was promised the time."""
    events = pool_events(face.uow)
    with pytest.raises(UnitTimeoutError):
        async with both(face.uow(timeout=0.1)) as tx:
            await face.pause(0.3)
    assert tx.outcome is Outcome.ROLLED_BACK
    assert events == []


async def test_a_unit_in_time_is_left_alone(face: Face) -> None:
    """The timer ends with the unit; what the task does afterwards is not bounded by it."""
    async with both(face.uow(timeout=0.5)) as tx:
        await add(tx, 1)
    await face.pause(0.6)
    assert tx.outcome is Outcome.COMMITTED
    assert face.names() == ["item 1"]


async def test_rollback_callbacks_run_after_a_timeout(face: Face) -> None:
    """A timeout is a rollback like another."""
    seen: list[str] = []
    with pytest.raises(UnitTimeoutError):
        async with both(face.uow(timeout=0.1)) as tx:
            tx.on_commit(lambda: seen.append("committed"))
            tx.on_rollback(lambda: seen.append("rolled back"))
            await add(tx, 1)
            await face.pause(0.3)
    assert seen == ["rolled back"]


async def test_a_swallowed_cancellation_of_the_timer(async_face: Face) -> None:
    """A block that catches the cancellation can't turn it into a commit."""
    with pytest.raises(UnitTimeoutError):
        async with both(async_face.uow(timeout=0.1)) as tx:
            await add(tx, 1)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(10)
    assert_nothing_is_left(async_face, tx)


async def test_a_timers_cancellation_leaves_no_trace(async_face: Face) -> None:
    """The task is not cancelled afterwards: it can go on and wait for other things."""
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(UnitTimeoutError) as caught:
        async with both(async_face.uow(timeout=0.1)):
            await asyncio.sleep(10)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert task.cancelling() == 0
    await asyncio.sleep(0.01)


async def test_other_timeouts_are_not_the_units(face: Face) -> None:
    """The user's own TimeoutError, and a statement_timeout, arrive as what they are."""
    error = TimeoutError("mine")
    with pytest.raises(TimeoutError) as caught:
        async with both(face.uow(timeout=30)):
            raise error
    assert caught.value is error
    if face.is_async:
        with pytest.raises(TimeoutError) as late:
            async with both(face.uow(timeout=30)) as tx:
                async with asyncio.timeout(0.05):
                    await tx.execute(face.slow(20))
        assert not isinstance(late.value, UnitTimeoutError)
    if face.is_postgres:
        with pytest.raises(DBAPIError, match="statement timeout"):
            async with both(face.uow(timeout=30, statement_timeout=0.1)) as tx:
                await result(tx.execute(face.slow(20)))


@pytest.mark.parametrize("propagation", ["required", "nested"])
async def test_an_inner_block_may_be_shorter(face: Face, propagation: Any) -> None:
    """Its own time ends it; a joined failure dooms the unit, a savepoint's does not."""
    options: dict[str, Any] = {"propagation": propagation, "timeout": 0.1, "name": "inner"}
    outer = both(face.uow(timeout=30, name="outer"))

    async def run() -> Any:
        async with outer as tx:
            await add(tx, 1)
            with pytest.raises(UnitTimeoutError) as caught:
                async with both(face.uow(**options)) as inner:
                    await add(inner, 2)
                    await face.pause(0.3)
                    await add(inner, 3)
            assert caught.value.timeout == 0.1
            # The outer unit has its own time again.
            await face.pause(0.1)
            await add(tx, 4)
        return tx

    if propagation == "nested":
        tx = await run()
        assert tx.outcome is Outcome.COMMITTED
        assert face.names() == ["item 1", "item 4"]
    else:
        with pytest.raises(SilentRollbackError) as silent:
            await run()
        assert isinstance(silent.value.swallowed, UnitTimeoutError)
        assert face.names() == []


@pytest.mark.parametrize("propagation", ["required", "nested"])
async def test_an_inner_block_in_time_costs_nothing(face: Face, propagation: Any) -> None:
    """After it the outer unit, which has no limit, is not bound by the inner one's."""
    async with both(face.uow()) as tx:
        async with both(face.uow(propagation=propagation, timeout=0.2)):
            await add(tx, 1)
        await face.pause(0.3)
        await add(tx, 2)
    assert face.names() == ["item 1", "item 2"]


@pytest.mark.parametrize("propagation", ["required", "nested"])
async def test_an_inner_block_that_is_late_at_its_end(face: Face, propagation: Any) -> None:
    """Whoever gave it a time is told, also where no statement came after it."""
    with pytest.raises(UnitTimeoutError) as caught:
        async with both(face.uow()) as tx:
            await add(tx, 1)
            async with both(face.uow(propagation=propagation, timeout=0.1)):
                await face.pause(0.3)
    assert caught.value.timeout == 0.1
    assert_nothing_is_left(face, tx)


async def test_a_joined_block_in_the_middle_of_a_statement(postgres_face: Face) -> None:
    """A shorter inner timeout ends the inner block's statement in time."""
    began = time.monotonic()
    with pytest.raises(UnitTimeoutError) as caught:
        async with both(postgres_face.uow()) as tx:
            await add(tx, 1)
            async with both(postgres_face.uow(timeout=0.3)):
                await result(tx.execute(postgres_face.slow(8)))
    assert time.monotonic() - began < 6
    assert caught.value.timeout == 0.3
    assert_nothing_is_left(postgres_face, tx)


async def test_the_wait_for_a_connection_counts(face: Face) -> None:
    """A unit whose time is over while it waits in line ends then, with its own error."""
    uow = face.make(pool_size=1)

    async def hold() -> None:
        async with both(uow()) as tx:
            await result(tx.execute(text("SELECT 1")))
            await face.pause(1)

    child = face.start(hold)
    await face.until(lambda: checked_out(uow) == 1)
    began = time.monotonic()
    with pytest.raises(UnitTimeoutError):
        async with both(uow(timeout=0.2)) as tx:
            await result(tx.execute(text("SELECT 1")))
    assert time.monotonic() - began < 0.9
    await face.join(child)

"""The ledger: every connection that is out is in it, whoever took it, with what it does now."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.proxy import Proxy

from unitofwork import CommitUnknownError

from .pool_face import PoolFace, both, line, one, sleep_in_database, statements


async def test_a_raw_connection_is_in_it(face: PoolFace) -> None:
    """`engine.connect()` beside units: no unit, but the place and the task, until its checkin."""
    uow = face.make(pool_size=2)
    assert uow.holders() == []
    connection = uow.engine.connect()  # raw in sync
    if face.is_async:
        connection = await connection  # raw
    marker = "raw" if face.is_async else "raw in sync"
    (holder,) = uow.holders()
    assert holder.unit is None
    assert (holder.acquired_at.file, holder.acquired_at.line) == (__file__, line(__file__, marker))
    assert holder.last_statement is None
    assert holder.task.startswith("task")  # the test itself is one, also with the sync face
    execute = connection.execute(text("SELECT /* beside */ 1"))
    if face.is_async:
        await execute
    (holder,) = uow.holders()
    assert holder.last_statement == "SELECT /* beside */ 1"
    closing = connection.close()
    if face.is_async:
        await closing
    assert uow.holders() == []


async def test_a_plain_session_is_in_it(face: PoolFace) -> None:
    """A session of SQLAlchemy's on the same engine, with the line that made it connect."""
    uow = face.make(pool_size=2)
    async with both(face.session(uow)) as session:
        assert uow.holders() == []
        answer = session.execute(text("SELECT 1"))  # session in sync
        if face.is_async:
            await answer  # session
        marker = "session" if face.is_async else "session in sync"
        (holder,) = uow.holders()
        assert holder.unit is None
        assert holder.acquired_at.file == __file__
        assert holder.acquired_at.line == line(__file__, marker)
    assert uow.holders() == []


async def test_a_unit_is_in_it_from_its_first_statement(face: PoolFace) -> None:
    """Not while it holds nothing yet; then with its name, place and statement."""
    uow = face.make(pool_size=2)
    async with both(uow(name="counted")) as tx:
        assert uow.holders() == []
        assert uow.stats().checked_out == 0
        answer = tx.execute(text("SELECT /* first */ 1"))  # unit in sync
        if face.is_async:
            await answer  # unit
        (holder,) = uow.holders()
        assert holder.unit == "counted"
        assert holder.acquired_at.file == __file__
        assert holder.acquired_at.line == line(
            __file__, "unit" if face.is_async else "unit in sync"
        )
        assert holder.last_statement == "SELECT /* first */ 1"
        assert 0 <= holder.idle_for <= holder.held_for < 20
    assert uow.holders() == []


async def test_the_task_and_where_it_is(face: PoolFace) -> None:
    """`task` is the name the application gave it; `waiting_at` its innermost line now."""
    uow = face.make(pool_size=2)
    going: Any = asyncio.Event() if face.is_async else threading.Event()

    async def work() -> None:
        if face.is_async:
            task = asyncio.current_task()
            assert task is not None
            task.set_name("the courier")
        else:
            threading.current_thread().name = "the courier"
        async with both(uow()) as tx:
            await one(tx)
            waiting = going.wait()  # waits in sync
            if face.is_async:
                await waiting  # waits

    child = face.start(work)
    await face.until(lambda: any(holder.idle_for > 0.02 for holder in uow.holders()))
    (holder,) = uow.holders()
    assert "the courier" in holder.task
    assert holder.waiting_at.file == __file__
    assert holder.waiting_at.line == line(__file__, "waits" if face.is_async else "waits in sync")
    assert holder.waiting_at.function.endswith("work")
    going.set()
    await face.join(child)


async def test_a_statement_is_no_idling(face: PoolFace) -> None:
    """`idle_for` is exactly 0 during a statement, and counts from its end."""
    uow = face.make(pool_size=1)
    sent = statements(uow)
    gong = face.event()

    async def work() -> None:
        async with both(uow()) as tx:
            await sleep_in_database(tx, 0.4)
            await gong.heard()

    child = face.start(work)
    await face.until(lambda: any("pg_sleep" in statement for statement in sent))
    await face.pause(0.1)
    (holder,) = uow.holders()
    assert holder.idle_for == 0.0
    assert holder.held_for >= 0.1
    await face.until(lambda: uow.holders()[0].idle_for > 0.05)
    (holder,) = uow.holders()
    assert holder.idle_for <= holder.held_for - 0.3
    gong.ring()
    await face.join(child)


async def test_a_failed_statement_is_over(face: PoolFace) -> None:
    """An error ends the statement: the holder idles from then on."""
    uow = face.make(pool_size=1)
    async with both(uow.engine.connect()) as connection:
        with pytest.raises(Exception, match=r"(?i)division by zero"):
            await one_of(connection, "SELECT 1 / 0")
        await face.pause(0.05)
        (holder,) = uow.holders()
        assert holder.idle_for >= 0.04
        assert holder.last_statement == "SELECT 1 / 0"


async def one_of(connection: Any, sql: str) -> Any:
    from .pool_face import result

    return await result(connection.execute(text(sql)))


async def test_the_longest_comes_first(face: PoolFace) -> None:
    """`holders()` is in the order of age."""
    uow = face.make(pool_size=3)
    async with both(uow.engine.connect()):
        async with both(uow.engine.connect()) as second:
            await one_of(second, "SELECT 2")
            ages = [holder.held_for for holder in uow.holders()]
            assert ages == sorted(ages, reverse=True)
            assert [holder.last_statement for holder in uow.holders()] == [None, "SELECT 2"]


async def test_the_numbers_add_up(face: PoolFace, proxy: Proxy) -> None:
    """`stats()` after every kind of end: each unit that was granted is in one outcome."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    uow = face.make(pool_size=2)
    for _ in range(3):
        async with both(uow()) as tx:
            await one(tx)
    for _ in range(2):
        with pytest.raises(LookupError):
            async with both(uow()) as tx:
                await one(tx)
                raise LookupError
    proxy.when(b"COMMIT", action="cut_after")
    with pytest.raises(CommitUnknownError):
        async with both(uow()) as tx:
            await one(tx)
    async with both(uow(connections=2)) as tx:
        async with both(uow(propagation="requires_new")) as other:
            await one(other)
            stats = uow.stats()
            assert (stats.size, stats.overflow) == (2, 0)
            assert (stats.admitted, stats.running_units) == (2, 2)
            assert stats.checked_out == 1  # the outer one has sent nothing yet
            assert (stats.committed, stats.rolled_back, stats.unknown) == (3, 2, 1)
    stats = uow.stats()
    assert (stats.committed, stats.rolled_back, stats.unknown) == (5, 2, 1)
    assert stats.granted == 7  # the inner one passed no gate
    assert stats.admitted == stats.running_units == stats.waiting == stats.checked_out == 0
    assert stats.wait_seconds == stats.max_wait_seconds == 0.0


async def test_waits_are_summed_up(face: PoolFace) -> None:
    """`wait_seconds` is that of all together, `max_wait_seconds` the longest of them."""
    uow = face.make(pool_size=1)

    async def work() -> None:
        async with both(uow()) as tx:
            await sleep_in_database(tx, 0.1)

    await face.all([work] * 3)
    stats = uow.stats()
    assert stats.granted == 3
    assert 0.19 <= stats.max_wait_seconds < 5
    assert 0.28 <= stats.wait_seconds <= 2 * stats.max_wait_seconds


async def test_units_of_one_engine_share_it(face: PoolFace) -> None:
    """A second `UnitOfWork` on the engine, or on a copy of it, sees and counts the same."""
    uow = face.make(pool_size=1)
    twin = type(uow)(uow.engine.execution_options(compiled_cache=None))
    async with both(uow(name="shared")) as tx:
        await one(tx)
        (holder,) = twin.holders()
        assert holder.unit == "shared"
        assert twin.stats().admitted == 1
    async with both(twin()) as tx:
        await one(tx)
    assert uow.stats().committed == 2

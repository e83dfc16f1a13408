"""Which errors a unit is run again for: errors of real servers, on every driver."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import Any

import pytest
from sqlalchemy import exc, make_url, text, update
from tests.contract.face import Face
from tests.contract.model import Item

from unitofwork import Outcome, RetriesExceededError
from unitofwork.sql.symptoms import fate_of_error, symptom_of

from .sqlstates import SQLSTATES
from .world import QUICK, Posting, Purse, RetryFace, both, fail, result


@pytest.mark.parametrize("state", SQLSTATES)
async def test_sqlstates_in_the_drivers_own_errors(face: RetryFace, state: str) -> None:
    """The server raises each state, and what the driver makes of it is classified by it."""
    with pytest.raises(exc.DBAPIError) as caught:
        async with both(face.uow()) as tx:
            await fail(tx, state=state)
    assert symptom_of(caught.value).sqlstate == state
    assert fate_of_error(caught.value) is SQLSTATES[state]


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57P01", "25006"])
async def test_retryable(face: RetryFace, state: str) -> None:
    """The unit is run again, and what its last attempt did is there once."""
    calls = []

    async def post(tx: Any) -> str:
        calls.append(tx)
        tx.add(Posting(amount=1))
        await result(tx.flush())
        await fail(tx, 2, state)
        return "done"

    assert await face.run(post) == "done"
    assert [tx.outcome for tx in calls] == [Outcome.ROLLED_BACK] * 2 + [Outcome.COMMITTED]
    assert face.postings() == [1]


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_at_commit(face: RetryFace, state: str) -> None:
    """A COMMIT that the server refused has done nothing, so the unit is run again."""
    face.plant_at_commit(2, state)
    calls = []

    async def post(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))

    await face.run(post)
    assert len(calls) == 3
    assert face.postings() == [1]


async def test_an_error_that_wraps_a_deadlock(face: RetryFace) -> None:
    """Code that turns the database's errors into its own doesn't hide them."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        try:
            await fail(tx)
        except exc.DBAPIError as error:
            raise LookupError("of the repository layer") from error

    await face.run(body)
    assert len(calls) == 2


async def test_a_swallowed_deadlock(face: RetryFace) -> None:
    """It had ended the transaction; SilentRollbackError says so, and its cause is retryable."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        with contextlib.suppress(exc.DBAPIError):
            await fail(tx)

    await face.run(body)
    assert len(calls) == 2


@pytest.mark.parametrize("handled", [True, False])
async def test_a_statement_after_a_swallowed_deadlock(face: RetryFace, handled: bool) -> None:
    """25P02 says nothing by itself: what failed before decides."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        try:
            await fail(tx)
        except exc.DBAPIError:
            if handled:
                await result(tx.execute(text("SELECT 1")))
        await result(tx.execute(text("SELECT 1")))

    await face.run(body)
    assert len(calls) == 2


@pytest.mark.parametrize("body_too", [False, True])
async def test_in_a_task_group(async_face: RetryFace, body_too: bool) -> None:
    """A deadlock inside a TaskGroup, and those that it cancels, are a deadlock."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60 if len(calls) == 1 else 0))
            group.create_task(fail(tx))
            if body_too and len(calls) == 1:
                await asyncio.sleep(60)

    await async_face.run(body)
    assert len(calls) == 2


async def test_a_real_deadlock(face: RetryFace) -> None:
    """Two units lock two rows in opposite orders: both end, and both did their work once."""
    attempts = []
    both_have_one = face.event()
    waiting = []

    async def move(tx: Any, first: int, second: int) -> None:
        attempts.append(tx.attempt)
        await result(tx.execute(_plus(first)))
        waiting.append(first)
        if len(waiting) == 2:
            both_have_one.ring()
        await both_have_one.heard()
        await result(tx.execute(_plus(second)))

    async def work(first: int, second: int) -> None:
        await face.run(move, first, second)

    assert await face.all([lambda: work(1, 2), lambda: work(2, 1)]) == [None, None]
    assert face.balances() == [102, 102]
    assert max(attempts) > 1


async def test_a_real_serialization_failure(face: RetryFace) -> None:
    """Somebody else updates the row between the unit's snapshot and its write."""
    calls = []

    async def add(tx: Any) -> None:
        calls.append(tx)
        purse = await result(tx.get(Purse, 1))
        if len(calls) == 1:
            face.aside("UPDATE retry_purse SET balance = balance + 10 WHERE id = 1")
        purse.balance += 1

    await face.run(add, isolation="REPEATABLE READ")
    assert len(calls) == 2
    assert face.balances() == [111, 100]


async def test_a_plan_that_a_migration_made_stale(face: RetryFace) -> None:
    """A prepared statement whose columns have changed fails once on a connection, not for good."""
    face.aside("CREATE TABLE IF NOT EXISTS retry_migrated (id int)")
    face.aside("ALTER TABLE retry_migrated DROP COLUMN IF EXISTS more")
    calls = []

    async def read(tx: Any) -> None:
        calls.append(tx)
        await result(tx.execute(text("SELECT * FROM retry_migrated")))

    async def read_often(times: int) -> None:
        # psycopg prepares what was sent five times.
        for _ in range(times):
            await face.run(read)

    await read_often(8)
    face.aside("ALTER TABLE retry_migrated ADD COLUMN more int")
    await read_often(1)
    assert len(calls) == 10, "8 reads, then one that failed and one that did not"


async def test_a_connection_lost_before_commit(face: RetryFace) -> None:
    """The server process ends in the middle of the unit: a new connection, and again."""
    calls = []

    async def post(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))
        await result(tx.flush())
        if len(calls) == 1:
            face.terminate(await result(tx.scalar(text("SELECT pg_backend_pid()"))))
        tx.add(Posting(amount=2))
        await result(tx.flush())

    await face.run(post)
    assert len(calls) == 2
    assert face.postings() == [1, 2]


async def test_an_idle_connection_that_died(face: RetryFace) -> None:
    """Each connection of the pool is dead: the unit gets through all the same."""
    pids: set[int] = set()

    async def pid(tx: Any) -> int:
        return int(await result(tx.scalar(text("SELECT pg_backend_pid()"))))

    await face.warm(face.uow, 3)
    pids.update(one.pid for one in face.probe.sessions() if one.state == "idle")
    for one in pids:
        face.terminate(one)
    assert await face.run(pid) not in pids


async def test_a_server_that_became_read_only(face: RetryFace) -> None:
    """25006: the pool's connections lead to the old primary; they are dropped before the retry."""
    pids = []

    async def post(tx: Any) -> None:
        pids.append(await result(tx.scalar(text("SELECT pg_backend_pid()"))))
        await result(tx.execute(update(Purse).values(balance=1)))

    await face.run(post)
    async with both(face.uow.engine.connect()) as connection:
        # For this connection only, as a demoted server's old connections are.
        await result(connection.execute(text("SET default_transaction_read_only = on")))
        await result(connection.commit())
    await face.run(post)
    assert pids[0] == pids[1] != pids[2]
    assert len(pids) == 3
    alive = {one.pid for one in face.probe.sessions()}
    assert pids[0] not in alive


async def test_a_server_that_stays_read_only(face: RetryFace) -> None:
    """It ends, within the attempts."""
    face.aside("CREATE ROLE retry_reader LOGIN SUPERUSER")
    face.aside("ALTER ROLE retry_reader SET default_transaction_read_only = on")
    try:
        face.url = str(make_url(face.url).set(username="retry_reader"))

        async def write(tx: Any) -> None:
            await result(tx.execute(update(Purse).values(balance=1)))

        with pytest.raises(RetriesExceededError) as caught:
            await face.run(write)
        assert len(caught.value.attempts) == QUICK.attempts
    finally:
        await result(face.uow.engine.dispose())
        face.aside("DROP ROLE retry_reader")


async def test_sqlite_busy(sqlite_face: Face) -> None:
    """Another connection writes: the unit is run again, and gets through when that one is done."""
    uow = sqlite_face.make(connect_args={"timeout": 0.02})
    writer = sqlite3.connect(make_url(sqlite_face.url).database or "")
    writer.execute("INSERT INTO item VALUES (1, 'theirs')")
    calls = []

    async def add(tx: Any) -> None:
        calls.append(tx)
        if len(calls) == 3:
            writer.commit()
        tx.add(Item(id=2, name="ours"))
        await result(tx.flush())

    try:
        await result(uow.run(sqlite_face.function(add), retry=QUICK))
    finally:
        writer.close()
    assert len(calls) == 3
    assert sqlite_face.names() == ["theirs", "ours"]


def _plus(purse: int) -> Any:
    return update(Purse).where(Purse.id == purse).values(balance=Purse.balance + 1)

"""A network that swallows everything: no answer, no reset. A unit leaves it in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from tests.contract.face import Face, both, checked_out, result
from tests.pool.pool_face import LONG
from tests.support.proxy import Proxy

from unitofwork import CommitUnknownError, Outcome, UnitTimeoutError

from .conftest import face_fixture, rows

INSERT = text("INSERT INTO lost_commit VALUES (1)")
TIMEOUT = 0.5
#: Stopping a statement takes up to a second more; libpq connects for two seconds at the least.
#: Without limits, drivers take from thirteen seconds to for ever.
SLACK = 3.0


#: The slowest ones: on one driver, if not in the long form.
EVERY = ["asyncpg", "psycopg", "psycopg-sync"]
lone_face = face_fixture(EVERY if LONG else ["psycopg-sync"])
idle_face = face_fixture(EVERY if LONG else ["asyncpg", "psycopg-sync"])


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


async def assert_the_slot_is_free(uow: Any, proxy: Proxy) -> None:
    assert (checked_out(uow), uow.stats().admitted) == (0, 0)
    proxy.heal()
    async with both(uow()) as tx:
        assert await result(tx.scalar(text("SELECT 1"))) == 1


async def test_a_statement(face: Face, proxy: Proxy) -> None:
    """UnitTimeoutError in the unit's time, and the one slot of the pool is free."""
    uow = face.make(pool_size=1)
    with within(TIMEOUT + SLACK), pytest.raises(UnitTimeoutError):
        async with both(uow(timeout=TIMEOUT)) as tx:
            await result(tx.execute(INSERT))
            proxy.blackhole()
            await result(tx.execute(text("SELECT 1")))
    assert tx.outcome is Outcome.ROLLED_BACK
    await assert_the_slot_is_free(uow, proxy)
    assert rows(face) == 0


async def test_a_rollback(face: Face, proxy: Proxy) -> None:
    """The error of the block arrives in the unit's time; the connection is closed instead."""
    uow = face.make(pool_size=1)
    with within(TIMEOUT + SLACK), pytest.raises(ZeroDivisionError):
        async with both(uow(timeout=TIMEOUT)) as tx:
            await result(tx.execute(INSERT))
            proxy.blackhole()
            raise ZeroDivisionError
    assert tx.outcome is Outcome.ROLLED_BACK
    await assert_the_slot_is_free(uow, proxy)
    assert rows(face) == 0


async def test_a_commit(face: Face, proxy: Proxy) -> None:
    """CommitUnknownError within five seconds, though the unit has no timeout."""
    assert await commit_in_a_black_hole(face, proxy, None) is Outcome.UNKNOWN


async def test_a_commit_of_a_unit_with_a_timeout(lone_face: Face, proxy: Proxy) -> None:
    """The same, and no later than that."""
    assert await commit_in_a_black_hole(lone_face, proxy, TIMEOUT) is Outcome.UNKNOWN


async def commit_in_a_black_hole(face: Face, proxy: Proxy, seconds: float | None) -> Outcome:
    uow = face.make(pool_size=1)
    with within(5.0), pytest.raises(CommitUnknownError):
        async with both(uow(timeout=seconds)) as tx:
            await result(tx.execute(INSERT))
            proxy.blackhole()
    await assert_the_slot_is_free(uow, proxy)
    outcome: Outcome = tx.outcome
    return outcome


async def test_a_commit_whose_connection_alone_is_dead(lone_face: Face, proxy: Proxy) -> None:
    """The server gives signs of life elsewhere, so COMMIT gets its time; then it is asked for."""
    face = lone_face
    uow = face.make(pool_size=1)
    with within(10.0), pytest.raises(Exception, match="closed"):
        async with both(uow(timeout=TIMEOUT, confirm_commit=True)) as tx:
            await result(tx.execute(INSERT))
            proxy.when(b"COMMIT", action="blackhole")
    assert tx.outcome is Outcome.ROLLED_BACK
    await assert_the_slot_is_free(uow, proxy)
    assert rows(face) == 0


async def test_connecting(face: Face, proxy: Proxy) -> None:
    """A cold pool: UnitTimeoutError in the unit's time."""
    uow = face.make(pool_size=1)
    proxy.blackhole()
    with within(TIMEOUT + SLACK), pytest.raises(UnitTimeoutError):
        async with both(uow(timeout=TIMEOUT)) as tx:
            await result(tx.execute(INSERT))
    await assert_the_slot_is_free(uow, proxy)


async def test_the_liveness_check(idle_face: Face, proxy: Proxy) -> None:
    """A pooled connection that died while idle: UnitTimeoutError in the unit's time."""
    uow = idle_face.make(pool_size=1)
    async with both(uow()) as tx:
        await result(tx.execute(text("SELECT 1")))
    await idle_face.pause(1.1)
    proxy.blackhole()
    with within(TIMEOUT + SLACK), pytest.raises(UnitTimeoutError):
        async with both(uow(timeout=TIMEOUT)) as tx:
            await result(tx.execute(INSERT))
    await assert_the_slot_is_free(uow, proxy)


async def test_a_cancelled_task(async_face: Face, proxy: Proxy) -> None:
    """A cancellation from outside is not held up by what can't be cancelled on the server."""
    uow = async_face.make(pool_size=1)
    with within(TIMEOUT + SLACK), pytest.raises(TimeoutError):
        async with asyncio.timeout(TIMEOUT), uow() as tx:
            await tx.execute(INSERT)
            proxy.blackhole()
            await tx.execute(text("SELECT 1"))
    assert tx.outcome is Outcome.ROLLED_BACK
    await assert_the_slot_is_free(uow, proxy)


async def test_a_slow_commit_is_not_cut(lone_face: Face, proxy: Proxy) -> None:
    """A COMMIT under way is left alone while the server gives signs of life."""
    face = lone_face
    for statement in SLOW_COMMITS:
        face.aside(statement)
    uow = face.make(pool_size=1)
    async with both(uow()) as tx:
        await result(tx.execute(INSERT))
        before = proxy.connections
    assert tx.outcome is Outcome.COMMITTED
    assert proxy.connections - before >= 2
    assert rows(face) == 1


#: A deferred trigger makes each COMMIT last two seconds.
SLOW_COMMITS = (
    "CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON lost_commit "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()",
)

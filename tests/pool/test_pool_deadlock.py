"""Connections taken beside units can close a circle on the pool: found, not waited out."""

from __future__ import annotations

import time
from typing import Any

import pytest

from unitofwork import AcquireTimeoutError, PoolDeadlockError

from .pool_face import PoolFace, both, line, one, result


async def test_every_holder_waits_for_another_connection(face: PoolFace) -> None:
    """Raw connections that open units fill the pool: `PoolDeadlockError` long before a timeout."""
    uow = face.make(pool_size=2, pool_timeout=30)
    holding = 0

    async def work() -> None:
        nonlocal holding
        connection = uow.engine.connect()  # raw in sync
        if face.is_async:
            connection = await connection  # raw
        try:
            holding += 1
            await face.until(lambda: holding == 2)
            async with both(uow(acquire_timeout=30)) as tx:
                await one(tx)
        finally:
            await result(connection.close())

    began = time.monotonic()
    ended = await face.all([work] * 2)
    assert time.monotonic() - began < 10
    errors = [error for error in ended if error is not None]
    assert errors
    assert {type(error) for error in errors} == {PoolDeadlockError}
    first = errors[0]
    assert len(first.holders) == 2
    marker = "raw" if face.is_async else "raw in sync"
    for holder in first.holders:
        assert holder.unit is None
        assert holder.acquired_at.file == __file__
        assert holder.acquired_at.line == line(__file__, marker)
        assert str(holder.acquired_at) in str(first)
    assert uow.holders() == []
    assert uow.stats().admitted == 0


async def test_the_only_holder_waits_for_itself(face: PoolFace) -> None:
    """A task that holds the last connection and opens a unit is told so at once."""
    uow = face.make(pool_size=1)
    began = time.monotonic()
    async with both(uow.engine.connect()):
        with pytest.raises(PoolDeadlockError) as caught:
            async with both(uow(acquire_timeout=10)) as tx:
                await one(tx)
    assert time.monotonic() - began < 5
    assert len(caught.value.holders) == 1
    assert "tx.connection()" in caught.value.remedy


async def test_a_wait_that_can_end_is_no_deadlock(face: PoolFace) -> None:
    """While one holder is busy elsewhere its connection may come back: it is waited for."""
    uow = face.make(pool_size=2, pool_timeout=30)
    ready = face.event()

    async def hold_for_a_while() -> None:
        async with both(uow.engine.connect()):
            ready.ring()
            await face.pause(0.3)

    async def work() -> None:
        async with both(uow.engine.connect()):
            await ready.heard()
            async with both(uow(acquire_timeout=20)) as tx:
                await one(tx)

    assert await face.all([hold_for_a_while, work]) == [None, None]


async def test_raw_holders_that_wait_for_the_pool_themselves(face: PoolFace) -> None:
    """Plain code that asks for a second connection deadlocks on its own; a unit is told."""
    uow = face.make(pool_size=1, pool_timeout=2, max_overflow=0)
    inside = face.event()

    async def twice() -> str:
        async with both(uow.engine.connect()):
            inside.ring()
            with pytest.raises(Exception, match=r"(?i)QueuePool limit"):
                async with both(uow.engine.connect()):
                    raise AssertionError("got a second one")
        return "done"

    child = face.start(twice)
    await inside.heard()
    await face.pause(0.1)
    began = time.monotonic()
    with pytest.raises(PoolDeadlockError):
        async with both(uow(acquire_timeout=10)) as tx:
            await one(tx)
    assert time.monotonic() - began < 1.5
    assert await face.join(child) == "done"


async def test_the_time_to_wait_for_room_is_the_units(face: PoolFace) -> None:
    """Where raw connections fill the pool, `acquire_timeout` holds, not the pool's timeout."""
    uow = face.make(pool_size=1, pool_timeout=30)
    raw: Any = both(uow.engine.connect())
    await raw.__aenter__()
    other = face.apart(lambda: refused(uow))
    error, seconds = await face.join(other)
    assert isinstance(error, AcquireTimeoutError)
    assert 0.3 <= seconds < 10
    assert error.holders[0].unit is None
    await raw.__aexit__(None, None, None)
    async with both(uow(acquire_timeout=1)) as tx:
        await one(tx)


async def refused(uow: Any) -> tuple[Exception | None, float]:
    began = time.monotonic()
    try:
        async with both(uow(acquire_timeout=0.3)) as tx:
            await one(tx)
    except Exception as error:
        return error, time.monotonic() - began
    return None, time.monotonic() - began

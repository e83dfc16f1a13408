"""A connection that doesn't come in time: the error says who has them, and what they do."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.proxy import Proxy

from unitofwork import AcquireTimeoutError, UnitTimeoutError

from .pool_face import PoolFace, both, line, one


class Guest:
    """Holds a connection until told to go, in a task or thread of its own."""

    def __init__(self, face: PoolFace, uow: Any, **options: Any) -> None:
        self.face, self.uow, self.options = face, uow, options
        self.go: Any = asyncio.Event() if face.is_async else threading.Event()
        self.child = face.start(self.hold)

    async def hold(self) -> None:
        async with both(self.uow(**self.options)) as tx:
            statement = tx.execute(text("SELECT /* the last one */ 1"))  # taken in sync
            if self.face.is_async:
                await statement  # taken
            going = self.go.wait()  # stuck in sync
            if self.face.is_async:
                await going  # stuck

    async def leave(self) -> None:
        self.go.set()
        await self.face.join(self.child)


async def guests(face: PoolFace, uow: Any, count: int, **options: Any) -> list[Guest]:
    there = [Guest(face, uow, **options) for _ in range(count)]
    await face.until(lambda: uow.stats().checked_out == count)
    await face.until(lambda: all(holder.idle_for for holder in uow.holders()))
    await face.pause(0.05)
    return there


async def refused(uow: Any, **options: Any) -> AcquireTimeoutError:
    with pytest.raises(AcquireTimeoutError) as caught:
        async with both(uow(**options)):
            raise AssertionError("was admitted")
    return caught.value


async def test_the_error_names_the_holders(face: PoolFace) -> None:
    """Unit, task, age, where taken, where stuck now and the last statement, in text and fields."""
    uow = face.make(pool_size=2)
    there = await guests(face, uow, 2, name="the guest")
    began = time.monotonic()
    error = await refused(uow, name="the host", acquire_timeout=0.3)
    took = time.monotonic() - began
    for guest in there:
        await guest.leave()

    assert 0.3 <= error.waited <= took < 5
    assert (error.stats.size, error.stats.checked_out, error.stats.admitted) == (2, 2, 2)
    assert error.stats.timeouts == 1
    assert len(error.holders) == 2
    suffix = "" if face.is_async else " in sync"
    for holder in error.holders:
        assert holder.unit == "the guest"
        assert holder.task.startswith("task" if face.is_async else "thread")
        assert 0.3 <= holder.held_for < 30
        assert 0.3 <= holder.idle_for <= holder.held_for
        taken, stuck = holder.acquired_at, holder.waiting_at
        assert (taken.file, taken.line) == (__file__, line(__file__, f"taken{suffix}"))
        assert (stuck.file, stuck.line) == (__file__, line(__file__, f"stuck{suffix}"))
        assert "the last one" in holder.last_statement
        for part in (holder.task, f"{holder.held_for:.2f} s", str(taken), str(stuck)):
            assert part in str(error)
    for part in ("'the host'", "'the guest'", "2 of 2", "all connections are held", __file__):
        assert part in str(error)
    assert "unreachable" not in str(error)
    assert error.holders[0].held_for >= error.holders[1].held_for


async def test_the_error_survives_a_process_border(face: PoolFace) -> None:
    """Pickled and back, as Celery does, it still has its fields."""
    uow = face.make(pool_size=1)
    (guest,) = await guests(face, uow, 1)
    error = await refused(uow, acquire_timeout=0.05)
    await guest.leave()
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert (copy.waited, copy.stats, copy.holders) == (error.waited, error.stats, error.holders)


async def test_it_is_a_timeout_error(face: PoolFace) -> None:
    """`except TimeoutError` catches it; the block was not entered, and the line is left."""
    uow = face.make(pool_size=1)
    (guest,) = await guests(face, uow, 1)
    with pytest.raises(TimeoutError):
        async with both(uow(acquire_timeout=0.05)):
            raise AssertionError("was admitted")
    assert uow.stats().waiting == 0
    await guest.leave()
    async with both(uow(acquire_timeout=0.05)) as tx:
        await one(tx)


async def test_the_units_own_timeout_comes_first(face: PoolFace) -> None:
    """A unit whose `timeout` ends in the line raises UnitTimeoutError, as anywhere else."""
    uow = face.make(pool_size=1)
    (guest,) = await guests(face, uow, 1)
    with pytest.raises(UnitTimeoutError):
        async with both(uow(timeout=0.1, acquire_timeout=5)):
            raise AssertionError("was admitted")
    assert uow.stats().waiting == 0
    await guest.leave()


async def test_all_permits_or_none(face: PoolFace) -> None:
    """A tree that asks for 2 where 1 is free waits with none: others get in after its deadline."""
    uow = face.make(pool_size=2)
    (guest,) = await guests(face, uow, 1)
    error = await refused(uow, connections=2, acquire_timeout=0.1)
    assert error.stats.admitted == 1
    async with both(uow(acquire_timeout=0.1)) as tx:
        await one(tx)
    await guest.leave()


async def test_unreachable_is_told_apart(face: PoolFace, proxy: Proxy) -> None:
    """Where nobody holds anything and all are still connecting, the pool is not to blame."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    uow = face.make(pool_size=2)
    proxy.blackhole()

    async def connect() -> None:
        async with both(uow()) as tx:
            await one(tx)

    stuck = [face.start(connect), face.start(connect)]
    await face.until(lambda: proxy.connections == 2)
    error = await refused(uow, acquire_timeout=0.2)
    assert "unreachable" in str(error)
    assert "all connections are held" not in str(error)
    assert error.holders == ()
    assert error.stats.admitted == 2
    proxy.heal()
    proxy.cut()
    for child in stuck:
        with pytest.raises(Exception, match=r".+"):
            await face.join(child)
    async with both(uow(acquire_timeout=5)) as tx:
        await one(tx)

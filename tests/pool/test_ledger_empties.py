"""Whatever goes wrong, the ledger and the gate end up empty: nothing is listed that isn't out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from tests.contract.face import sync_engine
from tests.support.probe import ServerProbe
from tests.support.proxy import Proxy

from unitofwork import SilentRollbackError

from .pool_face import PoolFace, both, checked_out, one, result, sleep_in_database


@pytest.fixture
async def uow(face: PoolFace) -> AsyncIterator[Any]:
    """A unit of work whose ledger and gate must be empty after the test, and its pool whole."""
    uow = face.make(pool_size=3)
    yield uow
    await face.until(lambda: not checked_out(uow))
    assert uow.holders() == []
    stats = uow.stats()
    assert stats.checked_out == stats.admitted == stats.waiting == stats.running_units == 0
    async with both(uow(connections=3, acquire_timeout=1)) as tx:
        await one(tx)


async def terminate(probe: ServerProbe) -> None:
    probe.terminate_all()
    await asyncio.sleep(0.05)  # for asyncpg's loop to see it


async def test_errors_in_units(face: PoolFace, uow: Any) -> None:
    """The user's, the database's, and one that was swallowed."""
    for _ in range(5):
        with pytest.raises(LookupError):
            async with both(uow()) as tx:
                await one(tx)
                raise LookupError
        with pytest.raises(DBAPIError):
            async with both(uow()) as tx:
                await result(tx.execute(text("SELECT 1 / 0")))
        with pytest.raises(SilentRollbackError):
            async with both(uow()) as tx:
                with pytest.raises(DBAPIError):
                    await result(tx.execute(text("SELECT 1 / 0")))


async def test_errors_on_raw_connections(face: PoolFace, uow: Any) -> None:
    """Connections and plain sessions that end in an error leave the ledger as well."""
    for _ in range(3):
        with pytest.raises(DBAPIError):
            async with both(uow.engine.connect()) as connection:
                await result(connection.execute(text("SELECT 1 / 0")))
        with pytest.raises(DBAPIError):
            async with both(face.session(uow)) as session:
                await result(session.execute(text("SELECT 1 / 0")))


@pytest.mark.parametrize("beside", [False, True])
async def test_backends_that_died(
    face: PoolFace, uow: Any, probe: ServerProbe, beside: bool
) -> None:
    """The server ends the session in the middle: of a unit, or of a raw connection."""
    with pytest.raises(Exception) as caught:
        async with both(uow.engine.connect() if beside else uow()) as holder:
            await result(holder.execute(text("SELECT 1")))
            await terminate(probe)
            await result(holder.execute(text("SELECT 2")))
    assert isinstance(caught.value, DBAPIError)


async def test_backends_that_died_in_the_pool(face: PoolFace, uow: Any, probe: ServerProbe) -> None:
    """All idle connections are dead; the first statements find out."""
    await face.warm(uow, 3)
    await terminate(probe)

    async def work() -> None:
        async with both(uow()) as tx:
            await one(tx)

    first = await face.all([work] * 6)
    assert 1 <= sum(isinstance(error, DBAPIError) for error in first) <= 3
    assert await face.all([work] * 6) == [None] * 6
    assert uow.holders() == []


async def test_the_wire_is_cut(face: PoolFace, proxy: Proxy, hygiene: Any) -> None:
    """At each message of a unit's conversation in turn."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    uow = face.make(pool_size=2)
    for at in (b"SELECT 1", b"SELECT 2", b"COMMIT"):
        # After COMMIT the answer can be withheld; before, asyncpg asks for none that tells.
        for action in ("cut_before", "cut_after")[: 1 + (at == b"COMMIT")]:
            await face.warm(uow, 1)
            proxy.when(at, action=action)
            with pytest.raises(Exception, match=r".+"):
                async with both(uow()) as tx:
                    await result(tx.execute(text("SELECT 1")))
                    await result(tx.execute(text("SELECT 2")))
            await face.until(lambda: not checked_out(uow))
            assert uow.holders() == []
            assert uow.stats().admitted == 0


async def test_invalidated_by_hand(face: PoolFace, uow: Any) -> None:
    """`connection.invalidate()` throws the connection away: from then on it isn't out."""
    async with both(uow.engine.connect()) as connection:
        await result(connection.execute(text("SELECT 1")))
        assert len(uow.holders()) == 1
        await result(connection.invalidate())
        assert uow.holders() == []


async def test_detached(face: PoolFace, uow: Any) -> None:
    """A detached connection is its owner's alone: the pool lends another one in its place."""
    connection = uow.engine.connect()
    connection = await connection if face.is_async else connection
    raw = connection.sync_connection if face.is_async else connection
    driver = raw.connection.driver_connection
    try:
        raw.detach()
        assert checked_out(uow) == 0
        assert uow.holders() == []
        assert uow.stats().checked_out == 0
    finally:
        await result(connection.close())
        await result(driver.close())


async def test_dispose_while_connections_are_out(face: PoolFace, uow: Any) -> None:
    """Those of the old pool stay listed until they come back; then they are gone."""
    async with both(uow.engine.connect()) as connection:
        async with both(uow()) as tx:
            await one(tx)
            assert len(uow.holders()) == 2
            await result(uow.engine.dispose())
            assert len(uow.holders()) == 2
            await one(tx)
        assert len(uow.holders()) == 1
        await result(connection.execute(text("SELECT 1")))
    assert uow.holders() == []


async def test_a_listener_that_refuses_the_checkout(face: PoolFace, uow: Any) -> None:
    """A `checkout` listener of the user's raises: nothing is out, nothing is listed."""

    def refuse(*_: Any) -> None:
        raise LookupError("no")

    event.listen(sync_engine(uow), "checkout", refuse)
    for _ in range(4):
        with pytest.raises(LookupError):
            async with both(uow()) as tx:
                await one(tx)
    event.remove(sync_engine(uow), "checkout", refuse)


async def test_a_listener_that_asks_for_another_connection(face: PoolFace, uow: Any) -> None:
    """`DisconnectionError` at checkout has the pool try again: one connection, one entry."""
    asked = []

    def disconnect(*_: Any) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise DisconnectionError("stale")

    event.listen(sync_engine(uow), "checkout", disconnect)
    async with both(uow()) as tx:
        await one(tx)
        assert len(uow.holders()) == 1
    event.remove(sync_engine(uow), "checkout", disconnect)
    assert len(asked) == 2


async def test_a_connection_that_can_not_be_made(face: PoolFace, proxy: Proxy) -> None:
    """Refused by the network: the unit fails, its permit is back."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    uow = face.make(pool_size=2)
    proxy.refuse()

    async def work() -> None:
        async with both(uow(acquire_timeout=5)) as tx:
            await one(tx)

    ended = await face.all([work] * 10)
    assert None not in ended
    assert uow.holders() == []
    assert uow.stats().admitted == uow.stats().waiting == 0
    proxy.refuse(False)
    await work()


async def test_forgotten_connections(face: PoolFace, uow: Any) -> None:
    """One that nobody closed comes back by the collector; until then it is listed."""
    import gc

    raw: Any = sync_engine(uow).raw_connection() if not face.is_async else None
    if face.is_async:
        return  # no async connection comes back from the collector
    assert len(uow.holders()) == 1
    # Once it is the collector's business the place where it was taken is all that is left.
    raw.close()
    del raw
    gc.collect()
    assert uow.holders() == []


@pytest.mark.parametrize("after", [0.0, 0.005, 0.03])
async def test_cancelled(async_face: PoolFace, after: float) -> None:
    """100 units and raw connections, cancelled while connecting, in a statement, or at the end."""
    uow = async_face.make(pool_size=3)

    async def unit() -> None:
        async with uow() as tx:
            await sleep_in_database(tx, 0.02)

    async def raw() -> None:
        async with uow.engine.connect() as connection:
            await sleep_in_database(connection, 0.02)

    async def timed() -> None:
        async with uow() as tx:
            await asyncio.wait_for(sleep_in_database(tx, 1), 0.02)

    for work in (unit, raw, timed):
        tasks = [asyncio.create_task(work()) for _ in range(12)]
        await asyncio.sleep(after)
        for task in tasks:
            task.cancel()
            await asyncio.sleep(0.001)
        await asyncio.wait(tasks, timeout=20)
        assert all(task.done() for task in tasks)
    await async_face.until(lambda: not checked_out(uow))
    assert uow.holders() == []
    assert uow.stats().admitted == uow.stats().waiting == 0
    async with uow(connections=3, acquire_timeout=1) as tx:
        await one(tx)

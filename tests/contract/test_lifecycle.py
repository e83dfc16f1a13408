"""The lifespan of a service: the end waits for what runs, refuses what comes, disposes its own."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import event, text

from unitofwork import ConfigurationError, Outcome

from .face import Face, both, pool_events, result, sync_engine
from .model import Item


def pooled(uow: Any) -> int:
    """How many connections lie in the pool."""
    pool: Any = sync_engine(uow).pool
    return int(pool.checkedin())


async def start_unit(face: Face, seconds: float, inside: Any = None) -> tuple[Any, list[Any]]:
    """A child that is in a unit now, and stays in it for so long."""
    seen: list[Any] = []

    async def work() -> None:
        async with both(face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            await result(tx.flush())
            seen.append(tx)
            await face.pause(seconds)
            if inside is not None:
                await inside(tx)

    child = face.start(work)
    await face.until(lambda: seen)
    return child, seen


async def test_its_end_waits_for_running_units(face: Face) -> None:
    """A request that was taken before the shutdown is answered."""
    async with both(face.uow.lifespan()) as uow:
        assert uow is face.uow
        child, seen = await start_unit(face, 0.3)
    assert seen[0].outcome is Outcome.COMMITTED
    await face.join(child)
    assert face.names() == ["one"]


async def test_it_does_not_wait_for_ever(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """After `drain_timeout` the shutdown goes on, and the log names the unit that was left."""
    began = time.monotonic()
    async with both(face.uow.lifespan(drain_timeout=0.1)):
        child, seen = await start_unit(face, 0.6)
    assert time.monotonic() - began < 0.55
    assert seen[0].name in caplog.text
    await face.join(child)


async def test_a_unit_that_outlives_it_closes_its_connection(face: Face) -> None:
    """The pool that it came from is disposed: nobody else would close it."""
    closed: list[Any] = []
    for moment in ("close", "close_detached"):
        event.listen(sync_engine(face.uow), moment, lambda *arguments: closed.append(arguments))
    async with both(face.uow.lifespan(drain_timeout=0.05)):
        child, seen = await start_unit(face, 0.3)
    assert closed == []
    await face.join(child)
    assert seen[0].outcome is Outcome.COMMITTED
    assert len(closed) == 1
    assert face.names() == ["one"]


async def test_new_units_are_refused(face: Face) -> None:
    """While the end waits, and after it: with the reason, by the block and the decorator."""

    @face.uow.transactional
    @face.function
    async def decorated() -> None:
        raise AssertionError("must not run")

    refused: list[ConfigurationError] = []

    async def attempt() -> None:
        for call in (lambda: both(face.uow()).__aenter__(), lambda: result(decorated())):
            with pytest.raises(ConfigurationError, match="lifespan") as caught:
                await call()
            refused.append(caught.value)

    async def late() -> None:
        await face.pause(0.15)
        await attempt()

    async with both(face.uow.lifespan()):
        child, _ = await start_unit(face, 0.3)
        other = face.start(late)
    await face.join(child)
    await face.join(other)
    await attempt()
    assert len(refused) == 4
    assert "lifespan" in refused[0].remedy


async def test_a_running_unit_can_still_be_joined(face: Face) -> None:
    """What runs already is let finish: a block that joins it is no new unit."""

    async def inside(outer: Any) -> None:
        async with both(face.uow()) as tx:
            assert tx is outer
            tx.add(Item(id=2, name="two"))
        async with both(face.uow(propagation="nested")) as tx:
            tx.add(Item(id=3, name="three"))

    async with both(face.uow.lifespan()):
        child, _ = await start_unit(face, 0.2, inside)
    await face.join(child)
    assert face.names() == ["one", "two", "three"]


async def test_it_disposes_the_engine_that_it_made(face: Face) -> None:
    """`from_url` made it, so nobody else would close its connections."""
    uow = face.uow
    async with both(uow.lifespan()):
        async with both(uow()) as tx:
            await result(tx.execute(text("SELECT 1")))
        assert pooled(uow) == 1
        pool: Any = sync_engine(uow).pool
    assert pool.checkedin() == 0
    assert pooled(uow) == 0


async def test_it_leaves_an_engine_that_it_was_given(face: Face) -> None:
    """Whoever made it may use it further."""
    uow = type(face.uow)(face.uow.engine)
    async with both(uow.lifespan()):
        async with both(uow()) as tx:
            await result(tx.execute(text("SELECT 1")))
    assert pooled(uow) == 1


async def test_it_can_be_entered_again(face: Face) -> None:
    """As test suites and reloads do."""
    for number in (1, 2):
        async with both(face.uow.lifespan()):
            async with both(face.uow()) as tx:
                tx.add(Item(id=number, name=f"item {number}"))
    assert face.names() == ["item 1", "item 2"]


async def test_an_error_in_it_arrives(face: Face) -> None:
    """The end is the same when the service fails."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with both(face.uow.lifespan()):
            async with both(face.uow()) as tx:
                await result(tx.execute(text("SELECT 1")))
            raise error
    assert caught.value is error
    assert pooled(face.uow) == 0


async def test_without_a_lifespan_units_run(face: Face) -> None:
    """It is for services; a script needs none."""
    async with both(face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
    assert face.names() == ["one"]


# --- what `from_url` sends at connect


async def test_sound_defaults_reach_postgres(postgres_face: Face) -> None:
    """Session settings that end what hangs, an application name, and what was asked over them."""

    async def shown(uow: Any, setting: str) -> str:
        async with both(uow()) as tx:
            value = await result(tx.scalar(text(f"SHOW {setting}")))
        return str(value)

    uow = postgres_face.make()
    assert await shown(uow, "lock_timeout") == "4s"
    assert await shown(uow, "idle_in_transaction_session_timeout") != "0"
    assert await shown(uow, "client_connection_check_interval") != "0"
    assert await shown(uow, "application_name") != ""
    asked = {"lock_timeout": "7s", "application_name": "mine", "work_mem": "5MB"}
    asked["client_connection_check_interval"] = None  # type: ignore[assignment]
    uow = postgres_face.make(session_settings=asked)
    assert await shown(uow, "lock_timeout") == "7s"
    assert await shown(uow, "application_name") == "mine"
    assert await shown(uow, "work_mem") == "5MB"
    assert await shown(uow, "client_connection_check_interval") == "0"


async def test_a_connection_that_died_while_idle_is_replaced(postgres_face: Face) -> None:
    """After a second of idleness it is looked at first: the unit never sees the failure."""
    uow = postgres_face.uow
    async with both(uow()) as tx:
        pid = await result(tx.scalar(text("SELECT pg_backend_pid()")))
    assert postgres_face.probe is not None
    postgres_face.probe.execute("SELECT pg_terminate_backend(%s)", (pid,))
    await postgres_face.pause(1.1)
    events = pool_events(uow)
    async with both(uow()) as tx:
        tx.add(Item(id=1, name="one"))
    assert "connect" in events
    assert postgres_face.names() == ["one"]

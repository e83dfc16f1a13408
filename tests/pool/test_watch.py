"""The watch: a connection that is held for nothing is reported, with the line that is stuck."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from unitofwork import ConfigurationError, ConnectionLeakWarning, HeldWhileWaitingWarning, Outcome

from . import outside_world
from .outside_world import TASKS, THREADS, WAIT, slow_server
from .pool_face import PoolFace, both, line, one, result
from .watching import HOLD_WARNING, Reports, watched


@pytest.fixture
def reports() -> Iterator[Reports]:
    with Reports() as reports:
        yield reports


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with slow_server() as url:
        yield url


def check(reports: Reports, marker: str, down_to: str, taken: str) -> None:
    (held,) = reports.held
    assert f"taken at: {__file__}:{line(__file__, taken)} in" in held
    stuck = outside_world.__file__
    assert f"now at: {stuck}:{line(stuck, marker)} in" in held
    assert down_to in held.split("inside of:")[1]
    assert "'the holder'" in held
    assert "last statement: SELECT /* last */ 1" in held
    found = re.search(r"for (\d+\.\d+) s, and has not used it for (\d+\.\d+) s", held)
    assert found is not None
    held_for, idle_for = float(found[1]), float(found[2])
    assert HOLD_WARNING - 0.01 <= idle_for <= held_for <= WAIT + 5
    (back,) = reports.back
    assert f"{__file__}:{line(__file__, taken)} in" in back
    assert reports.said == [held, back]


@pytest.mark.parametrize("marker", [*TASKS])
async def test_a_task_that_waits_elsewhere(
    async_face: PoolFace, reports: Reports, url: str, marker: str
) -> None:
    """Reported once with both places and the chain of awaits; once more when it comes back."""
    wait, down_to = TASKS[marker]
    uow = watched(async_face)
    async with uow.lifespan():
        async with uow(name="the holder") as tx:
            await tx.execute(text("SELECT /* last */ 1"))  # taken
            await wait(url)
    check(reports, marker, down_to, "taken")


@pytest.mark.parametrize("marker", [*THREADS])
async def test_a_thread_that_waits_elsewhere(
    sync_face: PoolFace, reports: Reports, url: str, marker: str
) -> None:
    """The same for threads, with the stack of the thread."""
    wait, down_to = THREADS[marker]
    uow = watched(sync_face)

    async def work() -> None:
        with uow(name="the holder") as tx:
            tx.execute(text("SELECT /* last */ 1"))  # taken by a thread
            wait(url)

    with uow.lifespan():
        await sync_face.join(sync_face.start(work))
    check(reports, marker, down_to, "taken by a thread")


async def test_raw_connections_are_watched_too(face: PoolFace, reports: Reports) -> None:
    """One that was taken beside units is reported without a unit's name."""
    uow = watched(face)
    async with both(uow.lifespan()):
        async with both(uow.engine.connect()) as connection:
            await result(connection.execute(text("SELECT 1")))
            await face.pause(WAIT)
    (held,) = reports.held
    assert "in unit" not in held
    assert len(reports.back) == 1


async def test_it_is_a_warning_of_pythons_too(face: PoolFace) -> None:
    """`HeldWhileWaitingWarning`, attributed to the line that waits, for filters to act on."""
    uow = watched(face)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with both(uow.lifespan()):
            async with both(uow()) as tx:
                await one(tx)
                await face.pause(WAIT)
    (warning,) = [each for each in caught if each.category is HeldWhileWaitingWarning]
    assert warning.filename.endswith("face.py")  # `pause` is what waits


async def test_a_second_wait_is_not_reported_again(face: PoolFace, reports: Reports) -> None:
    """One report for each time that a connection is out, however often it idles."""
    uow = watched(face)
    async with both(uow.lifespan()):
        async with both(uow()) as tx:
            for _ in range(3):
                await one(tx)
                await face.pause(3 * HOLD_WARNING)
    assert (len(reports.held), len(reports.back)) == (1, 1)


async def test_each_holder_is_reported(face: PoolFace, reports: Reports) -> None:
    """Three that wait at once make three reports, each with its own unit."""
    uow = watched(face)

    async def work(name: str) -> None:
        async with both(uow(name=name)) as tx:
            await one(tx)
            await face.pause(WAIT)

    async with both(uow.lifespan()):
        await face.all([lambda name=name: work(name) for name in ("a", "b", "c")])  # type: ignore[misc]
    assert sorted(name for name in "abc" for held in reports.held if f"'{name}'" in held) == [
        *"abc"
    ]
    assert len(reports.held) == len(reports.back) == 3


async def test_a_leak_is_told_apart(face: PoolFace, reports: Reports) -> None:
    """The task or thread that took the connection has ended: it will never bring it back."""
    uow = watched(face)
    left: list[Any] = []

    async def leak() -> None:
        connection = uow.engine.connect()  # leaked in sync
        if face.is_async:
            connection = await connection  # leaked
        left.append(connection)
        await result(connection.execute(text("SELECT /* last */ 1")))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with both(uow.lifespan()):
            await face.join(face.start(leak))
            await face.until(lambda: reports.leaked)
            await face.pause(3 * HOLD_WARNING)
            await result(left[0].close())
    (leaked,) = reports.leaked
    marker = "leaked" if face.is_async else "leaked in sync"
    assert f"taken at: {__file__}:{line(__file__, marker)}" in leaked
    assert "has ended" in leaked
    assert "SELECT /* last */ 1" in leaked
    assert reports.held == []
    assert len(reports.back) == 1
    assert ConnectionLeakWarning in [each.category for each in caught]


async def test_a_helper_task_is_no_leak(async_face: PoolFace, reports: Reports) -> None:
    """The first statement ran in a task of its own, as `wait_for` does: the unit still lives."""
    uow = watched(async_face, hold_warning=0.3)
    async with uow.lifespan():
        async with uow() as tx:
            await asyncio.create_task(one(tx))
            for _ in range(10):
                await asyncio.sleep(0.05)
                await one(tx)
    assert reports.said == []


async def test_whom_a_helper_task_waits_for(async_face: PoolFace, reports: Reports) -> None:
    """There too a unit that then waits elsewhere is reported, where its own task is stuck."""
    uow = watched(async_face)
    async with uow.lifespan():
        async with uow() as tx:
            await asyncio.create_task(one(tx))
            await asyncio.sleep(WAIT)  # stuck
    (held,) = reports.held
    assert f"now at: {__file__}:{line(__file__, 'stuck')}" in held
    assert reports.leaked == []


async def test_released_units_are_not_reported(face: PoolFace, reports: Reports) -> None:
    """They hold nothing: that is what releasing is for."""
    uow = watched(face)
    async with both(uow.lifespan()):
        async with both(uow()) as tx:
            await one(tx)
            async with both(tx.released()):
                await face.pause(WAIT)
            await one(tx)
    assert reports.said == []


# --- as an error


async def test_as_an_error_at_the_next_statement(face: PoolFace, reports: Reports) -> None:
    """With `external_awaits="raise"` the unit that waited can't go on."""
    uow = watched(face, external_awaits="raise")
    async with both(uow.lifespan()):
        with pytest.raises(HeldWhileWaitingWarning) as caught:
            async with both(uow(name="the holder")) as tx:
                await one(tx)
                await face.pause(WAIT)
                await one(tx)
                raise AssertionError("the statement was sent")
    assert "'the holder'" in str(caught.value)
    assert tx.outcome is Outcome.ROLLED_BACK
    assert uow.stats().checked_out == 0
    assert len(reports.held) == 1


async def test_as_an_error_at_the_end(face: PoolFace, reports: Reports) -> None:
    """A wait after the last statement is one, too: the block ends with the error."""
    uow = watched(face, external_awaits="raise")
    async with both(uow.lifespan()):
        with pytest.raises(HeldWhileWaitingWarning):
            async with both(uow()) as tx:
                await one(tx)
                await face.pause(WAIT)
    assert tx.outcome is Outcome.ROLLED_BACK


async def test_no_error_where_nothing_is_held(face: PoolFace, reports: Reports) -> None:
    """Waiting before the first statement, released, or after the unit is nobody's harm."""
    uow = watched(face, external_awaits="raise")
    async with both(uow.lifespan()):
        async with both(uow()) as tx:
            await face.pause(2 * HOLD_WARNING)
            await one(tx)
            async with both(tx.released()):
                await face.pause(2 * HOLD_WARNING)
            await one(tx)
        await face.pause(2 * HOLD_WARNING)
    assert tx.outcome is Outcome.COMMITTED
    assert reports.said == []


@pytest.mark.parametrize(
    "options",
    [
        *({"hold_warning": seconds} for seconds in (0, -1, True, "1")),
        {"external_awaits": "shout"},
    ],
)
async def test_rules_that_can_not_hold(face: PoolFace, options: Any) -> None:
    """Refused when the unit of work is made."""
    with pytest.raises(ConfigurationError):
        watched(face, **options)

"""The cancellation helper cuts at every suspension, exactly once, in each way it knows."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import anyio
import pytest

from unitofwork.testing.cancellation import WAYS, Way, cancel_at, cancel_at_each_suspension


class Sample:
    """A coroutine of four suspensions that notes how far each run came."""

    def __init__(self) -> None:
        self.runs: list[list[str]] = []

    async def run(self) -> str:
        steps: list[str] = []
        self.runs.append(steps)
        await asyncio.sleep(0)
        steps.append("turn")
        await asyncio.sleep(0.001)
        steps.append("slept")
        await self.inner(steps)
        steps.append("inner")
        return "result"

    async def inner(self, steps: list[str]) -> None:
        future = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, lambda: future.done() or future.set_result(None))
        await future
        steps.append("future")
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))


@pytest.mark.parametrize("how", WAYS)
async def test_each_suspension_is_cut_once(how: Way) -> None:
    """Four suspensions give four cuts, each stopping the coroutine right where it was."""
    sample = Sample()
    cuts = [cut async for cut in cancel_at_each_suspension(sample.run, how=how)]

    assert [cut.at for cut in cuts] == [1, 2, 3, 4]
    assert [cut.outcome for cut in cuts] == ["cancelled"] * 4, cuts
    assert sample.runs == [
        [],
        ["turn"],
        ["turn", "slept"],
        ["turn", "slept", "future"],
        ["turn", "slept", "future", "inner"],
    ]
    assert [place.split()[-1] for place in cuts[2].stuck_at] == ["Sample.run", "Sample.inner"]


@pytest.mark.parametrize("how", WAYS)
async def test_result_that_came_at_the_same_moment(how: Way) -> None:
    """A result that is there when the cancellation arrives is lost; only anyio hands it over."""
    received = False

    async def waits() -> None:
        nonlocal received
        future = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: future.done() or future.set_result(None))
        await future
        received = True
        await asyncio.sleep(0)

    cut = await cancel_at(1, waits, how=how)
    assert cut is not None
    assert cut.outcome == "cancelled"
    # asyncio.timeout acts before the result comes, through its own cancelled await.
    assert received == (how == "anyio")


@pytest.mark.parametrize("how", WAYS)
async def test_swallowed_cancellation_is_completed(how: Way) -> None:
    """A coroutine that swallows the cancellation counts as completed, and the series ends."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "swallowed"
        return "uncut"

    cuts = [cut async for cut in cancel_at_each_suspension(stubborn, how=how)]
    assert [(cut.outcome, cut.result) for cut in cuts] == [("completed", "swallowed")]


@pytest.mark.parametrize("how", WAYS)
async def test_error_in_place_of_the_cancellation_is_raised(how: Way) -> None:
    """A coroutine that turns the cancellation into another error is reported with that error."""

    async def converts() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise KeyError("converted") from None

    cuts = [cut async for cut in cancel_at_each_suspension(converts, how=how)]
    assert [(cut.outcome, repr(cut.error)) for cut in cuts] == [("raised", "KeyError('converted')")]


DELIVERIES: dict[Way, int] = {
    "cancel": 1,
    "twice": 3,
    "wait_for": 1,
    "timeout": 1,
    "taskgroup": 1,
    "anyio": 3,
}


@pytest.mark.parametrize("how", WAYS)
async def test_how_often_the_cancellation_is_delivered(how: Way) -> None:
    """Cleaning up is cancelled again by `twice` and `anyio`, and by no other way."""
    delivered = 0

    async def cleans_up() -> None:
        nonlocal delivered
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            delivered += 1
            for _ in range(2):
                try:
                    await asyncio.sleep(0.001)
                except asyncio.CancelledError:
                    delivered += 1
            raise

    cut = await cancel_at(1, cleans_up, how=how)
    assert cut is not None
    assert cut.outcome == "cancelled"
    assert delivered == DELIVERIES[how]


@pytest.mark.parametrize("how", WAYS)
async def test_transparent_to_task_timeout_and_anyio(how: Way) -> None:
    """Uncut, the coroutine runs in one task, in which timeouts and anyio scopes work."""
    tasks: set[Any] = set()

    async def sensitive() -> None:
        tasks.add(asyncio.current_task())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(30)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(30)
        assert scope.cancelled_caught
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        tasks.add(task)

    assert await cancel_at(10_000, sensitive, how=how) is None
    assert len(tasks) == 1


async def test_wrong_use_of_uncancel_is_noticed() -> None:
    """A cancellation that its timeout doesn't know as its own is `raised`, not `cancelled`."""

    async def counts_wrongly() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            task.cancel()
            task.cancel()
            await asyncio.sleep(0)

    cut = await cancel_at(1, counts_wrongly, how="timeout")
    assert cut is not None
    assert cut.outcome == "raised"
    assert isinstance(cut.error, asyncio.CancelledError)


async def test_a_run_without_end_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine that never ends after its cut makes the helper fail, not hang; just that."""

    async def sits_on_it() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match="sits_on_it"):
        await cancel_at(1, sits_on_it, within=0.05)
    await asyncio.sleep(0.01)
    gc.collect()
    assert caplog.messages == []


async def test_more_suspensions_than_the_limit_is_an_error() -> None:
    """A coroutine that gets longer with every run ends at the limit."""
    runs = 0

    async def grows() -> None:
        nonlocal runs
        runs += 1
        for _ in range(runs + 1):
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="after 5 cuts"):
        async for _ in cancel_at_each_suspension(grows, limit=5):
            pass


async def test_error_of_the_uncut_run_is_raised() -> None:
    """A coroutine that fails by itself fails the helper: its cuts would prove nothing."""

    async def broken() -> None:
        await asyncio.sleep(0)
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        async for _ in cancel_at_each_suspension(broken):
            pass

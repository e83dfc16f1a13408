"""Tasks that take their first step at once: on each Python the same."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from unitofwork.core.eager import start_at_once

place = contextvars.ContextVar("place", default="outside")


async def test_the_first_step_is_taken_before_the_loop_turns() -> None:
    """What the work does up to its first wait has been done when the task is there."""
    done: list[str] = []
    reply = asyncio.get_running_loop().create_future()

    async def work() -> str:
        done.append("sent")
        answer: str = await reply
        done.append("received")
        return answer

    task = start_at_once(work())
    assert done == ["sent"]
    reply.set_result("yes")
    assert await task == "yes"
    assert done == ["sent", "received"]


async def test_work_that_never_waits() -> None:
    """Its result, and its error, are the task's."""

    async def succeed() -> int:
        return 1

    async def fail() -> None:
        raise ValueError("no")

    assert await start_at_once(succeed()) == 1
    with pytest.raises(ValueError, match="no"):
        await start_at_once(fail())


async def test_the_work_is_its_own_task_from_the_first_step_on() -> None:
    """So that a time limit in it cancels it, and not whoever has started it."""
    outer, seen = asyncio.current_task(), []

    async def work() -> None:
        seen.append(asyncio.current_task())
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    task = start_at_once(work())
    assert seen == [task]
    assert asyncio.current_task() is outer
    with pytest.raises(TimeoutError):
        await task


async def test_context_variables_are_its_own() -> None:
    """What the work sets in its first step is not seen outside, and is seen by its later steps."""

    async def work() -> str:
        place.set("inside")
        await asyncio.sleep(0)
        return place.get()

    task = start_at_once(work())
    assert place.get() == "outside"
    assert await task == "inside"


async def test_a_cancellation_right_after_the_start_reaches_the_work() -> None:
    """It is raised where the work waits, and what is waited for is cancelled too."""
    reply = asyncio.get_running_loop().create_future()
    reached: list[str] = []

    async def work() -> None:
        try:
            await reply
        except asyncio.CancelledError:
            reached.append("work")
            raise

    task = start_at_once(work())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == ["work"]
    assert reply.cancelled()

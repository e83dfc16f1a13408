"""Cancel a coroutine at each of its suspensions, one run after another, to see what it leaves.

    async for cut in cancel_at_each_suspension(lambda: transfer(1, 2, 10), how="anyio"):
        assert cut.outcome == "cancelled", cut
        assert pool.checkedout() == 0, cut

A suspension is a moment where the task gives control to the event loop. A cancellation can be
delivered nowhere else, so the cuts are all there are. Only suspensions of the coroutine itself
count, not those of tasks that it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import anyio

__all__ = ["WAYS", "Cut", "Way", "cancel_at", "cancel_at_each_suspension"]

Way = Literal["cancel", "twice", "wait_for", "timeout", "taskgroup", "anyio"]
WAYS: tuple[Way, ...] = get_args(Way)
"""The ways to cancel:

- `cancel`: `task.cancel()`, once
- `twice`: the same, and again at each suspension that follows
- `wait_for`: the task that waits for the coroutine in `asyncio.wait_for` is cancelled
- `timeout`: the deadline of an `asyncio.timeout` around the coroutine passes
- `taskgroup`: a sibling in the same `asyncio.TaskGroup` fails
- `anyio`: an `anyio.CancelScope` around it is cancelled, which cancels every later await too
  (but not an await whose result is there already: there anyio waits for the next one)
"""


@dataclass(frozen=True)
class Cut:
    """One run of the coroutine, cancelled at one suspension.

    Attributes:
        at: which suspension, from 1.
        outcome: `cancelled`: the cancellation came out again, and whatever had asked for it knew
            it as its own; `completed`: the coroutine returned all the same; `raised`: it ended in
            another error (or in a cancellation that the timeout, group or scope did not know).
        error: that error, or None.
        result: what the coroutine returned, where it completed.
        stuck_at: where it was suspended, outermost call first, each `"module:line function"`.
    """

    at: int
    outcome: Literal["cancelled", "completed", "raised"]
    error: BaseException | None
    result: Any
    stuck_at: tuple[str, ...]


async def cancel_at_each_suspension(
    make: Callable[[], Coroutine[Any, Any, object]],
    *,
    how: Way = "cancel",
    limit: int = 10_000,
    within: float = 30.0,
) -> AsyncIterator[Cut]:
    """Run `make()` again and again, cancelled at its 1st, 2nd, ... suspension; yield each cut.

    Ends after the first run that has no such suspension; that run isn't yielded.

    Args:
        make: makes a fresh coroutine for each run.
        how: the way to cancel, one of `WAYS`.
        limit: the most cuts to make.
        within: seconds that one run may take.

    Raises:
        AssertionError: a run didn't end in time, or `limit` cuts were not all.
        Exception: whatever the last, uncut run raised.
    """
    for at in range(1, limit + 1):
        cut = await cancel_at(at, make, how=how, within=within)
        if cut is None:
            return
        yield cut
    raise AssertionError(f"after {limit} cuts the coroutine still has suspensions to cut")


async def cancel_at(
    at: int,
    make: Callable[[], Coroutine[Any, Any, object]],
    *,
    how: Way = "cancel",
    within: float = 30.0,
) -> Cut | None:
    """Run `make()` once, cancelled at suspension number `at`; None if it ended before that.

    Arguments and errors are those of `cancel_at_each_suspension`.
    """
    watched = _Watched(make(), at)
    task = asyncio.get_running_loop().create_task(_ARRANGEMENTS[how](watched))
    # One that we stop waiting for may still end in an error, which nobody will look at.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    try:
        await asyncio.wait({task}, timeout=within)
        if not task.done():
            raise AssertionError(
                f"cut at suspension {at} ({how}), the coroutine still runs after {within:g} s; "
                f"cut in {watched.stuck_at}, now in {places(watched.coroutine)}"
            )
    finally:
        task.cancel()
    error = task.exception() if not task.cancelled() else asyncio.CancelledError()
    if watched.count < at:
        if error is not None:
            raise error
        return None
    # What the coroutine did counts first: `wait_for` hides it when it is cancelled itself.
    if watched.completed:
        return Cut(at, "completed", None, watched.result, watched.stuck_at)
    if not isinstance(watched.error, asyncio.CancelledError):
        return Cut(at, "raised", watched.error, None, watched.stuck_at)
    if isinstance(error, _Acknowledged):
        return Cut(at, "cancelled", None, None, watched.stuck_at)
    return Cut(at, "raised", error, None, watched.stuck_at)


def places(coroutine: Any) -> tuple[str, ...]:
    """Where a suspended coroutine is: each frame from the outermost call to the innermost."""
    found = []
    awaited = coroutine
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            module = frame.f_globals.get("__name__", "?")
            found.append(f"{module}:{frame.f_lineno} {frame.f_code.co_qualname}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return tuple(found)


class _Watched(Awaitable[Any]):
    """A coroutine, run by the task that awaits this; calls `cut` at its suspension number `at`.

    Each suspension is handed on as it is, so the task, timeouts and scopes see no difference.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, object], at: int) -> None:
        self.coroutine = coroutine
        self.at = at
        self.count = 0
        self.stuck_at: tuple[str, ...] = ()
        self.completed = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.cut: Callable[[], object] = lambda: None
        self.repeat = False
        self.hold = False

    def __await__(self) -> Generator[Any, Any, Any]:
        step = partial(self.coroutine.send, None)
        while True:
            try:
                waited_for = step()
            except StopIteration as end:
                self.completed, self.result = True, end.value
                return end.value
            except BaseException as error:
                self.error = error
                raise
            self.count += 1
            if self.count == self.at:
                self.stuck_at = places(self.coroutine)
                self.cut()
            elif self.repeat and self.count > self.at:
                self.cut()
            try:
                if self.hold and self.count == self.at:
                    yield from _hold(waited_for)
                else:
                    yield waited_for
            except GeneratorExit:
                self.coroutine.close()
                raise
            except BaseException as error:
                step = partial(self.coroutine.throw, error)
            else:
                step = partial(self.coroutine.send, None)


def _hold(waited_for: Any) -> Generator[Any, Any, None]:
    """Stay suspended until the cancellation, which takes some turns of the loop, has arrived.

    What was waited for may come first. It is lost then, as it is where a task is cancelled
    between the end of what it waits for and its own next turn.
    """
    with contextlib.suppress(Exception):
        yield waited_for
    for _ in range(100):
        yield
    raise RuntimeError("the cancellation did not arrive")


class _Acknowledged(Exception):
    """The cancellation came out, and was taken by what had asked for it."""

    def __str__(self) -> str:
        return "the coroutine ended as cancelled, before anything had cancelled it"


async def _run(watched: _Watched) -> Any:
    return await watched


def _cancel_soon(watched: _Watched, task: asyncio.Task[Any] | None) -> None:
    """Arrange that the cut cancels `task`.

    Soon, not at once: at the cut itself the task isn't suspended yet, it is about to be.
    """
    assert task is not None
    loop = asyncio.get_running_loop()
    watched.cut = lambda: loop.call_soon(task.cancel)


async def _by_cancel(watched: _Watched) -> Any:
    _cancel_soon(watched, asyncio.current_task())
    try:
        return await watched
    except asyncio.CancelledError:
        raise _Acknowledged from None


async def _by_cancel_repeatedly(watched: _Watched) -> Any:
    watched.repeat = True
    return await _by_cancel(watched)


async def _by_wait_for(watched: _Watched) -> Any:
    # Before Python 3.12 the coroutine has a task of its own, which is cancelled a turn later.
    watched.hold = True
    _cancel_soon(watched, asyncio.current_task())
    try:
        return await asyncio.wait_for(_run(watched), 3600)
    except asyncio.CancelledError:
        raise _Acknowledged from None


async def _by_timeout(watched: _Watched) -> Any:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as scope:
            # A deadline in the past acts at the loop's next turn, which is soon enough.
            watched.cut = lambda: scope.reschedule(loop.time())
            return await watched
    except TimeoutError:
        if scope.expired():
            raise _Acknowledged from None
        raise


async def _by_task_group(watched: _Watched) -> Any:
    moment = asyncio.get_running_loop().create_future()

    async def fail() -> None:
        await moment
        raise RuntimeError("the sibling failed")

    watched.cut = lambda: moment.set_result(None)
    watched.hold = True
    try:
        async with asyncio.TaskGroup() as group:
            target = group.create_task(_run(watched))
            sibling = group.create_task(fail())
            await asyncio.wait({target})
            if not moment.done():
                sibling.cancel()
    except BaseExceptionGroup:
        # It holds the sibling's failure, and that of the target, which speaks for itself.
        pass
    if target.cancelled():
        raise _Acknowledged
    return target.result()


async def _by_anyio(watched: _Watched) -> Any:
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:
        watched.cut = lambda: loop.call_soon(scope.cancel)
        return await watched
    raise _Acknowledged


_ARRANGEMENTS: dict[Way, Callable[[_Watched], Coroutine[Any, Any, Any]]] = {
    "cancel": _by_cancel,
    "twice": _by_cancel_repeatedly,
    "wait_for": _by_wait_for,
    "timeout": _by_timeout,
    "taskgroup": _by_task_group,
    "anyio": _by_anyio,
}

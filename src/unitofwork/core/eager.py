"""Tasks that take their first step at once, which asyncio's own do from Python 3.12 on."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


def start_at_once(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for `work`, which has run up to its first wait already.

    In a busy loop a turn is a millisecond, and a COMMIT that waits for its turn keeps its locks
    for as long.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    begun, context = _Begun(work), contextvars.copy_context()
    task: asyncio.Task[T] = asyncio.Task(begun, loop=loop, context=context)
    outer = asyncio.current_task(loop)
    # Time limits in `work` cancel the task that they are entered in: it must be this one.
    # https://docs.python.org/3/library/asyncio-extending.html#task-lifetime-support
    if outer is not None:
        asyncio.tasks._leave_task(loop, outer)
    asyncio.tasks._enter_task(loop, task)
    try:
        context.run(begun.step)
    finally:
        asyncio.tasks._leave_task(loop, task)
        if outer is not None:
            asyncio.tasks._enter_task(loop, outer)
    return task


class _Begun(Coroutine[Any, Any, T]):
    """A coroutine after its first step, for a task to go on with."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        #: What came of the first step, until the task asks for it.
        self._first: Callable[[], Any] | None = None

    def step(self) -> None:
        """Take the first step."""
        try:
            waits_for = self._work.send(None)
        except BaseException as ended:  # by a result (StopIteration) or an error
            self._first = _raiser(ended)
        else:
            self._first = lambda: waits_for

    def send(self, value: Any) -> Any:
        first, self._first = self._first, None
        return self._work.send(value) if first is None else first()

    def throw(self, *error: Any) -> Any:
        first, self._first = self._first, None
        if first is not None:
            # The task was cancelled before it has seen what the work waits for: what cancelling
            # it a turn later would do, to that as well.
            waits_for = first()
            if waits_for is not None:
                waits_for.cancel()
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()


def _raiser(error: BaseException) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail

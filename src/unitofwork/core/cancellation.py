"""The one home of cancellation: running work to its end while its task is being cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from .eager import start_at_once

T = TypeVar("T")


async def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a task of its own and wait for it, however often this one is cancelled.

    A cancellation that came meanwhile is raised when the work is done, as the same exception
    object, so that `asyncio.timeout`, task groups and anyio scopes recognise it as theirs. An
    error of the work then becomes its context.
    """
    task = start_at_once(work)
    if task.done():
        return task.result()
    done = task.get_loop().create_future()

    def wake(_: object) -> None:
        if not done.done():
            done.set_result(None)

    task.add_done_callback(wake)
    try:
        await done
    except asyncio.CancelledError as cancelled:
        await _wait(task)
        if task.cancelled():
            raise
        error = task.exception()
        if error is not None:
            cancelled.__context__ = error
        raise
    return task.result()


async def _wait(task: asyncio.Task[Any]) -> None:
    # anyio cancels again at every await of a cancelled scope; without a shielded scope of its own
    # this would spin. Plain asyncio delivers each further cancel() once: it is waited out.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError:
                continue

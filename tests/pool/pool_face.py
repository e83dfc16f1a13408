"""A face with what pool tests need: engines with a gate of one's own, many workers at once."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tests.contract.face import Face, both, checked_out, drive, pool_events, result, statements

from unitofwork import AsyncUnitOfWork, UnitOfWork

__all__ = ["LONG", "PoolFace", "both", "checked_out", "line", "pool_events", "result", "statements"]

#: `UNITOFWORK_LONG=1` runs the long forms: more units, more seconds.
LONG = os.environ.get("UNITOFWORK_LONG", "") not in ("", "0")

DRIVERS = ("asyncpg", "psycopg", "psycopg-sync")
Work = Callable[[], Coroutine[Any, Any, Any]]


class PoolFace(Face):
    """A driver and its face over PostgreSQL."""

    def gated(self, **options: Any) -> Any:
        """A unit of work over an engine made with exactly these options; those of ours are its."""
        make: Any = create_async_engine if self.is_async else create_engine
        kind: Any = AsyncUnitOfWork if self.is_async else UnitOfWork
        ours = ("max_waiting", "shedding", "hold_warning", "external_awaits")
        of_uow = {name: options.pop(name) for name in ours if name in options}
        uow = kind(self._hygiene.watch(make(self.url, **options)), **of_uow)
        self._made.append(uow)
        return uow

    def session(self, uow: Any) -> Any:
        """A plain session of SQLAlchemy's on the engine of `uow`."""
        kind: Any = AsyncSession if self.is_async else Session
        return kind(uow.engine)

    def apart(self, work: Work) -> Any:
        """`start`, but not as a child: in a context that no unit was ever opened in."""
        if self.is_async:
            return asyncio.create_task(work(), context=contextvars.Context())
        executor = ThreadPoolExecutor(1, thread_name_prefix="apart")
        future = executor.submit(lambda: drive(work()))
        executor.shutdown(wait=False)
        return future

    async def all(self, works: Iterable[Work]) -> list[Any]:
        """Run all at once, each in a task (thread) of its own; results or errors, in order."""
        children = [self.start(work) for work in works]
        ended = []
        for child in children:
            try:
                ended.append(await self.join(child))
            except Exception as error:
                ended.append(error)
        return ended

    def event(self) -> Any:
        """An event of the face's world."""
        return Gong(self.is_async)

    async def warm(self, uow: Any, connections: int) -> None:
        """Open so many of the pool's connections, so that a test measures no connecting."""
        held = [both(uow.engine.connect()) for _ in range(connections)]
        for one in held:
            await one.__aenter__()
        for one in held:
            await one.__aexit__(None, None, None)


class Gong:
    """Something that many wait for, in either world; its waiting names no line of this file."""

    def __init__(self, is_async: bool) -> None:
        self._is_async = is_async
        self._rung = False

    def ring(self) -> None:
        self._rung = True

    async def heard(self, within: float = 20.0) -> None:
        deadline = time.monotonic() + within
        while not self._rung:
            assert time.monotonic() < deadline, "nobody rang"
            await asyncio.sleep(0.002) if self._is_async else time.sleep(0.002)


async def one(tx: Any) -> Any:
    """The smallest statement."""
    return await result(tx.scalar(text("SELECT 1")))


async def sleep_in_database(tx: Any, seconds: float) -> None:
    """A statement that is busy for so long."""
    await result(tx.execute(text(f"SELECT pg_sleep({seconds})")))


def line(file: str, marker: str) -> int:
    """The number of the line in `file` that ends with the comment `# <marker>`."""
    numbered = zip(itertools.count(1), Path(file).read_text().splitlines(), strict=False)
    (found,) = [number for number, text in numbered if text.endswith(f"# {marker}")]
    return found

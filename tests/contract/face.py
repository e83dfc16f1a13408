"""One driver and one face: lets a test be written once, with `await`, for async and sync units."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Engine, TextClause, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork import AsyncUnitOfWork, UnitOfWork

from .model import Base

#: Seconds for a thread to end; the long forms of some tests take minutes.
PATIENCE = 900.0 if os.environ.get("UNITOFWORK_LONG", "") not in ("", "0") else 60.0


async def result(value: Any) -> Any:
    """What a call gives: awaited if the face is async, as it is if it is sync."""
    return await value if inspect.isawaitable(value) else value


class both:
    """A block of either face: `async with both(uow()) as tx:`."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._is_async = hasattr(block, "__aenter__")

    async def __aenter__(self) -> Any:
        return await self._block.__aenter__() if self._is_async else self._block.__enter__()

    async def __aexit__(self, *error: Any) -> Any:
        return (
            await self._block.__aexit__(*error) if self._is_async else self._block.__exit__(*error)
        )


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing, as those of the sync face do."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("the sync face waited for an event loop")


class Face:
    """A driver, sync or async, with a database of its own and an empty `item` and `part`."""

    #: By name: the driver in the URL, and whether the face is async.
    ALL: ClassVar[dict[str, tuple[str, bool]]] = {
        "asyncpg": ("asyncpg", True),
        "psycopg": ("psycopg", True),
        "psycopg-sync": ("psycopg", False),
        "aiosqlite": ("aiosqlite", True),
        "pysqlite": ("pysqlite", False),
    }

    def __init__(
        self, name: str, url: str, hygiene: Hygiene, *, probe: ServerProbe | None = None
    ) -> None:
        self.name = name
        self.driver, self.is_async = self.ALL[name]
        self.url = url
        self.probe = probe
        self.is_postgres = probe is not None
        self._hygiene = hygiene
        self._made: list[Any] = []
        self._uow: Any = None

    @property
    def uow(self) -> Any:
        """The unit of work of the test, over a cold pool of three connections."""
        if self._uow is None:
            self._uow = self.make(pool_size=3)
        return self._uow

    def make(self, **engine_options: Any) -> Any:
        """A further unit of work, over an engine of its own on the same database."""
        kind: Any = AsyncUnitOfWork if self.is_async else UnitOfWork
        uow = kind.from_url(self.url, **engine_options)
        self._made.append(uow)
        self._hygiene.watch(uow.engine)
        if not self.is_postgres:
            event.listen(sync_engine(uow), "connect", _prepare_sqlite)
        return uow

    async def close(self) -> None:
        for uow in self._made:
            await result(uow.engine.dispose())

    # --- what tests do to the database

    def slow(self, seconds: float) -> TextClause:
        """A statement that takes so long, and that the database can stop on the way."""
        if self.is_postgres:
            return text(f"SELECT /* slow */ 1 FROM pg_sleep({seconds})")
        return text(
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t "
            f"WHERE n < {int(seconds * 100)} AND nap() IS NULL) SELECT /* slow */ count(*) FROM t"
        )

    def aside(self, sql: str) -> list[Any]:
        """The rows of a statement that runs on a connection which the library knows nothing of."""
        if self.probe is not None:
            return self.probe.execute(sql)
        with closing(sqlite3.connect(make_url(self.url).database or "")) as connection:
            rows = connection.execute(sql).fetchall()
            connection.commit()
            return rows

    def names(self) -> list[str]:
        """The names of the items that are committed."""
        return [name for (name,) in self.aside("SELECT name FROM item ORDER BY id")]

    # --- other tasks, or threads

    def start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Start `work` in a child, as applications do: a task, or a thread in a copied context."""
        if self.is_async:
            return asyncio.ensure_future(work())
        executor = ThreadPoolExecutor(1, thread_name_prefix="child")
        future = executor.submit(contextvars.copy_context().run, lambda: drive(work()))
        executor.shutdown(wait=False)
        return future

    async def join(self, child: Any) -> Any:
        """The result of a started child."""
        return child.result(PATIENCE) if isinstance(child, Future) else await child

    async def pause(self, seconds: float) -> None:
        """Sleep, letting the other tasks or threads go on."""
        if self.is_async:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)

    async def until(self, condition: Callable[[], Any], within: float = 10.0) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, "what the test waits for did not come"
            await self.pause(0.005)

    def function(self, body: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        """`body` in the colour of the face: itself, or a plain function with its signature."""
        if self.is_async:
            return body

        @functools.wraps(body)
        def plain(*args: Any, **kwargs: Any) -> Any:
            return drive(body(*args, **kwargs))

        return plain


def sync_engine(uow: Any) -> Engine:
    """The engine that carries the events and the pool."""
    engine = uow.engine
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


def checked_out(uow: Any) -> int:
    """How many connections are out now."""
    pool: Any = sync_engine(uow).pool
    return int(pool.checkedout())


def pool_events(uow: Any) -> list[str]:
    """A list that grows by "connect", "checkout" and "checkin" from now on."""
    seen: list[str] = []

    def record(name: str) -> Callable[..., None]:
        return lambda *_: seen.append(name)

    for name in ("connect", "checkout", "checkin"):
        event.listen(sync_engine(uow), name, record(name))
    return seen


def statements(uow: Any) -> list[str]:
    """A list that grows by each statement that is about to be sent from now on."""
    seen: list[str] = []

    def record(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(sync_engine(uow), "before_cursor_execute", record)
    return seen


def create_tables(url: str) -> None:
    """Make the tables anew, with a sync driver."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()


def sqlite_url(driver: str, directory: Path) -> str:
    """A fresh database file with the tables in it."""
    path = directory / "contract.db"
    create_tables(f"sqlite:///{path}")
    return f"sqlite+{driver}:///{path}"


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
    # No Python frame of its own, which would be taken for the user's.
    connection.create_function("nap", 0, functools.partial(time.sleep, 0.01))

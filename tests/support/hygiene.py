"""The check after every test: no connection is out, and the server has nothing of ours."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from .probe import ServerProbe

E = TypeVar("E", Engine, AsyncEngine)
GARBAGE = "The garbage collector is trying to clean up non-checked-in connection"


class Hygiene(logging.Handler):
    """Watches engines during a test; `check` afterwards; a context manager around both.

    Args:
        probe: asks the server, if there is one.
        patience: seconds that connections, and then the server, have to come to rest.
    """

    def __init__(self, probe: ServerProbe | None = None, patience: float = 1.0) -> None:
        super().__init__(logging.ERROR)
        self.probe = probe
        self.patience = patience
        self.garbage: list[str] = []
        self._engines: list[Engine] = []
        # Which connections are out, and who took them. The pool's own count starts anew when
        # its engine is disposed, and forgets what is out then.
        self._out: dict[Any, str] = {}

    def __enter__(self) -> Self:
        logging.getLogger("sqlalchemy.pool").addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger("sqlalchemy.pool").removeHandler(self)

    def watch(self, engine: E) -> E:
        """Include this engine in the check; returns it."""
        sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self._engines.append(sync_engine)
        event.listen(sync_engine, "checkout", self._on_checkout)
        event.listen(sync_engine, "checkin", self._on_back)
        event.listen(sync_engine, "detach", self._on_back)
        event.listen(sync_engine, "reset", self._on_reset)
        return engine

    def check(self) -> None:
        """Fail if a connection is out, was left to the garbage collector, or keeps the server busy.

        Blocks the thread; `check_async` lets the event loop go on meanwhile.

        Raises:
            AssertionError: with everything that is wrong.
        """
        deadline = time.monotonic() + self.patience
        while self._checked_out() and time.monotonic() < deadline:
            time.sleep(0.005)
        left = self._checked_out()
        gc.collect()
        deadline = time.monotonic() + self.patience
        while self._noise() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._report(left)

    async def check_async(self) -> None:
        """`check` for a test with an event loop."""
        deadline = time.monotonic() + self.patience
        while self._checked_out() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        left = self._checked_out()
        gc.collect()
        deadline = time.monotonic() + self.patience
        while self._noise() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._report(left)

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(GARBAGE):
            self.garbage.append(record.getMessage())

    def _checked_out(self) -> list[str]:
        counted = [
            f"{engine.url.render_as_string()}: {count} checked out"
            for engine in self._engines
            if (count := getattr(engine.pool, "checkedout", int)()) > 0
        ]
        return counted + [f"a connection is still out, taken by {by}" for by in self._out.values()]

    def _noise(self) -> list[str]:
        return self.probe.noise() if self.probe is not None else []

    def _report(self, left: list[str]) -> None:
        problems = [*left, *self.garbage, *self._noise()]
        assert not problems, "the test left something behind:\n" + "\n".join(problems)

    def _on_checkout(self, _connection: object, record: Any, _fairy: object) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        by = f"task {task.get_name()}" if task else f"thread {threading.current_thread().name}"
        self._out[record] = by

    def _on_back(self, _connection: object, record: Any) -> None:
        self._out.pop(record, None)

    def _on_reset(self, _connection: object, record: Any, _state: object) -> None:
        # A connection that is given back still has its owner. The pool says nothing about one
        # that has lost it, where the driver is a sync one: it just takes it back.
        if record is not None and record.fairy_ref is not None and record.fairy_ref() is None:
            self.garbage.append(f"left to the garbage collector, taken by {self._out.get(record)}")

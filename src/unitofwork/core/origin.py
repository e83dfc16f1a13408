"""In which process and event loop a pool's connections were made; elsewhere they are refused."""

from __future__ import annotations

import asyncio
import os

from sqlalchemy import Engine
from sqlalchemy.pool import NullPool, Pool

from ..errors import ConfigurationError


class Origin:
    """Told of each new connection; asked before each unit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: tuple[Pool, int, asyncio.AbstractEventLoop | None] | None = None
        self._first_pool = engine.pool

    def connection_made(self) -> None:
        """A connection was opened here."""
        if not isinstance(self._engine.pool, NullPool):
            loop = asyncio._get_running_loop() if self._engine.dialect.is_async else None
            self._made = (self._engine.pool, os.getpid(), loop)

    @property
    def is_new(self) -> bool:
        """Whether the engine was neither used nor disposed yet."""
        return self._made is None and self._engine.pool is self._first_pool

    def check(self) -> None:
        """Refuse connections that were opened by the parent process or for another event loop.

        Raises `ConfigurationError`. Two processes on one socket mix up each other's answers; a
        connection of another loop hangs or fails in the middle of a statement.
        """
        made = self._made
        if made is None or made[0] is not self._engine.pool:
            return
        if made[1] != os.getpid():
            raise ConfigurationError(
                f"The engine was used in process {made[1]} before it was forked; its pool holds "
                f"the parent's connections, and this process ({os.getpid()}) must not use them.",
                "call engine.dispose(close=False) first thing in the child (gunicorn: post_fork; "
                "Celery: worker_process_init), or create the engine after the fork.",
            )
        if made[2] is not None and made[2] is not asyncio._get_running_loop():
            raise ConfigurationError(
                "The engine's pool holds connections of another event loop; they can't be used "
                "in this one.",
                "await engine.dispose() before the first loop ends (each asyncio.run() makes a "
                "new loop), or create one engine per loop.",
            )

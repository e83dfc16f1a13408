"""Engines with sound defaults: pool options, session settings, a liveness check when idle."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, event, exc, make_url
from sqlalchemy.engine import URL
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, QueuePool

from ..errors import ConfigurationError
from ..policies.engine_defaults import (
    CHECK_AFTER_IDLE,
    POOL,
    POSTGRESQL_SESSION,
    session_settings,
)
from .limits import Limit

_IDLE_SINCE = "unitofwork_idle_since"
#: Seconds that a server gets to answer the liveness check.
CHECK_TIMEOUT = 1.0


def sound_defaults(
    url: str | URL, asked: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Options for `create_engine`, and the session settings for each new connection.

    Raises `ConfigurationError` for a URL that can't be read.
    """
    try:
        parsed = make_url(url)
        is_async = parsed.get_dialect().is_async
    except exc.ArgumentError as error:
        raise ConfigurationError(
            "The database URL can't be read.", "write driver://user:password@host/database."
        ) from error
    options = dict(asked)
    settings = options.pop("session_settings", None) or {}
    if "poolclass" not in options and "pool" not in options:
        if parsed.get_backend_name() == "sqlite" and _in_memory(parsed):
            # The one connection is the database: units take turns on it, and it stays open.
            options["poolclass"] = AsyncAdaptedQueuePool if is_async else QueuePool
            options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10.0, **options}
            connect_args = {"check_same_thread": False, **options.get("connect_args", {})}
            options["connect_args"] = connect_args
        else:
            options = {**POOL, **options}
    if parsed.get_backend_name() == "postgresql":
        name = {"application_name": _application_name()}
        return options, session_settings({**name, **POSTGRESQL_SESSION}, settings)
    if settings:
        raise ConfigurationError(
            f"session_settings can't be sent to {parsed.get_backend_name()}.",
            "leave them out, or set them in a 'connect' event of the engine.",
        )
    return options, {}


def prepare_engine(engine: Engine, settings: Mapping[str, str]) -> None:
    """Send the session settings at each connect, and check connections that were idle."""

    @event.listens_for(engine, "connect")
    def connected(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        if settings:
            _send_settings(dbapi_connection, settings)

    @event.listens_for(engine, "checkin")
    def checked_in(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_IDLE_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def checked_out(dbapi_connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        idle_since = record.info.get(_IDLE_SINCE)
        if idle_since is None or time.monotonic() - idle_since < CHECK_AFTER_IDLE:
            return
        try:
            with Limit(CHECK_TIMEOUT, engine.dialect, lambda: record.driver_connection) as limit:
                alive = engine.dialect.do_ping(dbapi_connection)
        except asyncio.CancelledError:
            limit.end_now()  # else the pool would close it in order, which takes two seconds
            raise
        except engine.dialect.loaded_dbapi.Error as error:
            # Its neighbours went the same way (a restart, a failover): replace them all.
            raise exc.InvalidatePoolError("the connection had died while idle") from error
        if not alive:
            raise exc.InvalidatePoolError("the connection had died while idle")


def _send_settings(dbapi_connection: Any, settings: Mapping[str, str]) -> None:
    # Not as startup parameters: PgBouncer refuses those that it doesn't know, and so does a
    # server that is older than a setting. One round trip for each new connection.
    values = ", ".join(f"({_quoted(name)}, {_quoted(value)})" for name, value in settings.items())
    cursor = dbapi_connection.cursor()
    cursor.execute(
        f"SELECT set_config(s.name, w.value, false) FROM (VALUES {values}) AS w(name, value) "
        "JOIN pg_catalog.pg_settings s ON s.name = w.name"
    )
    cursor.close()
    dbapi_connection.commit()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _in_memory(url: URL) -> bool:
    name = url.database or ""
    return name in ("", ":memory:") or url.query.get("mode") == "memory"


def _application_name() -> str:
    # PostgreSQL keeps 63 bytes.
    return f"{os.path.basename(sys.argv[0]) or 'python'}:{os.getpid()}"[:63]

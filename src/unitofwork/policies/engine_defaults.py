"""The engine settings that `from_url` chooses, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: One number to reason about: no overflow, which is closed again at each return. A waiter that
#: has waited 10 s would not be served in 11. Recently used connections first (LIFO), so that idle
#: ones age and are replaced. Half an hour is below what servers and firewalls let a connection
#: live; what died earlier is found by the liveness check.
POOL: Mapping[str, Any] = MappingProxyType(
    {
        "pool_size": 5,
        "max_overflow": 0,
        "pool_timeout": 10.0,
        "pool_recycle": 1800,
        "pool_use_lifo": True,
    }
)

#: Seconds that a connection may have been idle without being asked whether it still lives.
#: pgx asks after one second, HikariCP after half a second.
CHECK_AFTER_IDLE = 1.0

#: In milliseconds, in the order that timeouts need: a lock wait ends before the transaction that
#: waits is taken for idle, and that before the next one gives up waiting for the connection.
#: The check interval makes the server notice a vanished client in the middle of a query
#: (without it a cancelled client leaves the query running: FACTS, 30 orphans of 30).
POSTGRESQL_SESSION: Mapping[str, str] = MappingProxyType(
    {
        "lock_timeout": "4000",
        "idle_in_transaction_session_timeout": "8000",
        "client_connection_check_interval": "500",
    }
)


def session_settings(
    defaults: Mapping[str, str], asked: Mapping[str, str | int | None]
) -> dict[str, str]:
    """The defaults with what was asked for put over them; None takes a default away."""
    merged = {**defaults, **asked}
    return {name: str(value) for name, value in merged.items() if value is not None}

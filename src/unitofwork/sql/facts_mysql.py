"""Facts of a MySQL or MariaDB server, a Galera cluster's node included."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..policies.sizing import MySQLFacts, ServerFacts
from .facts_engine import version_of

_VARIABLES = (
    "max_connections",
    "max_user_connections",
    "wait_timeout",
    "interactive_timeout",
    "innodb_lock_wait_timeout",
    "innodb_rollback_on_timeout",
    "tx_isolation",
    "transaction_isolation",
    "tx_read_only",
    "transaction_read_only",
    "read_only",
    "wsrep_on",
)
_STATUS = ("Threads_connected", "wsrep_local_state_comment", "wsrep_ready")
#: Without the PROCESS privilege a user sees its own connections here, which are those to count.
_OWN = (
    "SELECT count(*) FROM information_schema.PROCESSLIST "
    "WHERE USER = SUBSTRING_INDEX(USER(), '@', 1)"
)


def mysql_facts(connection: Connection) -> ServerFacts:
    """Read them; leaves the transaction to be rolled back."""
    unreadable: list[str] = []
    variables = _pairs(connection, "VARIABLES", _VARIABLES, unreadable)
    status = _pairs(connection, "STATUS", _STATUS, unreadable)
    own = _own(connection, unreadable)
    connected = _integer(status.get("threads_connected"))
    is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
    in_cluster = _flag(variables.get("wsrep_on")) is True
    limit = _integer(variables.get("max_user_connections"))
    isolation = variables.get("transaction_isolation") or variables.get("tx_isolation")
    read_only = [
        _flag(variables.get(name))
        for name in ("read_only", "transaction_read_only", "tx_read_only")
    ]
    return ServerFacts(
        product="MariaDB" if is_mariadb else "MySQL",
        version=version_of(connection.dialect),
        max_connections=_integer(variables.get("max_connections")),
        reserved=0,  # one more than max_connections is let in, for administrators
        own=own,
        others=None if own is None or connected is None else max(0, connected - own),
        role_limit=limit or (None if limit is None else -1),
        role_others=0,  # all connections of this user are taken for this application's
        database_limit=-1,
        lock_timeout=_number(variables.get("innodb_lock_wait_timeout")),
        idle_timeout=_number(variables.get("wait_timeout")),
        isolation=None if isolation is None else isolation.replace("-", " "),
        read_only=None if read_only == [None] * 3 else any(read_only),
        mysql=MySQLFacts(
            rollback_on_timeout=_flag(variables.get("innodb_rollback_on_timeout")),
            galera_state=status.get("wsrep_local_state_comment") if in_cluster else None,
            galera_ready=_flag(status.get("wsrep_ready")) if in_cluster else None,
            interactive_timeout=_number(variables.get("interactive_timeout")),
        ),
        unreadable=tuple(unreadable),
    )


def _pairs(
    connection: Connection, kind: str, names: tuple[str, ...], unreadable: list[str]
) -> dict[str, str]:
    listed = ", ".join(f"'{name}'" for name in names)
    try:
        rows = connection.exec_driver_sql(f"SHOW {kind} WHERE Variable_name IN ({listed})").all()
    except DBAPIError:
        if connection.invalidated:
            raise
        unreadable.append(kind.lower())
        return {}
    return {str(name).lower(): str(value) for name, value in rows}


def _own(connection: Connection, unreadable: list[str]) -> int | None:
    try:
        found: Any = connection.exec_driver_sql(_OWN).scalar()
    except DBAPIError:
        if connection.invalidated:
            raise
        unreadable.append("others")
        return None
    return int(found)


def _integer(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None


def _number(value: str | None) -> float | None:
    return None if value is None else float(value)


def _flag(value: str | None) -> bool | None:
    return None if value is None else value.upper() in ("ON", "1")

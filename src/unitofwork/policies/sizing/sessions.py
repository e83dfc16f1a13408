"""Rules about sessions: the order of timeouts, vanished clients, isolation and read-only."""

from __future__ import annotations

import itertools

from .facts import Facts, ServerFacts
from .rule import Problem, rule

#: What each product gives where nothing is asked for.
USUAL_ISOLATION = {
    "PostgreSQL": "READ COMMITTED",
    "MySQL": "REPEATABLE READ",
    "MariaDB": "REPEATABLE READ",
}


@rule("warning")
def timeout_order(facts: Facts) -> Problem | None:
    """The innermost wait ends first, so that it is the one that the error names."""
    server = facts.server
    chain: list[tuple[str, float | None]] = [
        ("deadlock_timeout", server.deadlock_timeout if server else None),
        (_name(server, "lock_timeout", "innodb_lock_wait_timeout"), _lock(facts)),
        ("statement_timeout", server.statement_timeout if server else None),
        (
            "idle_in_transaction_session_timeout",
            server.idle_in_transaction_timeout if server else None,
        ),
        ("pool_timeout", facts.engine.pool_timeout),
        ("the request's timeout", facts.process.request_timeout),
    ]
    known = [(name, seconds) for name, seconds in chain if seconds]
    wrong = [
        f"{inner} {first:g} s is not below {outer} {second:g} s"
        for (inner, first), (outer, second) in itertools.pairwise(known)
        if first >= second
    ]
    ends = server.transaction_timeout if server else None
    if server is not None and ends:
        wrong += [
            f"{inner} {first:g} s is not below transaction_timeout {ends:g} s"
            for inner, first in known
            if inner in ("statement_timeout", "idle_in_transaction_session_timeout")
            and first >= ends
        ]
    if not wrong:
        return None
    return Problem(
        "; ".join(wrong) + ".",
        "set them so that each is below the next: deadlock < lock < statement < idle in "
        "transaction < pool < request, such as 1 < 4 < 6 < 8 < 10 < 30 s.",
    )


def _lock(facts: Facts) -> float | None:
    if facts.server is None:
        return None
    sqlite = facts.server.sqlite
    return sqlite.busy_timeout if sqlite else facts.server.lock_timeout


def _name(server: ServerFacts | None, postgresql: str, mysql: str) -> str:
    if server is not None and server.sqlite is not None:
        return "busy_timeout"
    return mysql if server is not None and server.mysql is not None else postgresql


@rule("warning")
def lock_timeout(facts: Facts) -> Problem | None:
    """Without a limit, who waits for a row keeps its connection as long as the other one likes."""
    server = facts.server
    if server is None or server.product != "PostgreSQL" or server.lock_timeout != 0:
        return None
    return Problem(
        "lock_timeout is 0: one forgotten lock can hold every connection of the pool, for ever.",
        "AsyncUnitOfWork.from_url(url) (sets 4 s), or ALTER ROLE app SET lock_timeout = '4s'.",
    )


@rule("warning")
def idle_in_transaction(facts: Facts) -> Problem | None:
    """Without a limit, a client that hangs in a transaction keeps its locks until it ends."""
    server = facts.server
    if server is None or server.idle_in_transaction_timeout != 0:
        return None
    return Problem(
        "idle_in_transaction_session_timeout is 0: a client that hangs in a transaction keeps its "
        "locks and its connection.",
        "AsyncUnitOfWork.from_url(url) (sets 8 s), or "
        "ALTER ROLE app SET idle_in_transaction_session_timeout = '8s'.",
    )


@rule("warning")
def client_check(facts: Facts) -> Problem | None:
    """Without it the server goes on with the query of a client that has gone, locks and all."""
    server = facts.server
    if server is None or server.client_check_interval != 0:
        return None
    return Problem(
        "client_connection_check_interval is 0: a query whose client was cancelled or has died "
        "runs on, beyond what the pool counts.",
        "AsyncUnitOfWork.from_url(url) (sets 500 ms), or "
        "ALTER ROLE app SET client_connection_check_interval = '500ms'.",
    )


@rule("info")
def keepalives(facts: Facts) -> Problem | None:
    """How long the session of a machine that has vanished counts against max_connections."""
    server = facts.server
    if server is None or not server.keepalives_idle:
        return None
    retries = (server.keepalives_count or 0) * (server.keepalives_interval or 0)
    seconds = server.keepalives_idle + retries
    if seconds <= 900:
        return None
    return Problem(
        f"tcp_keepalives: {server.keepalives_idle:g} s + {server.keepalives_count} x "
        f"{server.keepalives_interval:g} s = {seconds:g} s until the server notices that a machine "
        "has vanished; so long its idle sessions count.",
        "ALTER SYSTEM SET tcp_keepalives_idle = 60; tcp_keepalives_interval = 10; "
        "tcp_keepalives_count = 6.",
    )


@rule("warning")
def isolation(facts: Facts) -> Problem | None:
    """The isolation that units get is the one that was asked for."""
    server, asked = facts.server, facts.engine.isolation
    if asked == "AUTOCOMMIT":
        return Problem(
            "the engine is in AUTOCOMMIT: each statement is committed alone, and no unit can be "
            "rolled back.",
            'leave isolation_level="AUTOCOMMIT" out of create_engine; give it to the one '
            "connection that needs it.",
            severity="error",
        )
    if server is None:
        return None
    if server.in_recovery and (asked or server.isolation) == "SERIALIZABLE":
        return Problem(
            "SERIALIZABLE on a standby: the server refuses each transaction.",
            'create_engine(..., isolation_level="REPEATABLE READ") for the standby.',
            severity="error",
        )
    wanted = asked or USUAL_ISOLATION.get(server.product)
    if wanted is None or server.isolation is None or server.isolation == wanted:
        return None
    return Problem(
        f"the engine asks for {asked or 'nothing'}, its transactions are {server.isolation}.",
        f'create_engine(..., isolation_level="{server.isolation}") says what is meant, or '
        "ALTER ROLE app RESET default_transaction_isolation.",
    )


@rule("warning")
def read_only(facts: Facts) -> Problem | None:
    """A server that takes no writes, and an engine that was not made for reading only."""
    server = facts.server
    if server is None or facts.engine.read_only:
        return None
    if not server.in_recovery and not server.read_only:
        return None
    why = "in recovery (a standby)" if server.in_recovery else "read-only for this role"
    return Problem(
        f"the server is {why}: each write will fail.",
        "lead the engine to the primary; or, if it is only to read, "
        "create_engine(..., execution_options={'postgresql_readonly': True}).",
    )

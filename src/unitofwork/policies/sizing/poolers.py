"""Rules about a pooler in between: what its mode takes away, and its own limits."""

from __future__ import annotations

from .facts import Facts, PoolerFacts
from .rule import Problem, rule
from .sums import demand, server_rooms

#: The first PgBouncer that carries prepared statements over to another server connection.
PREPARED_SINCE = (1, 21)


def _shares_sessions(pooler: PoolerFacts | None) -> bool:
    return pooler is not None and pooler.mode in ("transaction", "statement")


@rule("error")
def pooler_prepared(facts: Facts) -> Problem | None:
    """Prepared statements stay on a server connection that is another client's next."""
    engine, pooler = facts.engine, facts.pooler
    if pooler is None or not _shares_sessions(pooler):
        return None
    if pooler.max_prepared_statements and pooler.version >= PREPARED_SINCE:
        return None
    needs_names = engine.driver == "asyncpg" and engine.unique_statement_names is False
    if not engine.prepared_statements and not needs_names:
        return None
    unknown = pooler.max_prepared_statements is None and pooler.version < PREPARED_SINCE[:1]
    remedies = {
        "asyncpg": 'connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0, '
        '"prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__"}',
        "psycopg": 'connect_args={"prepare_threshold": None}',
    }
    line = remedies.get(engine.driver, "switch the driver's prepared statements off")
    return Problem(
        f"{pooler.name} in {pooler.mode} mode, and {engine.driver} keeps prepared statements: they "
        "are missing, or exist already, on the next server connection"
        + (
            "; unless its max_prepared_statements is above 0, which could not be read."
            if unknown
            else "."
        ),
        f"create_engine(..., {line}), or max_prepared_statements = 200 in PgBouncer 1.21 or later.",
        severity="warning" if unknown else None,
    )


@rule("warning")
def pooler_session_settings(facts: Facts) -> Problem | None:
    """SET at connect reaches one server connection, which then serves others."""
    settings = facts.server.session_settings if facts.server is not None else frozenset()
    pooler = facts.pooler
    if pooler is None or not _shares_sessions(pooler) or not settings:
        return None
    names = ", ".join(sorted(settings))
    return Problem(
        f"{pooler.name} in {pooler.mode} mode, and the engine sets per session: {names}. They hold "
        "on one server connection, for whoever gets it next, and not on the others.",
        "ALTER ROLE app SET ... for each, and from_url(url, session_settings={name: None, ...}).",
    )


@rule("error")
def pooler_statement_mode(facts: Facts) -> Problem | None:
    """In statement mode there are no transactions, so no units."""
    if facts.pooler is None or facts.pooler.mode != "statement":
        return None
    return Problem(
        f"{facts.pooler.name} is in statement mode: each statement may run on another connection, "
        "so transactions, locks and pg_xact_status mean nothing.",
        "pool_mode = transaction in pgbouncer.ini.",
    )


@rule("info")
def pooler_sessions(facts: Facts) -> Problem | None:
    """What of a session is lost in transaction mode, and what is not."""
    if facts.pooler is None or facts.pooler.mode != "transaction":
        return None
    return Problem(
        f"{facts.pooler.name} in transaction mode: advisory locks of a session, LISTEN, temporary "
        "tables and WITH HOLD cursors don't last; advisory locks of a transaction do, and so does "
        "confirm_commit (pg_xact_status) as long as the pooler leads to one server.",
        "pg_advisory_xact_lock() instead of pg_advisory_lock().",
    )


@rule("error")
def pooler_size(facts: Facts) -> Problem | None:
    """The pooler's own connections must fit the server, and in session mode the fleet them."""
    pooler = facts.pooler
    if pooler is None:
        return None
    sizes = (pooler.default_pool_size, pooler.max_db_connections or None)
    size = min((one for one in sizes if one is not None), default=None)
    if not size:
        return None
    limit = min(server_rooms(facts), default=None, key=lambda one: one.value)
    if limit is not None and size > limit.value:
        return Problem(
            f"{pooler.name} may open {size} > {limit.text}.",
            f"default_pool_size = {max(1, limit.value)} in pgbouncer.ini.",
        )
    wanted = demand(facts)
    if pooler.mode == "session" and wanted is not None and wanted.value > size:
        return Problem(
            f"{pooler.name} in session mode lends a server connection for the whole life of a "
            f"client's: {wanted.text} > {size}.",
            f"pool_mode = transaction, or default_pool_size = {wanted.value} in pgbouncer.ini.",
        )
    return None


@rule("warning")
def pooler_wait(facts: Facts) -> Problem | None:
    """A wait inside of the pooler is one that holds a connection of the engine's pool."""
    wait = facts.pooler.query_wait_timeout if facts.pooler is not None else None
    limit = facts.engine.pool_timeout
    if facts.pooler is None or wait is None or not limit or 0 < wait <= limit:
        return None
    shown = "without limit" if wait == 0 else f"{wait:g} s"
    return Problem(
        f"query_wait_timeout {shown}, pool_timeout {limit:g} s: a unit may wait longer in "
        f"{facts.pooler.name} than anyone waits for its connection.",
        f"query_wait_timeout = {limit:g} in pgbouncer.ini.",
    )

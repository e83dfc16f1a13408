"""Rules about one pool: its class, its size against who uses it, the age of its connections."""

from __future__ import annotations

from .facts import Facts
from .rule import Problem, rule

#: Who has waited longer would not be served any more: the client has gone, or retries.
LONGEST_WAIT = 10.0


@rule("warning")
def null_pool(facts: Facts) -> Problem | None:
    """NullPool connects for each unit, without a limit; only a pooler makes up for both."""
    engine = facts.engine
    if engine.pool_class != "NullPool" or engine.is_sqlite or facts.pooler is not None:
        return None
    return Problem(
        "NullPool opens a connection for each unit and sets no limit: the load decides how many "
        "the server gets.",
        "leave poolclass out: create_engine(..., pool_size=5, max_overflow=0).",
    )


@rule("warning")
def static_pool(facts: Facts) -> Problem | None:
    """One connection for everybody, or one per thread: made for tests and SQLite in memory."""
    engine = facts.engine
    if engine.pool_class not in ("StaticPool", "AssertionPool", "SingletonThreadPool"):
        return None
    if facts.server is not None and facts.server.sqlite and facts.server.sqlite.in_memory:
        return None
    each = "each thread" if engine.pool_class == "SingletonThreadPool" else "the whole process"
    return Problem(
        f"{engine.pool_class} has one connection for {each}.",
        "leave poolclass out: create_engine(..., pool_size=5, max_overflow=0).",
    )


@rule("warning")
def overflow_churn(facts: Facts) -> Problem | None:
    """A connection beyond pool_size is closed at its return: under load they come and go."""
    engine = facts.engine
    overflow = engine.max_overflow or 0
    if overflow <= 0 or not engine.pool_size or engine.is_sqlite:
        return None
    total = engine.pool_size + overflow
    return Problem(
        f"max_overflow={overflow}: above {engine.pool_size} in use, connections are opened and "
        "closed again for each unit.",
        f"create_engine(..., pool_size={total}, max_overflow=0), or fewer where they don't fit.",
    )


@rule("warning")
def pool_below_threads(facts: Facts) -> Problem | None:
    """More threads than connections: the others wait, and keep their thread while they do."""
    capacity, threads = facts.engine.capacity, facts.process.threads
    if facts.engine.is_async or capacity is None or threads is None or threads <= capacity:
        return None
    return Problem(
        f"{threads} threads share {capacity} connections: {threads} - {capacity} = "
        f"{threads - capacity} of them can only wait.",
        f"anyio.to_thread.current_default_thread_limiter().total_tokens = {capacity} at startup "
        "(gunicorn: --threads), or a larger pool_size where it fits.",
    )


@rule("warning")
def pool_below_concurrency(facts: Facts) -> Problem | None:
    """More units at once than connections: the others wait."""
    capacity, units = facts.engine.capacity, facts.process.concurrency
    if capacity is None or units is None or units <= capacity:
        return None
    return Problem(
        f"{units} units at once share {capacity} connections: {units} - {capacity} = "
        f"{units - capacity} of them can only wait.",
        f"pool_size={units} where it fits, or let fewer run at once (uvicorn "
        f"--limit-concurrency {capacity}).",
    )


@rule("warning")
def nesting(facts: Facts) -> Problem | None:
    """Trees of units that hold several connections each need Tn x (Cm - 1) + 1 to go on."""
    capacity, each = facts.engine.capacity, facts.process.connections
    if capacity is None or each is None or each < 2:
        return None
    if each > capacity:
        return Problem(
            f"connections={each} > {capacity}, all that the pool has: such a unit can never begin.",
            f"create_engine(..., pool_size={each}, max_overflow=0) or larger.",
            severity="error",
        )
    known = (facts.process.concurrency, None if facts.engine.is_async else facts.process.threads)
    at_once = max((count for count in known if count is not None), default=None)
    if at_once is None:
        return None
    needed = at_once * (each - 1) + 1
    if needed <= capacity:
        return None
    return Problem(
        f"{at_once} units at once with connections={each}: {at_once} x ({each} - 1) + 1 = "
        f"{needed} > {capacity}. Only {capacity} // {each} = {capacity // each} run at once.",
        f"create_engine(..., pool_size={needed}, max_overflow=0), or units that join instead of "
        "propagation='requires_new'.",
    )


@rule("warning")
def pool_timeout(facts: Facts) -> Problem | None:
    """A wait for a connection that outlasts the client's patience only makes the queue longer."""
    wait = facts.engine.pool_timeout
    if wait is None or wait <= LONGEST_WAIT:
        return None
    return Problem(
        f"pool_timeout {wait:g} s > {LONGEST_WAIT:g} s: who has waited so long is no longer "
        "waited for.",
        "create_engine(..., pool_timeout=10).",
    )


@rule("warning")
def recycle(facts: Facts) -> Problem | None:
    """Connections must be replaced before the server, or something on the way, drops them."""
    age = facts.engine.pool_recycle
    server = facts.server.idle_timeout if facts.server is not None else None
    limits = [
        (seconds, name)
        for seconds, name in (
            (server, "the server's limit for an idle session"),
            (facts.process.idle_limit, "the idle limit on the way"),
        )
        if seconds
    ]
    if age is None or not limits:
        return None
    limit, name = min(limits)
    if 0 <= age < limit:
        return None
    shown = "never" if age < 0 else f"{age:g} s"
    return Problem(
        f"pool_recycle {shown} against {limit:g} s, {name}: the pool lends connections that are "
        "closed already.",
        f"create_engine(..., pool_recycle={max(1, int(limit * 0.9) - 1)}).",
    )


@rule("warning")
def liveness(facts: Facts) -> Problem | None:
    """Nobody looks whether an idle connection still lives: after a restart each first use fails."""
    engine = facts.engine
    if engine.pre_ping is not False or engine.checks_idle is not False:
        return None
    if engine.is_sqlite or engine.pool_class == "NullPool":
        return None
    return Problem(
        "connections are lent without a look whether they live: after a restart of the server "
        "each pooled one fails a unit.",
        "AsyncUnitOfWork.from_url(url) (asks those that were idle), or "
        "create_engine(..., pool_pre_ping=True).",
    )


@rule("warning")
def sync_in_loop(facts: Facts) -> Problem | None:
    """A sync unit stops the event loop, and every task of it, while it waits."""
    if facts.engine.is_async or not facts.process.in_event_loop:
        return None
    if facts.engine.is_sqlite:
        return None
    return Problem(
        "a sync engine is used in the thread of an event loop: each of its waits stops all tasks.",
        "AsyncUnitOfWork with an async driver, or anyio.to_thread.run_sync() around the sync work.",
    )

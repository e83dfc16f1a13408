"""Rules about versions and about what only one database has: SQLAlchemy, MySQL, SQLite."""

from __future__ import annotations

from .facts import Facts
from .rule import Problem, rule

#: Before these a cancelled query gives the next user of the pool a dead connection.
SAFE_2_0 = (2, 0, 56)
SAFE_2_1 = (2, 1, 7)


@rule("error")
def unreachable(facts: Facts) -> Problem | None:
    """The server did not answer, so nothing about it was judged."""
    if facts.unreachable is None:
        return None
    return Problem(
        f"{facts.engine.server} can't be asked: {facts.unreachable}",
        "look whether it runs and can be reached from here; lifespan(wait=30) waits for it.",
    )


@rule("error")
def access_denied(facts: Facts) -> Problem | None:
    """The server answers, but not to this user or for this database: waiting won't help."""
    if facts.denied is None:
        return None
    return Problem(
        f"{facts.engine.server} refuses: {facts.denied}",
        "check user, password and database of the URL, and GRANT CONNECT.",
    )


@rule("error")
def sqlalchemy_version(facts: Facts) -> Problem | None:
    """Before its fixes for cancellation, SQLAlchemy leaks connections and lends dead ones."""
    version = facts.sqlalchemy
    safe = SAFE_2_1 if version >= (2, 1) else SAFE_2_0
    if not version or version >= safe:
        return None
    shown = ".".join(map(str, version))
    wanted = ".".join(map(str, safe))
    return Problem(
        f"SQLAlchemy {shown} < {wanted}: a cancelled query leaves the pool a dead connection.",
        f"pip install 'sqlalchemy>={wanted}'.",
    )


@rule("info")
def echo(facts: Facts) -> Problem | None:
    """Each statement and its parameters go to the log."""
    if not facts.engine.echo:
        return None
    return Problem(
        "echo is on: each statement is logged, with its parameters.",
        "create_engine(..., echo=False), or hide_parameters=True.",
    )


@rule("error")
def galera(facts: Facts) -> Problem | None:
    """A node that is not in step with its cluster refuses statements."""
    mysql = facts.server.mysql if facts.server is not None else None
    if mysql is None or (
        mysql.galera_ready is not False and mysql.galera_state in (None, "Synced")
    ):
        return None
    ready = {True: "on", False: "off", None: "unknown"}[mysql.galera_ready]
    return Problem(
        f"this node of the Galera cluster is {mysql.galera_state!r}, wsrep_ready is {ready}.",
        "wait until it is Synced, or lead the engine to another node.",
    )


@rule("info")
def rollback_on_timeout(facts: Facts) -> Problem | None:
    """After a lock wait that timed out, MySQL keeps the transaction and its locks."""
    mysql = facts.server.mysql if facts.server is not None else None
    if mysql is None or mysql.rollback_on_timeout is not False:
        return None
    return Problem(
        "innodb_rollback_on_timeout is off: error 1205 undoes one statement, and code that goes on "
        "after it commits the rest. A unit rolls everything back.",
        "innodb_rollback_on_timeout = 1 in my.cnf, or catch no 1205 inside of units.",
    )


@rule("warning")
def sqlite_journal(facts: Facts) -> Problem | None:
    """Without WAL a writer keeps all readers out, and they it."""
    sqlite = facts.server.sqlite if facts.server is not None else None
    if sqlite is None or sqlite.in_memory or sqlite.journal_mode in (None, "wal"):
        return None
    return Problem(
        f"journal_mode is {sqlite.journal_mode}: readers and writers keep each other out.",
        "PRAGMA journal_mode=WAL, once: it stays with the file.",
    )


@rule("warning")
def sqlite_busy_timeout(facts: Facts) -> Problem | None:
    """With no busy timeout, who finds the database locked fails at once."""
    sqlite = facts.server.sqlite if facts.server is not None else None
    if sqlite is None or sqlite.in_memory or sqlite.busy_timeout != 0:
        return None
    return Problem(
        "busy_timeout is 0: a unit that finds the database locked fails at once.",
        'create_engine(..., connect_args={"timeout": 5}).',
    )

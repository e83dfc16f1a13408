"""What the server itself says about its sessions: the judge of whether a test left anything."""

from __future__ import annotations

import asyncio
import datetime
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.rows import class_row

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """A client's session; `blocked_by` are the pids that it waits for."""

    pid: int
    application_name: str
    database: str
    state: str | None
    query: str
    wait_event: str | None
    xact_start: datetime.datetime | None
    blocked_by: list[int]

    @property
    def in_transaction(self) -> bool:
        return self.xact_start is not None or (self.state or "").startswith("idle in transaction")


@dataclass(frozen=True)
class Lock:
    """A lock that a client's session holds.

    Row locks leave one of type `transactionid` (once a row was changed or locked) and one of type
    `relation`; the server has no list of the rows. `object` is the table or the advisory key.
    """

    pid: int
    application_name: str
    kind: str
    mode: str
    object: str


SESSIONS = """
    select pid, application_name, coalesce(datname, '') as database, state, query,
           wait_event_type || ':' || wait_event as wait_event, xact_start,
           pg_blocking_pids(pid) as blocked_by
    from pg_stat_activity
    where backend_type = 'client backend' and pid <> pg_backend_pid()
      and (%(name)s::text is null or application_name = %(name)s)
    order by pid
"""
# Every statement takes a virtualxid lock, and reading takes AccessShareLock; neither of the two
# keeps anybody else from a row.
LOCKS = """
    select l.pid, a.application_name, l.locktype as kind, l.mode,
           case l.locktype when 'relation' then l.relation::regclass::text
                           when 'advisory' then l.classid || ':' || l.objid
                           else l.transactionid::text end as object
    from pg_locks l join pg_stat_activity a using (pid)
    where l.granted and a.backend_type = 'client backend' and l.pid <> pg_backend_pid()
      and l.locktype <> 'virtualxid' and l.mode <> 'AccessShareLock'
      and (%(name)s::text is null or a.application_name = %(name)s)
    order by l.pid, l.locktype
"""


class ServerProbe:
    """A plain connection of its own, on which a test asks the server; a context manager.

    Args:
        dsn: where to connect, as for libpq.

    Every method leaves out the probe's own session; `application_name` narrows it to one.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def sessions(self, application_name: str | None = None) -> list[Session]:
        """The clients' sessions."""
        return self._rows(Session, SESSIONS, application_name)

    def in_transaction(self, application_name: str | None = None) -> list[Session]:
        """The sessions that are in a transaction, idle or at work."""
        return [one for one in self.sessions(application_name) if one.in_transaction]

    def blocked(self, application_name: str | None = None) -> list[Session]:
        """The sessions that wait for a lock of another session."""
        return [one for one in self.sessions(application_name) if one.blocked_by]

    def locks(self, application_name: str | None = None) -> list[Lock]:
        """The locks held that others could have to wait for."""
        return self._rows(Lock, LOCKS, application_name)

    def wait_until_quiet(self, timeout: float = 1.0, application_name: str | None = None) -> None:
        """Wait until no session is active, in a transaction, or holds a lock.

        Blocks the thread; `wait_until_quiet_async` lets the event loop go on meanwhile.

        Raises:
            AssertionError: it isn't so after `timeout` seconds; names what remains.
        """
        deadline = time.monotonic() + timeout
        while noise := self.noise(application_name):
            assert time.monotonic() < deadline, "the server is not quiet:\n" + "\n".join(noise)
            time.sleep(0.01)

    async def wait_until_quiet_async(
        self, within: float = 1.0, application_name: str | None = None
    ) -> None:
        """`wait_until_quiet` for a test with an event loop."""
        deadline = time.monotonic() + within
        while noise := self.noise(application_name):
            assert time.monotonic() < deadline, "the server is not quiet:\n" + "\n".join(noise)
            await asyncio.sleep(0.01)

    def noise(self, application_name: str | None = None) -> list[str]:
        """What keeps the server from being quiet, one line each."""
        active = [
            f"{one.application_name!r} (pid {one.pid}) is {one.state}: {one.query}"
            for one in self.sessions(application_name)
            if one.in_transaction or one.state == "active"
        ]
        locks = [
            f"{one.application_name!r} (pid {one.pid}) holds {one.mode} on {one.kind} {one.object}"
            for one in self.locks(application_name)
        ]
        return active + locks

    def terminate_all(self, application_name: str | None = None, timeout: float = 5.0) -> int:
        """End the sessions and wait until they are gone; how many there were."""
        found = self.sessions(application_name)
        deadline = time.monotonic() + timeout
        while left := self.sessions(application_name):
            assert time.monotonic() < deadline, f"still there after pg_terminate_backend: {left}"
            for session in left:
                self.execute("select pg_terminate_backend(%s)", (session.pid,))
            time.sleep(0.005)
        return len(found)

    def deadlocks(self) -> int:
        """How many deadlocks the server has resolved in this database.

        A session reports its counts when it has been idle for a while, and at its end: compare
        numbers only after `terminate_all` or with the engine disposed.
        """
        return int(
            self.execute(
                "select deadlocks from pg_stat_database where datname = current_database()"
            )[0][0]
        )

    def execute(self, sql: str, parameters: Any = None) -> list[Any]:
        """Run any statement, in its own transaction; its rows, if it has some."""
        cursor = self._connected().execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []

    def _rows(self, kind: type[T], sql: str, application_name: str | None) -> list[T]:
        with self._connected().cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(sql, {"name": application_name}).fetchall()

    def _connected(self) -> psycopg.Connection[Any]:
        """The connection, made anew where a test has restarted the server meanwhile."""
        if self._connection is not None:
            try:
                self._connection.execute("")
            except psycopg.OperationalError:
                self.close()
        if self._connection is None:
            self._connection = psycopg.connect(
                self.dsn, autocommit=True, application_name="probe", prepare_threshold=None
            )
        return self._connection

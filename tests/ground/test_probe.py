"""The probe sees what other sessions do, and only that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from tests.support.probe import ServerProbe

from unitofwork.testing.postgres import EmbeddedPostgres

NAME = "probed"


@pytest.fixture
def connection(
    postgres: EmbeddedPostgres, probe: ServerProbe
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    probe.execute("create table p (id int primary key); insert into p values (1), (2)")
    connection = psycopg.connect(postgres.url(None), application_name=NAME)
    yield connection
    connection.close()
    probe.terminate_all()
    probe.execute("drop table p")


Connection = psycopg.Connection[tuple[object, ...]]


def test_sessions(connection: Connection, probe: ServerProbe) -> None:
    """An idle session is there with its name, in no transaction; the probe's own is not."""
    (session,) = probe.sessions()
    assert (session.pid, session.application_name) == (connection.info.backend_pid, NAME)
    assert session.state == "idle"
    assert not session.in_transaction
    assert probe.sessions("another name") == []
    probe.wait_until_quiet()


def test_open_transaction_is_not_quiet(connection: Connection, probe: ServerProbe) -> None:
    """A transaction that only reads keeps the server from being quiet; so does a failed one."""
    connection.execute("select 1")
    assert [session.state for session in probe.in_transaction()] == ["idle in transaction"]
    with pytest.raises(AssertionError, match=r"'probed'.*idle in transaction: select 1"):
        probe.wait_until_quiet(0.05)
    probe.wait_until_quiet(0.05, "another name")
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("select 1/0")
    assert [session.state for session in probe.in_transaction()] == [
        "idle in transaction (aborted)"
    ]
    connection.rollback()
    probe.wait_until_quiet()


def test_locks(connection: Connection, probe: ServerProbe) -> None:
    """Row locks show as locks on the table, advisory locks with their key; reading shows none."""
    connection.execute("select * from p")
    assert probe.locks() == []
    connection.execute("select * from p where id = 1 for update")
    assert ("relation", "RowShareLock", "p") in [
        (lock.kind, lock.mode, lock.object) for lock in probe.locks()
    ]
    connection.rollback()
    connection.execute("select pg_advisory_lock(7)")
    connection.rollback()
    assert [(lock.kind, lock.object) for lock in probe.locks()] == [("advisory", "0:7")]
    with pytest.raises(AssertionError, match="holds ExclusiveLock on advisory 0:7"):
        probe.wait_until_quiet(0.05)
    connection.execute("select pg_advisory_unlock(7)")


def test_who_waits_for_whom(
    connection: Connection, probe: ServerProbe, postgres: EmbeddedPostgres
) -> None:
    """A session that waits for a row is named together with the one that holds it."""
    connection.execute("select * from p where id = 1 for update")
    with psycopg.connect(postgres.url(None), application_name="waiter") as waiter:
        thread = threading.Thread(
            target=waiter.execute, args=("select * from p where id = 1 for update",)
        )
        thread.start()
        deadline = time.monotonic() + 10
        while not probe.blocked() and time.monotonic() < deadline:
            time.sleep(0.01)
        (session,) = probe.blocked()
        assert session.application_name == "waiter"
        assert session.blocked_by == [connection.info.backend_pid]
        assert session.wait_event == "Lock:transactionid"
        connection.rollback()
        thread.join()


async def test_wait_async(connection: Connection, probe: ServerProbe) -> None:
    """The waiting that leaves the event loop free has the same outcome."""
    connection.execute("select 1")
    with pytest.raises(AssertionError, match="idle in transaction"):
        await probe.wait_until_quiet_async(0.05)
    connection.rollback()
    await probe.wait_until_quiet_async()


def test_terminate_all(connection: Connection, probe: ServerProbe) -> None:
    """Every session but the probe's ends, those in a transaction too."""
    connection.execute("select * from p for update")
    assert probe.terminate_all("another name") == 0
    assert probe.terminate_all() == 1
    assert probe.sessions() == []
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")


def test_deadlocks_are_counted(
    connection: Connection, probe: ServerProbe, postgres: EmbeddedPostgres
) -> None:
    """A deadlock that the server has resolved is counted once, after its sessions have ended."""
    before = probe.deadlocks()
    failures = []
    with psycopg.connect(postgres.url(None)) as other:
        connection.execute("select * from p where id = 1 for update")
        other.execute("select * from p where id = 2 for update")

        def cross(one: Connection, row: int) -> None:
            try:
                one.execute("select * from p where id = %s for update", (row,))
            except psycopg.errors.DeadlockDetected as error:
                failures.append(error)
                one.rollback()

        thread = threading.Thread(target=cross, args=(other, 1))
        thread.start()
        cross(connection, 2)
        thread.join()
    assert len(failures) == 1
    probe.terminate_all()
    deadline = time.monotonic() + 10
    while probe.deadlocks() == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert probe.deadlocks() == before + 1


def test_restart_of_the_server() -> None:
    """The probe connects again after a restart, and after a crash."""
    with EmbeddedPostgres() as server, ServerProbe(server.url(None)) as probe:
        assert probe.sessions() == []
        server.restart()
        assert probe.sessions() == []
        server.kill()
        server.start()
        assert probe.sessions() == []

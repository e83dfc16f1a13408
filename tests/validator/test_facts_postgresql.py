"""What the validator learns from PostgreSQL 16 and 18, as a role without privileges."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from tests.validator.rig import Cluster

from unitofwork import UnitOfWork
from unitofwork.policies.sizing import ServerFacts
from unitofwork.sql.facts_postgresql import postgresql_facts
from unitofwork.testing.postgres import EmbeddedPostgres


@pytest.fixture(params=["cluster16", "cluster18"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """PostgreSQL 16 and 18, with settings of their own."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def role(cluster: Cluster) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    with cluster.account() as name:
        yield name


def url(cluster: Cluster, role: str) -> str:
    return cluster.server.url("psycopg", cluster.database, role)


def facts(where: str, **options: Any) -> ServerFacts:
    """The facts through a plain engine."""
    engine = create_engine(where, poolclass=NullPool, **options)
    with engine.connect() as connection:
        return postgresql_facts(connection)


def test_limits(cluster: Cluster, role: str) -> None:
    """What there is, what is reserved for others, and that nobody limits role and database."""
    found = facts(url(cluster, role))
    is_16 = found.version[0] == 16
    assert found.product == "PostgreSQL"
    assert (found.max_connections, found.reserved) == ((40, 10) if is_16 else (30, 3))
    assert (found.role_limit, found.database_limit) == (-1, -1)
    assert found.unreadable == ()


def test_limits_of_role_and_database(cluster: Cluster, role: str) -> None:
    """Those of this role and this database, not of others."""
    cluster.run(
        f"alter role {role} connection limit 7",
        f"alter database {cluster.database} connection limit 9",
    )
    found = facts(url(cluster, role))
    assert (found.role_limit, found.database_limit) == (7, 9)


def test_a_superuser_is_bound_by_nothing_but_the_maximum(cluster: Cluster) -> None:
    """What is reserved is reserved for it."""
    cluster.run(f"alter database {cluster.database} connection limit 9")
    try:
        found = facts(cluster.server.url("psycopg", cluster.database))
    finally:
        cluster.run(f"alter database {cluster.database} connection limit -1")
    assert (found.reserved, found.role_limit, found.database_limit) == (0, -1, -1)


def test_reserved_connections_may_be_granted(cluster16: Cluster) -> None:
    """Then only those for superusers are out of reach."""
    with cluster16.account(("grant pg_use_reserved_connections to {0}",)) as role:
        assert facts(url(cluster16, role)).reserved == 5


def test_who_is_connected(cluster: Cluster, role: str) -> None:
    """Own are those of the same role and application, whatever their process ids."""
    named = f"{url(cluster, role)}?application_name=service:99"
    before = facts(named)
    assert (before.own, before.role_others, before.database_others) == (1, 0, 0)
    with cluster.idle(3, role), cluster.idle(2, "postgres"):  # all of them "service:1"
        mine, other = facts(named), facts(f"{url(cluster, role)}?application_name=report:1")
        unnamed = facts(url(cluster, role))
    assert before.others is not None
    assert (mine.own, mine.others) == (4, before.others + 2)
    assert (mine.role_others, mine.database_others) == (0, 2)
    assert (other.own, other.others) == (1, before.others + 5)
    assert (other.role_others, other.database_others) == (3, 5)
    # A name that says nothing leaves the role to stand for the application.
    assert (unnamed.own, unnamed.role_others) == (4, 0)


def test_timeouts_in_seconds(cluster: Cluster, role: str) -> None:
    """In whatever unit the server keeps them; 0 is no limit."""
    cluster.run(
        f"alter role {role} set lock_timeout = '1500ms'",
        f"alter role {role} set statement_timeout = '6s'",
        f"alter role {role} set idle_in_transaction_session_timeout = '2min'",
        f"alter role {role} set idle_session_timeout = '1h'",
        f"alter role {role} set tcp_keepalives_idle = 60",
    )
    found = facts(url(cluster, role))
    assert (found.lock_timeout, found.statement_timeout) == (1.5, 6.0)
    assert (found.idle_in_transaction_timeout, found.idle_timeout) == (120.0, 3600.0)
    assert (found.deadlock_timeout, found.client_check_interval) == (1.0, 0.0)
    assert (found.keepalives_idle, found.keepalives_count) == (60.0, 9)
    # PostgreSQL 17 has brought it.
    assert found.transaction_timeout == (None if found.version[0] == 16 else 0.0)


def test_isolation_and_read_only(cluster: Cluster, role: str) -> None:
    """What the engine's transactions are, by the role's defaults or by what was asked for."""
    plain = facts(url(cluster, role))
    assert (plain.isolation, plain.read_only) == ("READ COMMITTED", False)
    assert plain.in_recovery is False
    cluster.run(
        f"alter role {role} set default_transaction_isolation = 'serializable'",
        f"alter role {role} set default_transaction_read_only = on",
    )
    set_ = facts(url(cluster, role))
    assert (set_.isolation, set_.read_only) == ("SERIALIZABLE", True)
    asked = facts(url(cluster, role), isolation_level="REPEATABLE READ")
    assert asked.isolation == "REPEATABLE READ"


def test_settings_of_the_session(cluster: Cluster, role: str) -> None:
    """Those that the engine sends at each connect; not those of the role, nor the driver's own."""
    cluster.run(f"alter role {role} set statement_timeout = '6s'")
    assert facts(url(cluster, role)).session_settings == frozenset()
    options = f"{url(cluster, role)}?options=-c%20work_mem%3D1MB"
    assert facts(options).session_settings == {"work_mem"}
    uow = UnitOfWork.from_url(url(cluster, role))
    with uow.engine.connect() as connection:
        assert postgresql_facts(connection).session_settings == {
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "client_connection_check_interval",
        }
    uow.engine.dispose()


@pytest.mark.parametrize("isolation", [None, "AUTOCOMMIT", "SERIALIZABLE"])
def test_nothing_is_left_behind(cluster: Cluster, role: str, isolation: str | None) -> None:
    """The limit of our own is gone with the transaction, whichever it is."""
    chosen = {} if isolation is None else {"isolation_level": isolation}
    engine = create_engine(url(cluster, role), **chosen)
    with engine.connect() as connection:
        assert postgresql_facts(connection).statement_timeout == 0
        connection.rollback()
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
    engine.dispose()


def test_what_may_not_be_read_is_unknown(cluster: Cluster, role: str) -> None:
    """Not assumed; and the other facts are there all the same."""
    views = ("pg_stat_activity", "pg_roles")
    administrator = create_engine(
        cluster.server.url("psycopg", cluster.database),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )
    with administrator.connect() as connection:
        for view in views:
            connection.execute(text(f"revoke select on pg_catalog.{view} from public"))
        try:
            found = facts(url(cluster, role))
        finally:
            for view in views:
                connection.execute(text(f"grant select on pg_catalog.{view} to public"))
    assert set(found.unreadable) == {"session", "role_limit", "others"}
    assert (found.others, found.own, found.role_limit) == (None, None, None)
    assert found.reserved is None
    assert (found.database_limit, found.lock_timeout) == (-1, 0.0)
    assert found.max_connections in (30, 40)


def test_the_time_of_a_transaction_as_measured(cluster: Cluster, role: str) -> None:
    """By the server, over all of the database, once there were enough of them."""
    cluster.run(f"create database measured owner {role}")
    try:
        where = cluster.server.url("psycopg", "measured", role)
        engine = create_engine(where)
        with engine.connect() as connection:
            assert postgresql_facts(connection).transaction_time is None
            for _ in range(120):
                connection.execute(text("SELECT pg_sleep(0.005)"))
                connection.rollback()
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
            connection.rollback()
            measured = postgresql_facts(connection).transaction_time
        engine.dispose()
    finally:
        cluster.run("drop database measured with (force)")
    assert measured is not None
    assert 0.004 < measured < 0.1


def test_a_standby() -> None:
    """It is in recovery and read-only, until it is promoted."""
    with EmbeddedPostgres(18) as server:
        assert server.data_dir is not None
        (server.data_dir / "standby.signal").touch()
        # It counts as started when it has been promoted.
        starting = threading.Thread(target=server.restart)
        starting.start()
        standby = answer(server.url("psycopg"))
        with psycopg.connect(server.url(None), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
        starting.join()
        primary = facts(server.url("psycopg"))
    assert (standby.in_recovery, standby.read_only) == (True, True)
    assert (primary.in_recovery, primary.read_only) == (False, False)


def answer(where: str) -> ServerFacts:
    """The facts, as soon as the server lets anybody in."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return facts(where)
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)

"""What the validator recommends, taken literally: the whole fleet gets all its connections."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, exc
from tests.support.mariadb import MariaDB
from tests.support.pgbouncer import PgBouncer
from tests.validator.rig import Cluster, mariadb_account

from unitofwork import UnitOfWork
from unitofwork.types import Finding, Fleet

FLEET: Fleet = {"workers": 2, "replicas": 2}
#: Both generations of a deployment.
PROCESSES = 2 * 2 * 2
#: PostgreSQL, PgBouncer, MariaDB.
TOO_MANY = "too many|remaining connection slots|no more connections allowed|has exceeded"


def recommendation(url: str, fleet: Fleet) -> Finding:
    """What is said to somebody with a pool that is far too large."""
    uow = UnitOfWork.from_url(url, pool_size=100)
    try:
        found = {finding.code: finding for finding in uow.validate(**fleet)}
    finally:
        uow.engine.dispose()
    assert found["fleet-too-large"].severity == "error"
    return found["recommendation"]


def as_told(url: str) -> Callable[[str], Engine]:
    """Makes an engine from a line of code, with the URL where it has dots."""

    def engine(line: str) -> Engine:
        made: Any = eval(line.rstrip("."), {"create_engine": lambda *_, **told: told})
        assert set(made) == {"pool_size", "max_overflow"}
        return create_engine(url, pool_timeout=0.01, **made)

    return engine


def open_fleet(make: Callable[[], Engine]) -> int:
    """Have each process take all connections that its pool gives; how many those are."""
    count = 0
    with contextlib.ExitStack() as stack:
        for _ in range(PROCESSES):
            engine = make()
            stack.callback(engine.dispose)
            while True:
                try:
                    connection = stack.enter_context(engine.connect())
                except exc.TimeoutError:  # the pool has no more, and the server refused none
                    break
                connection.exec_driver_sql("select 1").scalar_one()
                count += 1
    return count


def check_fleet(url: str, fleet: Fleet = FLEET) -> None:
    """The fleet as recommended is served; with one more for each process it is not."""
    told = recommendation(url, fleet)
    assert told.pool_size is not None
    engine = as_told(url)
    assert open_fleet(lambda: engine(told.remedy)) == PROCESSES * told.pool_size
    more = re.sub(r"pool_size=\d+", f"pool_size={told.pool_size + 1}", told.remedy)
    with pytest.raises(exc.OperationalError, match=TOO_MANY):
        open_fleet(lambda: engine(more))


def test_on_18_beside_others(cluster18: Cluster) -> None:
    """26 - 9 of others: 2 for each of 8 processes."""
    with cluster18.account() as role, cluster18.idle(9, "postgres"):
        check_fleet(cluster18.server.url("psycopg", cluster18.database, role))


def test_on_16_with_reserved_connections(cluster16: Cluster) -> None:
    """29 that are not reserved: 3 for each of 8 processes."""
    with cluster16.account() as role:
        check_fleet(cluster16.server.url("psycopg", cluster16.database, role))


@pytest.mark.parametrize("limited", ["role {0}", "database service"])
def test_within_a_limit(cluster18: Cluster, limited: str) -> None:
    """The limit of the role, or of the database, is 17: 2 for each of 8 processes."""
    with cluster18.account((f"alter {limited} connection limit 17",)) as role:
        check_fleet(cluster18.server.url("psycopg", cluster18.database, role))


def test_through_pgbouncer(cluster18: Cluster) -> None:
    """15 clients that PgBouncer takes: 1 for each of 8 processes."""
    settings = {"pool_mode": "session", "max_client_conn": 15, "stats_users": "app"}
    with cluster18.account():
        cluster18.run("create role app login")
        with PgBouncer(cluster18.server.port, settings, users={"app": ""}) as pooler:
            check_fleet(pooler.url("psycopg", cluster18.database, "app"))


def test_on_mariadb(mariadb: MariaDB) -> None:
    """18 connections of this user: 2 for each of 8 processes."""
    with mariadb_account(mariadb, {}, "with max_user_connections 18") as url:
        check_fleet(url)


def test_wanted_throughput(cluster18: Cluster) -> None:
    """Little's law: 100 units/s of 20 ms are 2 at once, half a unit for each of 4 processes."""
    with cluster18.account() as role:
        url = cluster18.server.url("psycopg", cluster18.database, role)
        wanted: Fleet = {**FLEET, "throughput": 100, "transaction_time": 0.020}
        told = recommendation(url, wanted)
        assert told.pool_size == 2
        assert "100 units/s x 0.02 s / (2 workers x 2 replicas) = 0.5 busy" in told.message
        engine = as_told(url)
        assert open_fleet(lambda: engine(told.remedy)) == PROCESSES * 2

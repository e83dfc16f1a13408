"""What the validator learns from MariaDB, as a user without privileges."""

from __future__ import annotations

import contextlib

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from tests.support.mariadb import MariaDB
from tests.validator.rig import mariadb_account

from unitofwork.policies.sizing import ServerFacts
from unitofwork.sql.facts_mysql import mysql_facts


def facts(url: str) -> ServerFacts:
    """Through a plain engine."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return mysql_facts(connection)


def test_limits_and_timeouts(mariadb: MariaDB) -> None:
    """Those of the server, and that of the user."""
    settings = {"wait_timeout": 600, "innodb_lock_wait_timeout": 7}
    with mariadb_account(mariadb, settings, "with max_user_connections 9") as url:
        found = facts(url)
    assert found.product == "MariaDB"
    assert (found.max_connections, found.reserved, found.role_limit) == (50, 0, 9)
    assert (found.lock_timeout, found.idle_timeout) == (7.0, 600.0)
    assert (found.isolation, found.read_only) == ("REPEATABLE READ", False)
    assert found.mysql is not None
    assert found.mysql.rollback_on_timeout is False
    assert (found.mysql.galera_state, found.mysql.galera_ready) == (None, None)
    assert found.unreadable == ()


def test_who_is_connected(mariadb: MariaDB) -> None:
    """All of this user are own; of the others only the number can be seen."""
    with mariadb_account(mariadb, {}) as url, contextlib.ExitStack() as stack:
        before = facts(url)
        for where, count in ((url, 3), (mariadb.url(), 2)):
            engine = create_engine(where, poolclass=NullPool)
            for _ in range(count):
                stack.enter_context(engine.connect())
        found = facts(url)
    assert (before.own, found.own) == (1, 4)
    assert before.others is not None
    assert found.others == before.others + 2


def test_read_only(mariadb: MariaDB) -> None:
    """A replica, or a server that was set so."""
    with mariadb_account(mariadb, {"read_only": 1}) as url:
        assert facts(url).read_only is True

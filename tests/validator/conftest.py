"""Servers with little room, each with the settings that a configuration wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.mariadb import MariaDB
from tests.validator.rig import Cluster

from unitofwork.testing.postgres import EmbeddedPostgres

#: 3 of them are kept for superusers: 27 for the others.
SETTINGS_18 = {"max_connections": 30}
#: 5 are kept for superusers, 5 more for whom that is granted: 30 for the others.
SETTINGS_16 = {
    "max_connections": 40,
    "superuser_reserved_connections": 5,
    "reserved_connections": 5,
}
#: The limit of a user can be changed later only if there was one at the start.
MARIADB = {"max_connections": 50, "max_user_connections": 50, "innodb_lock_wait_timeout": 4}


@pytest.fixture(scope="package")
def cluster18() -> Iterator[Cluster]:
    """PostgreSQL 18."""
    with EmbeddedPostgres(18, SETTINGS_18) as server, Cluster(server) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def cluster16() -> Iterator[Cluster]:
    """PostgreSQL 16."""
    with EmbeddedPostgres(16, SETTINGS_16) as server, Cluster(server) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def mariadb() -> Iterator[MariaDB]:
    """MariaDB 10.11."""
    with MariaDB(MARIADB) as server:
        yield server

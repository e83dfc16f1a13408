"""The fixtures that need a server; `conftest.py` imports them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from unitofwork.testing.postgres import EmbeddedPostgres

from .hygiene import Hygiene
from .probe import ServerProbe
from .proxy import Proxy

__all__ = ["hygiene", "postgres", "postgres16", "probe", "proxy"]

#: The server's major version, for a run on another one.
VERSION = int(os.environ.get("UNITOFWORK_POSTGRES", "18"))
SETTINGS: dict[str, str | int] = {
    "deadlock_timeout": "200ms",
    "max_connections": 100,
    # The server doesn't look whether a client is still there: what we leave behind, stays.
    "client_connection_check_interval": 0,
}


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """PostgreSQL 18, or as `UNITOFWORK_POSTGRES` says; one for the whole run."""
    with EmbeddedPostgres(VERSION, SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def postgres16() -> Iterator[EmbeddedPostgres]:
    """PostgreSQL 16, one for the whole run, started by the first test that asks for it."""
    with EmbeddedPostgres(16, SETTINGS) as server:
        yield server


@pytest.fixture
def probe(postgres: EmbeddedPostgres) -> Iterator[ServerProbe]:
    """Asks `postgres` about its sessions and locks."""
    with ServerProbe(postgres.url(None)) as probe:
        yield probe


@pytest.fixture
def proxy(postgres: EmbeddedPostgres) -> Iterator[Proxy]:
    """A proxy before `postgres`: `postgres.url(port=proxy.port)` leads through it."""
    with Proxy(postgres.host, postgres.port) as proxy:
        yield proxy


@pytest.fixture
def hygiene(request: pytest.FixtureRequest) -> Iterator[Hygiene]:
    """Watches the engines that a test hands to `watch`; checks them when the test is over.

    A test with an event loop should await `check_async` itself before its loop ends.
    """
    uses_server = "postgres" in request.fixturenames
    probe = request.getfixturevalue("probe") if uses_server else None
    with Hygiene(probe) as hygiene:
        yield hygiene
        hygiene.check()

"""A server of its own: its deadlock_timeout leaves the tripwire the first word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.fixtures import VERSION

from unitofwork.core import attempts
from unitofwork.policies.retrying import RetryBudget
from unitofwork.testing.postgres import EmbeddedPostgres

from .model import create_tables


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has one for all its tests, and one test must not starve the next."""
    monkeypatch.setattr(attempts, "BUDGET", RetryBudget())


@pytest.fixture(scope="session")
def stress_server() -> Iterator[EmbeddedPostgres]:
    settings: dict[str, str | int] = {
        "deadlock_timeout": "1s",
        "max_connections": 50,
        "log_lock_waits": "on",
    }
    with EmbeddedPostgres(VERSION, settings) as server:
        create_tables(server.url("psycopg"))
        yield server

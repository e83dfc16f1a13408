"""`face`: the PostgreSQL driver that a retry test runs on; `any_face` has SQLite too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.contract import conftest as contract
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork import set_testing
from unitofwork.core import attempts
from unitofwork.policies.retrying import RetryBudget
from unitofwork.testing.postgres import EmbeddedPostgres

from .world import RESET, RetryFace, create_tables


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> RetryBudget:
    """The process has one for all its tests, and one test must not starve the next."""
    fresh = RetryBudget()
    monkeypatch.setattr(attempts, "BUDGET", fresh)
    return fresh


@pytest.fixture(autouse=True)
def real_waits() -> Iterator[None]:
    """Whatever a test has set, the next one waits for real."""
    yield
    set_testing(False)


@pytest.fixture(scope="session")
def bank_tables(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    create_tables(postgres.url("psycopg"))
    return postgres


def face_fixture(names: list[str]) -> Any:
    @pytest.fixture(params=names)
    async def face(
        request: pytest.FixtureRequest,
        hygiene: Hygiene,
        bank_tables: EmbeddedPostgres,
        probe: ServerProbe,
    ) -> AsyncIterator[RetryFace]:
        driver = RetryFace.ALL[request.param][0]
        for statement in RESET.split(";"):
            probe.execute(statement)
        hygiene.probe = probe
        face = RetryFace(request.param, bank_tables.url(driver), hygiene, probe=probe)
        async for one in contract.checked(face, hygiene):
            assert isinstance(one, RetryFace)
            yield one

    return face


face = face_fixture(["asyncpg", "psycopg", "psycopg-sync"])
async_face = face_fixture(["asyncpg", "psycopg"])
sqlite_face = contract.face_fixture(["aiosqlite", "pysqlite"])

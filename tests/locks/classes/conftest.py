"""`stage`: the driver that a class of deadlocks is played with, and its tables as they begin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.locks.steering import Stage
from tests.pool.pool_face import LONG, PoolFace
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork.core import attempts
from unitofwork.policies.retrying import RetryBudget
from unitofwork.testing.postgres import EmbeddedPostgres

from .model import RESET, create_tables

#: Both faces; `UNITOFWORK_LONG=1` takes every driver.
DRIVERS = ["asyncpg", "psycopg-sync", *(["psycopg"] if LONG else [])]


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has one for all its tests, and one test must not starve the next."""
    monkeypatch.setattr(attempts, "BUDGET", RetryBudget())


@pytest.fixture(scope="session")
def class_tables(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    create_tables(postgres.url("psycopg"))
    return postgres


@pytest.fixture(scope="session")
def class_tables16(postgres16: EmbeddedPostgres) -> EmbeddedPostgres:
    create_tables(postgres16.url("psycopg"))
    return postgres16


async def staged(
    name: str, server: EmbeddedPostgres, hygiene: Hygiene, probe: ServerProbe
) -> AsyncIterator[Stage]:
    # A test that failed may have left transactions open.
    probe.terminate_all()
    probe.execute(RESET)
    hygiene.probe = probe
    face = PoolFace(name, server.url(PoolFace.ALL[name][0]), hygiene, probe=probe)
    yield Stage(face)
    try:
        await hygiene.check_async()
    finally:
        await face.close()
        hygiene.probe = None


@pytest.fixture(params=DRIVERS)
async def stage(
    request: pytest.FixtureRequest,
    hygiene: Hygiene,
    class_tables: EmbeddedPostgres,
    probe: ServerProbe,
) -> AsyncIterator[Stage]:
    async for one in staged(request.param, class_tables, hygiene, probe):
        yield one


@pytest.fixture
async def stage16(hygiene: Hygiene, class_tables16: EmbeddedPostgres) -> Any:
    """On PostgreSQL 16."""
    with ServerProbe(class_tables16.url(None)) as probe:
        async for one in staged("asyncpg", class_tables16, hygiene, probe):
            yield one

"""`stage`: the driver that a class of deadlocks is played with, and its tables as they begin."""

from __future__ import annotations

from collections.abc import AsyncIterator

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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module with ALSO_ON_16 is played on PostgreSQL 16, too."""
    if "stage" in metafunc.fixturenames:
        names = DRIVERS + ["asyncpg on 16"] * getattr(metafunc.module, "ALSO_ON_16", False)
        metafunc.parametrize("stage", names, indirect=True)


@pytest.fixture(scope="session")
def class_tables(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    create_tables(postgres.url("psycopg"))
    return postgres


@pytest.fixture(scope="session")
def class_tables16(postgres16: EmbeddedPostgres) -> EmbeddedPostgres:
    create_tables(postgres16.url("psycopg"))
    return postgres16


@pytest.fixture
async def stage(request: pytest.FixtureRequest, hygiene: Hygiene) -> AsyncIterator[Stage]:
    name, _, on_16 = request.param.partition(" on ")
    server = request.getfixturevalue("class_tables16" if on_16 else "class_tables")
    with ServerProbe(server.url(None)) as probe:
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

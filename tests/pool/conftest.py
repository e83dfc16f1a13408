"""`face`: the PostgreSQL driver that a pool test runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork.testing.postgres import EmbeddedPostgres

from .model import ROWS, create_tables
from .pool_face import DRIVERS, PoolFace


def face_fixture(names: list[str]) -> Any:
    @pytest.fixture(params=names)
    async def face(
        request: pytest.FixtureRequest,
        hygiene: Hygiene,
        postgres: EmbeddedPostgres,
        probe: ServerProbe,
    ) -> AsyncIterator[PoolFace]:
        driver = PoolFace.ALL[request.param][0]
        face = PoolFace(request.param, postgres.url(driver), hygiene, probe=probe)
        hygiene.probe = probe
        yield face
        try:
            # Before the engines are disposed, and while the loop of their connections runs.
            await hygiene.check_async()
        finally:
            await face.close()
            hygiene.probe = None

    return face


#: Every PostgreSQL driver and both faces, one after the other.
face = face_fixture(list(DRIVERS))
async_face = face_fixture([name for name in DRIVERS if PoolFace.ALL[name][1]])
sync_face = face_fixture([name for name in DRIVERS if not PoolFace.ALL[name][1]])


@pytest.fixture(scope="session")
def tables(postgres: EmbeddedPostgres) -> None:
    create_tables(postgres.url("psycopg"))


@pytest.fixture
def rows(tables: None, probe: ServerProbe) -> None:
    """The tables of `model`, with the rows that are listed there."""
    for statement in ROWS.split(";"):
        if statement.strip():
            probe.execute(statement)


@pytest.fixture
def bank(face: PoolFace, rows: None) -> Any:
    """A unit of work over a pool of two, and the rows."""
    return face.make(pool_size=2)

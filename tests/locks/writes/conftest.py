"""`face`: the PostgreSQL driver that a test of writes runs on; `holder`: another transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event
from tests.pool.pool_face import DRIVERS, LONG, PoolFace
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork.core import attempts
from unitofwork.policies.retrying import RetryBudget
from unitofwork.testing.postgres import EmbeddedPostgres

from .model import RESET, create_tables


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has one for all its tests, and one test must not starve the next."""
    monkeypatch.setattr(attempts, "BUDGET", RetryBudget())


@pytest.fixture(scope="session")
def write_tables(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    create_tables(postgres.url("psycopg"))
    return postgres


def face_fixture(*names: str) -> Any:
    """A driver and face after the other; all of them with `UNITOFWORK_LONG=1`."""

    @pytest.fixture(params=DRIVERS if LONG else names)
    async def face(
        request: pytest.FixtureRequest,
        hygiene: Hygiene,
        write_tables: EmbeddedPostgres,
        probe: ServerProbe,
    ) -> AsyncIterator[PoolFace]:
        probe.execute(RESET)
        hygiene.probe = probe
        driver = PoolFace.ALL[request.param][0]
        face = PoolFace(request.param, write_tables.url(driver), hygiene, probe=probe)
        yield face
        try:
            await hygiene.check_async()
        finally:
            await face.close()
            hygiene.probe = None

    return face


face = face_fixture("asyncpg")


@pytest.fixture
def holder(write_tables: EmbeddedPostgres) -> Iterator[Connection]:
    """A transaction that the library knows nothing of; it is rolled back at the end."""
    engine = create_engine(write_tables.url("psycopg"))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.fixture
def sent(face: PoolFace) -> Iterator[list[str]]:
    """What the face's unit of work sends, as it is sent."""
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, _p: Any, context: Any, _many: bool) -> None:
        statements.append(statement)

    engine = getattr(face.uow.engine, "sync_engine", face.uow.engine)
    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)

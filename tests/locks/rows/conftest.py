"""`face`: the PostgreSQL driver that a test of locks runs on; `holder`: another transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event
from tests.contract.face import Face
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork.testing.postgres import EmbeddedPostgres

from .model import Base, create_tables


@pytest.fixture(scope="session")
def lock_tables(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The server, with the tables."""
    create_tables(postgres.url("psycopg"))
    return postgres


@pytest.fixture(params=["asyncpg", "psycopg", "psycopg-sync"])
async def face(
    request: pytest.FixtureRequest,
    hygiene: Hygiene,
    lock_tables: EmbeddedPostgres,
    probe: ServerProbe,
) -> AsyncIterator[Face]:
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    probe.execute(f"TRUNCATE {names}")
    hygiene.probe = probe
    face = Face(request.param, lock_tables.url(Face.ALL[request.param][0]), hygiene, probe=probe)
    yield face
    try:
        await hygiene.check_async()
    finally:
        await face.close()
        hygiene.probe = None


@pytest.fixture
def holder(lock_tables: EmbeddedPostgres) -> Iterator[Connection]:
    """A transaction that the library knows nothing of; it is rolled back at the end."""
    engine = create_engine(lock_tables.url("psycopg"))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.fixture
def statements(face: Face) -> Iterator[list[str]]:
    """What the face's unit of work sends, as it is sent."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    engine = getattr(face.uow.engine, "sync_engine", face.uow.engine)
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)

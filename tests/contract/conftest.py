"""`face`: the driver and face that a contract test runs on; its siblings narrow them down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork.testing.postgres import EmbeddedPostgres

from .face import Face, create_tables, drive, sqlite_url

POSTGRES = ["asyncpg", "psycopg", "psycopg-sync"]


@pytest.fixture(scope="session")
def tables(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """The server, with the tables."""
    create_tables(postgres.url("psycopg"))
    return postgres


def build(name: str, request: pytest.FixtureRequest, hygiene: Hygiene, directory: Path) -> Face:
    driver = Face.ALL[name][0]
    if name not in POSTGRES:
        return Face(name, sqlite_url(driver, directory), hygiene)
    server: EmbeddedPostgres = request.getfixturevalue("tables")
    probe: ServerProbe = request.getfixturevalue("probe")
    probe.execute("TRUNCATE item, part")
    hygiene.probe = probe
    return Face(name, server.url(driver), hygiene, probe=probe)


async def checked(face: Face, hygiene: Hygiene) -> AsyncIterator[Face]:
    yield face
    try:
        # Before the engines are disposed, and while the loop of their connections runs.
        await hygiene.check_async()
    finally:
        await face.close()
        hygiene.probe = None


def face_fixture(names: list[str]) -> Any:
    @pytest.fixture(params=names)
    async def face(
        request: pytest.FixtureRequest, hygiene: Hygiene, tmp_path: Path
    ) -> AsyncIterator[Face]:
        async for one in checked(build(request.param, request, hygiene, tmp_path), hygiene):
            yield one

    return face


#: Every driver and both faces, one after the other.
face = face_fixture(list(Face.ALL))
async_face = face_fixture(["asyncpg", "psycopg", "aiosqlite"])
sync_face = face_fixture(["psycopg-sync", "pysqlite"])
postgres_face = face_fixture(POSTGRES)
sqlite_face = face_fixture(["aiosqlite", "pysqlite"])


def threads_fixture(names: list[str]) -> Any:
    @pytest.fixture(params=names)
    def threads(request: pytest.FixtureRequest, hygiene: Hygiene, tmp_path: Path) -> Iterator[Face]:
        face = build(request.param, request, hygiene, tmp_path)
        yield face
        try:
            hygiene.check()
        finally:
            drive(face.close())
            hygiene.probe = None

    return threads


#: The sync faces where no event loop runs, as in threads and scripts.
threads = threads_fixture(["psycopg-sync", "pysqlite"])
postgres_threads = threads_fixture(["psycopg-sync"])

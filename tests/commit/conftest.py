"""`face`: a driver whose connections lead through the proxy, and its table `lost_commit`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.contract.face import Face
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe
from tests.support.proxy import Proxy

from unitofwork.testing.postgres import EmbeddedPostgres


def face_fixture(names: list[str]) -> Any:
    @pytest.fixture(params=names)
    async def face(
        request: pytest.FixtureRequest,
        hygiene: Hygiene,
        postgres: EmbeddedPostgres,
        probe: ServerProbe,
        proxy: Proxy,
    ) -> AsyncIterator[Face]:
        probe.execute("DROP TABLE IF EXISTS lost_commit")
        probe.execute("CREATE TABLE lost_commit (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        url = postgres.url(Face.ALL[request.param][0], port=proxy.port)
        face = Face(request.param, url, hygiene, probe=probe)
        yield face
        proxy.heal()
        try:
            await hygiene.check_async()
        finally:
            await face.close()

    return face


#: Every PostgreSQL driver and both faces, one after the other.
face = face_fixture(["asyncpg", "psycopg", "psycopg-sync"])
async_face = face_fixture(["asyncpg", "psycopg"])
sync_face = face_fixture(["psycopg-sync"])


def rows(face: Face) -> int:
    """How many rows are committed."""
    return int(face.aside("SELECT count(*) FROM lost_commit")[0][0])

"""`shop`: the world of the fault tests, on each driver and face."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import conftest as contract
from tests.contract.face import Face
from tests.pool.pool_face import LONG

from unitofwork import set_testing

from .world import Shop

tables = contract.tables
#: The two databases and faces; in the long form all drivers. `any_face` has them always.
face = contract.face_fixture(list(Face.ALL) if LONG else ["asyncpg", "psycopg-sync", "pysqlite"])
any_face = contract.face
async_face = contract.async_face
postgres_face = contract.postgres_face
sqlite_face = contract.sqlite_face
server_face = contract.face_fixture(["asyncpg", "psycopg"])


@pytest.fixture
def shop(face: Face, tmp_path: Path) -> Shop:
    """An open shop."""
    return Shop(face, tmp_path)


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    set_testing()
    yield
    set_testing(False)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[Any]:
    """Connections are dropped by the dozen, which the library says each time."""
    logger = logging.getLogger("unitofwork")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)

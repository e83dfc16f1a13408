"""`tx`: a session over the rows of `model`; nothing that it does is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from unitofwork.testing.postgres import EmbeddedPostgres

from .flushes import Flushes
from .model import ROWS, Base, Elsewhere


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    engine = create_engine(postgres.url("psycopg"))
    Elsewhere.metadata.drop_all(engine)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    Elsewhere.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(ROWS)
    yield engine
    Elsewhere.metadata.drop_all(engine)
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def tx(engine: Engine) -> Iterator[Flushes]:
    with Flushes(engine) as session:
        yield session
        session.rollback()

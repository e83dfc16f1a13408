"""The tables, and the engines and units over them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unitofwork import AsyncUnitOfWork, UnitOfWork
from unitofwork.testing.postgres import EmbeddedPostgres

ROWS = 10_000


class Base(DeclarativeBase):
    pass


class Account(Base):
    """A row to read and to change."""

    __tablename__ = "bench_account"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]
    owner: Mapped[str]


class Entry(Base):
    """Rows that are added."""

    __tablename__ = "bench_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    amount: Mapped[int]


_ids = itertools.cycle(range(1, ROWS + 1))


def next_id() -> int:
    """Another account each time, so that no two units at once meet on a row."""
    return next(_ids)


def ten_entries() -> list[Entry]:
    """Ten new rows."""
    return [Entry(account_id=next_id(), amount=1) for _ in range(10)]


def create_tables(server: EmbeddedPostgres) -> None:
    """The tables anew, with their rows."""
    engine = create_engine(server.url("psycopg"))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        fill = (
            "INSERT INTO bench_account SELECT n, 100, 'owner ' || n FROM generate_series(1, :n) n"
        )
        connection.execute(text(fill), {"n": ROWS})
    engine.dispose()


@asynccontextmanager
async def async_engine(url: str, **options: Any) -> AsyncGenerator[AsyncEngine]:
    """An engine as written by hand: SQLAlchemy's defaults, but for a pool without overflow."""
    engine = create_async_engine(url, **{"max_overflow": 0, **options})
    try:
        yield engine
    finally:
        await engine.dispose()


@contextmanager
def sync_engine(url: str, **options: Any) -> Generator[Engine]:
    """The same for threads."""
    engine = create_engine(url, **{"max_overflow": 0, **options})
    try:
        yield engine
    finally:
        engine.dispose()


@asynccontextmanager
async def async_units(
    url: str, pool_size: int = 5, **options: Any
) -> AsyncGenerator[AsyncUnitOfWork]:
    """Units as a service has them: `from_url`, in their lifespan, so with everything on.

    But the validator, which would find too many engines; `start_time` measures it.
    """
    uow = AsyncUnitOfWork.from_url(url, pool_size=pool_size, **options)
    async with uow.lifespan(validate="off"):
        yield uow


@contextmanager
def sync_units(url: str, pool_size: int = 5) -> Generator[UnitOfWork]:
    """The same for threads."""
    with UnitOfWork.from_url(url, pool_size=pool_size).lifespan(validate="off") as uow:
        yield uow

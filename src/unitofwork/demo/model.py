"""The demo's tables, in a schema of their own that is dropped at the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from sqlalchemy import MetaData, exc, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateSchema, DropSchema

from .plan import ACCOUNTS, BALANCE, DemoError, Plan

SCHEMA = "unitofwork_demo"


class Base(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA)


class Customer(Base):
    """Read before the slow call; what the service answers is written to it."""

    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    score: Mapped[int | None]


class Account(Base):
    """A hot row: every transfer is between two of a few."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


@contextlib.asynccontextmanager
async def tables(observer: AsyncEngine, plan: Plan) -> AsyncGenerator[None]:
    """Create the schema, fill its tables, drop it at the end. Raises `DemoError`.

    `observer` is in autocommit and has no pool: each step has a connection of its own, so that
    one lost to a Ctrl-C doesn't keep the last step from running.
    """
    async with observer.connect() as connection:
        try:
            await connection.execute(CreateSchema(SCHEMA))
        except exc.DBAPIError as error:
            # Dropped only where it was created: it may be another demo's, or the user's.
            remedy = f"one left by an earlier demo goes with: DROP SCHEMA {SCHEMA} CASCADE"
            raise DemoError(f"can't create the schema {SCHEMA}: {error.orig} ({remedy})") from None
    try:
        async with observer.connect() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(
                insert(Customer),
                [{"id": n, "email": f"{n}@example.org"} for n in range(1, plan.requests + 1)],
            )
            await connection.execute(
                insert(Account), [{"id": n, "balance": BALANCE} for n in range(1, ACCOUNTS + 1)]
            )
        yield
    finally:
        async with observer.connect() as connection:
            await connection.execute(text("SET lock_timeout = '10s'"))
            await connection.execute(DropSchema(SCHEMA, cascade=True))


async def reset(observer: AsyncEngine) -> None:
    """Everything as at the beginning."""
    async with observer.connect() as connection:
        await connection.execute(update(Customer).values(score=None))
        await connection.execute(update(Account).values(balance=BALANCE))


async def customers_scored(observer: AsyncEngine) -> int:
    """How many requests have really written."""
    async with observer.connect() as connection:
        query = select(func.count()).where(Customer.score.is_not(None))
        return await connection.scalar(query) or 0


async def sum_of_accounts(observer: AsyncEngine) -> int:
    """No transfer may change it."""
    async with observer.connect() as connection:
        return await connection.scalar(select(func.sum(Account.balance))) or 0

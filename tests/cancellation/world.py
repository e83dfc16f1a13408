"""A small world to cancel units in: one table, one unit that uses every part of a unit's life."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unitofwork import AsyncTransaction, AsyncUnitOfWork, Outcome

DRIVERS = ("asyncpg", "psycopg", "aiosqlite")


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "cancelled_counter"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


@dataclass
class World:
    """The engine, and what its units said of themselves."""

    engine: AsyncEngine
    uow: AsyncUnitOfWork
    units: list[AsyncTransaction] = field(default_factory=list)
    called_back: list[AsyncTransaction] = field(default_factory=list)

    async def unit(self) -> None:
        """Adds one to both counters: by a flush at the end, and by SQL in a savepoint."""
        async with self.uow(name="increment") as tx:
            self.units.append(tx)

            async def called_back() -> None:
                await asyncio.sleep(0)
                self.called_back.append(tx)

            tx.on_commit(called_back)
            counter = await tx.get(Counter, 1, with_for_update=True)
            assert counter is not None
            counter.value += 1
            async with tx.savepoint():
                await tx.execute(
                    text(f"UPDATE {Counter.__tablename__} SET value = value + 1 WHERE id = 2")
                )

    async def values(self) -> list[int]:
        """Both counters, read by a unit of its own: the pool's next user."""
        async with self.uow() as tx:
            rows = await tx.execute(text(f"SELECT value FROM {Counter.__tablename__} ORDER BY id"))
            return list(rows.scalars())

    @property
    def committed(self) -> int:
        return sum(tx.outcome is Outcome.COMMITTED for tx in self.units)


async def make_world(url: str) -> World:
    """A world with both counters at zero."""
    engine = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=5)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(
            text(f"INSERT INTO {Counter.__tablename__} (id, value) VALUES (1, 0), (2, 0)")
        )
    return World(engine, AsyncUnitOfWork(engine))

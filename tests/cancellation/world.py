"""A small world to cancel units in: one table, one unit that uses every part of a unit's life."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unitofwork import CURRENT, AsyncTransaction, AsyncUnitOfWork, Outcome

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

    async def released_unit(self) -> None:
        """The same with an external call between reading and writing."""
        async with self.uow(name="released") as tx:
            self.units.append(tx)
            tx.on_commit(lambda: self.called_back.append(tx))
            counter = await tx.get(Counter, 1)
            assert counter is not None
            async with tx.released():
                await asyncio.sleep(0)
            counter.value += 1
            await tx.flush()
            await self._second(tx)

    async def released_by_the_pair(self) -> None:
        """By release() and reacquire(); both counters change after them."""
        async with self.uow(name="pair") as tx:
            self.units.append(tx)
            tx.on_commit(lambda: self.called_back.append(tx))
            await tx.scalars(text("SELECT 1"))
            await tx.release(commit=True)
            await asyncio.sleep(0)
            await tx.reacquire(recheck="ignore")
            await self._first(tx)
            await self._second(tx)

    async def tree_of_units(self) -> None:
        """The first counter by an inner unit of its own, whose outcome the outer one follows."""
        # Read-only, so that it takes no lock of SQLite's.
        async with self.uow(name="outer", connections=2, read_only=True) as outer:
            await outer.scalar(text("SELECT 1"))
            async with self.uow(propagation="requires_new") as tx:
                self.units.append(tx)
                tx.on_commit(lambda: self.called_back.append(tx))
                await self._first(tx)
                async with self.uow(propagation="nested"):
                    await self._second(tx)

    async def decorated(self) -> None:
        """By a decorated function, with the retry that it has by default."""

        @self.uow.transactional
        async def increment(*, tx: AsyncTransaction = CURRENT) -> None:
            self.units.append(tx)
            tx.on_commit(lambda: self.called_back.append(tx))
            await self._first(tx)
            await self._second(tx)

        await increment()

    async def waiting_at_the_gate(self) -> None:
        """Behind two others that hold the whole pool for some turns of the loop."""

        async def hold() -> None:
            async with self.uow() as tx:
                await tx.scalar(text("SELECT 1"))

        others = [asyncio.ensure_future(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        try:
            async with self.uow(name="waiting") as tx:
                self.units.append(tx)
                tx.on_commit(lambda: self.called_back.append(tx))
                await self._first(tx)
                await self._second(tx)
        finally:
            await asyncio.shield(asyncio.gather(*others))

    async def _first(self, tx: AsyncTransaction) -> None:
        await tx.execute(update(Counter).where(Counter.id == 1).values(value=Counter.value + 1))

    async def _second(self, tx: AsyncTransaction) -> None:
        await tx.execute(update(Counter).where(Counter.id == 2).values(value=Counter.value + 1))

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

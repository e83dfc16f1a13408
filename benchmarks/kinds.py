"""The same kinds of unit twice: as people write them by hand, and in units."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from unitofwork import AsyncUnitOfWork

from .model import Account, next_id
from .works import READ, async_works

Kinds = dict[str, Callable[[], Awaitable[Any]]]
#: One request whose external call takes so many seconds.
Request = Callable[[float], Awaitable[None]]
#: How many rows a unit locks in one call.
LOCKED = (1, 10, 100)
HOLDING, TWO, OUTSIDE = "holding", "two by hand", "tx.outside"


def _read(begin: Callable[..., Any], setting: str = "", **options: Any) -> Callable[[], Any]:
    async def read() -> None:
        async with begin(**options) as session:
            if setting:
                await session.execute(text(setting))
            await session.get(Account, next_id())

    return read


def lock_many(rows: int) -> str:
    """The name of the unit that locks so many rows of one table in one call."""
    return f"lock_many of {rows} row{'s' if rows > 1 else ''}"


def by_hand(engine: AsyncEngine) -> Kinds:
    """As people write it, with SQLAlchemy alone."""

    def begin(**options: Any) -> Any:
        bind = engine.execution_options(**options) if options else engine
        return async_sessionmaker(bind, expire_on_commit=False).begin()

    async def two(write: bool) -> None:
        async with begin() as session:
            account = await session.get_one(Account, next_id())
        await asyncio.sleep(0)
        async with begin() as session:
            lock = {"key_share": True} if write else None
            account = await session.get_one(Account, account.id, with_for_update=lock)
            if write:  # an assignment alone would make the row dirty
                account.balance += 1

    async def locked(rows: int) -> None:
        async with begin() as session:
            found = select(Account).where(Account.id.in_(range(1, rows + 1)))
            await session.scalars(found.order_by(Account.id).with_for_update(key_share=True))

    return {
        **async_works(begin),
        f"{READ}, name=": _read(begin),
        f"{READ}, read_only=True": _read(begin, postgresql_readonly=True),
        f"{READ}, isolation=": _read(begin, isolation_level="SERIALIZABLE"),
        f"{READ}, timeout=": _read(begin, "SET LOCAL statement_timeout = 5000"),
        f"{READ}, lock_timeout=": _read(begin, "SET LOCAL lock_timeout = 1000"),
        **{lock_many(rows): partial(locked, rows) for rows in LOCKED},
        "read, released, rechecked": lambda: two(False),
        "read, released, rechecked, written": lambda: two(True),
        'read, released, written, recheck="ignore"': lambda: two(True),
    }


def in_units(uow: AsyncUnitOfWork) -> Kinds:
    """The same in units; by hand, a release is the end of one transaction and the next one."""

    async def released(write: bool, recheck: Any = "raise") -> None:
        async with uow() as tx:
            account = await tx.get_one(Account, next_id())
            async with tx.released(recheck=recheck):
                await asyncio.sleep(0)
            if write:  # an assignment alone would make the row dirty
                account.balance += 1

    async def locked(rows: int) -> None:
        async with uow() as tx:
            await tx.lock_many(Account, range(rows, 0, -1))

    return {
        **async_works(uow, uow),
        f"{READ}, name=": _read(uow, name="read"),
        f"{READ}, read_only=True": _read(uow, read_only=True),
        f"{READ}, isolation=": _read(uow, isolation="SERIALIZABLE"),
        f"{READ}, timeout=": _read(uow, timeout=5),
        f"{READ}, lock_timeout=": _read(uow, lock_timeout=1),
        **{lock_many(rows): partial(locked, rows) for rows in LOCKED},
        "read, released, rechecked": lambda: released(False),
        "read, released, rechecked, written": lambda: released(True),
        'read, released, written, recheck="ignore"': lambda: released(True, "ignore"),
    }


def requests(engine: AsyncEngine, uow: AsyncUnitOfWork) -> dict[str, Request]:
    """Read a row, wait for the outside world, write the row."""
    begin = async_sessionmaker(engine, expire_on_commit=False).begin

    async def holding(call: float) -> None:
        async with begin() as session:
            account = await session.get_one(Account, next_id())
            await asyncio.sleep(call)
            account.balance += 1

    async def two(call: float) -> None:
        async with begin() as session:
            account = await session.get_one(Account, next_id())
        await asyncio.sleep(call)
        async with begin() as session:
            lock = {"key_share": True}
            account = await session.get_one(Account, account.id, with_for_update=lock)
            account.balance += 1

    async def outside(call: float) -> None:
        async with uow(acquire_timeout=120) as tx:
            account = await tx.get_one(Account, next_id())
            await tx.outside(asyncio.sleep, call)
            account.balance += 1

    return {HOLDING: holding, TWO: two, OUTSIDE: outside}

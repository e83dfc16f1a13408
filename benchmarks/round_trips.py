"""Round trips and bytes of each kind of unit, counted at a proxy: exact, whatever the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from tests.support.proxy import Proxy
from unitofwork import AsyncUnitOfWork
from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Section, table
from .model import Account, async_engine, async_units, next_id
from .works import READ, async_works

HEAD = (
    "unit",
    "by hand",
    "with pre-ping",
    "unit",
    "unit - by hand",
    "bytes by hand",
    "of the unit",
)
#: Psycopg prepares a statement after five times.
WARM_UP, COUNTED = 8, 10

Kinds = dict[str, Callable[[], Awaitable[Any]]]


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """All kinds, on the two async drivers. A quick run is no shorter."""
    section = Section("Round trips")
    section.text.append(f"{__doc__} Per unit, on a connection that is there and warm.")
    for driver in ("asyncpg", "psycopg"):
        with Proxy(server.host, server.port) as proxy:
            async with AsyncExitStack() as stack:
                url = server.url(driver, port=proxy.port)
                hand, ping = [
                    by_hand(await stack.enter_async_context(async_engine(url, pool_pre_ping=on)))
                    for on in (False, True)
                ]
                unit = in_units(await stack.enter_async_context(async_units(url)))
                await _driver(section, driver, proxy, hand, ping, unit)
    return section


def _read(begin: Callable[..., Any], setting: str = "", **options: Any) -> Callable[[], Any]:
    async def read() -> None:
        async with begin(**options) as session:
            if setting:
                await session.execute(text(setting))
            await session.get(Account, next_id())

    return read


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
            account.balance += write

    return {
        **async_works(begin),
        f"{READ}, name=": _read(begin),
        f"{READ}, read_only=True": _read(begin, postgresql_readonly=True),
        f"{READ}, isolation=": _read(begin, isolation_level="SERIALIZABLE"),
        f"{READ}, timeout=": _read(begin, "SET LOCAL statement_timeout = 5000"),
        f"{READ}, lock_timeout=": _read(begin, "SET LOCAL lock_timeout = 1000"),
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
            account.balance += write

    return {
        **async_works(uow, uow),
        f"{READ}, name=": _read(uow, name="read"),
        f"{READ}, read_only=True": _read(uow, read_only=True),
        f"{READ}, isolation=": _read(uow, isolation="SERIALIZABLE"),
        f"{READ}, timeout=": _read(uow, timeout=5),
        f"{READ}, lock_timeout=": _read(uow, lock_timeout=1),
        "read, released, rechecked": lambda: released(False),
        "read, released, rechecked, written": lambda: released(True),
        'read, released, written, recheck="ignore"': lambda: released(True, "ignore"),
    }


async def _driver(
    section: Section, driver: str, proxy: Proxy, hand: Kinds, ping: Kinds, unit: Kinds
) -> None:
    rows, more = [], {}
    for kind in unit:
        trips, size = await _count(proxy, hand[kind])
        pinged, _ = await _count(proxy, ping[kind])
        ours, our_size = await _count(proxy, unit[kind])
        more[kind] = ours - trips
        figures = (f"{figure:g}" for figure in (trips, pinged, ours, ours - trips, size, our_size))
        rows.append([kind, *figures])
    section.text += [f"### {driver}", table(HEAD, rows)]
    section.target(f"{driver}: round trips more than by hand", "≤", 0, more)


async def _count(proxy: Proxy, work: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    for _ in range(WARM_UP):
        await work()
    proxy.reset_counts()
    for _ in range(COUNTED):
        await work()
    return proxy.round_trips / COUNTED, round(sum(proxy.bytes.values()) / COUNTED)

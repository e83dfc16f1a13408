"""Round trips and bytes of each kind of unit, counted at a proxy: exact, whatever the machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from tests.support.proxy import Proxy

from unitofwork.testing.postgres import EmbeddedPostgres

from .kinds import LOCKED, Kinds, by_hand, in_units, lock_many
from .model import async_engine, async_units
from .report import Section, table
from .works import READ

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
#: What the server is told of in the statement that begins the transaction, or not at all.
FREE = tuple(f"{READ}, {option}=" for option in ("name", "isolation"))
FREE = (*FREE, f"{READ}, read_only=True")


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


async def _driver(
    section: Section, driver: str, proxy: Proxy, hand: Kinds, ping: Kinds, unit: Kinds
) -> None:
    rows, more, trips_of = [], {}, {}
    for kind in unit:
        trips, size = await _count(proxy, hand[kind])
        pinged, _ = await _count(proxy, ping[kind])
        ours, our_size = await _count(proxy, unit[kind])
        trips_of[kind] = ours
        more[kind] = ours - trips
        figures = (f"{figure:g}" for figure in (trips, pinged, ours, ours - trips, size, our_size))
        rows.append([kind, *figures])
    section.text += [f"### {driver}", table(HEAD, rows)]
    section.target(f"{driver}: round trips more than by hand", "≤", 0, more)
    free = {kind: trips_of[kind] - trips_of[READ] for kind in FREE}
    section.target(f"{driver}: round trips more than without the option", "≤", 0, free)
    begin_and_commit = trips_of[READ] - 1
    locks = {lock_many(n): trips_of[lock_many(n)] - begin_and_commit for n in LOCKED}
    section.target(f"{driver}: round trips of the lock", "≤", 1, locks)


async def _count(proxy: Proxy, work: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    for _ in range(WARM_UP):
        await work()
    proxy.reset_counts()
    for _ in range(COUNTED):
        await work()
    return proxy.round_trips / COUNTED, round(sum(proxy.bytes.values()) / COUNTED)

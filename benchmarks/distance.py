"""What a unit costs against the same by hand when each message takes half a millisecond more."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import AsyncExitStack

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from unitofwork.testing.postgres import EmbeddedPostgres

from .delaying import delayed
from .harness import Ratio, Series, in_tasks, interleave, ratio
from .model import async_engine, async_units
from .report import Section, table
from .works import EMPTY, async_works

#: Seconds in each direction.
DELAY = 0.0005
#: Tasks at once, and connections in the pool.
LEVELS = ((1, 5), (20, 20))
HAND, UNIT, FAR_HAND, FAR_UNIT = "by hand", "unit", "by hand, far", "unit, far"
HEAD = (
    "work",
    "unit / by hand, far",
    "the same, near",
    "far / near",
    "by hand, far, µs",
    "unit, far, µs",
    "by hand, near, µs",
)


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """Near and far side by side, on asyncpg."""
    section = Section("Distance")
    with delayed(server.host, server.port, DELAY) as port:
        for concurrency, pool_size in LEVELS[:1] if quick else LEVELS:
            async with AsyncExitStack() as stack:
                urls = server.url("asyncpg"), server.url("asyncpg", port=port)
                ways = {}
                for url, hand, unit in zip(urls, (HAND, FAR_HAND), (UNIT, FAR_UNIT), strict=True):
                    uow = await stack.enter_async_context(async_units(url, pool_size))
                    ways[unit] = async_works(uow, joining=uow)
                    engine = await stack.enter_async_context(async_engine(url, pool_size=pool_size))
                    ways[hand] = async_works(
                        async_sessionmaker(engine, expire_on_commit=False).begin
                    )
                if not section.text:
                    section.text.append(_introduction(await _round_trip(engine)))
                found = {}
                for work in ways[UNIT]:
                    if work == EMPTY:  # says nothing to the server
                        continue
                    blocks = {
                        way: in_tasks(works[work], concurrency) for way, works in ways.items()
                    }
                    found[work] = await interleave(blocks, 6 if quick else 30, concurrency)
                _tell(section, f"{concurrency} at once, pool of {pool_size}", found)
    return section


def _introduction(seconds: float) -> str:
    return (
        f"{__doc__} A proxy in a process of its own delays each direction by {DELAY * 1000:g} ms "
        f"(measured there, one round trip with the server's work: {seconds * 1000:.2f} ms); "
        "near is the same server without it, in the same rounds."
    )


async def _round_trip(engine: AsyncEngine) -> float:
    async def empty() -> None:
        await connection.execute(text("SELECT 1"))

    async with engine.connect() as connection:
        found = await interleave({"": in_tasks(empty, 1)}, 10)
    return statistics.median(found[""].elapsed)


def _tell(section: Section, title: str, found: Mapping[str, Mapping[str, Series]]) -> None:
    rows, kept = [], {}
    for work, ways in found.items():
        near = ratio(ways[UNIT].elapsed, ways[HAND].elapsed)
        far = ratio(ways[FAR_UNIT].elapsed, ways[FAR_HAND].elapsed)
        kept[work] = _kept(ways)
        times = (f"{ways[way].microseconds:.0f}" for way in (FAR_HAND, FAR_UNIT, HAND))
        rows.append([work, far, near, kept[work], *times])
    section.text += [f"### {title}", table(HEAD, rows)]
    section.target(f"distance, {title}: unit / by hand, far / near", "≤", 1, kept)


def _kept(ways: Mapping[str, Series]) -> Ratio:
    """The ratio far away against that nearby, both of one round."""
    far, near = (
        [one / other for one, other in zip(ways[unit].elapsed, ways[hand].elapsed, strict=True)]
        for unit, hand in ((FAR_UNIT, FAR_HAND), (UNIT, HAND))
    )
    return ratio(far, near)

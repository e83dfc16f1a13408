"""Units with up to 10,000 rows, locked in one call or changed in one flush."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from unitofwork import AsyncUnitOfWork
from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Ratio, Series, in_tasks, interleave, ratio
from .model import Account, async_engine, async_units
from .plots import Plot
from .report import Section, table

LOCK, CHANGE, LOCK_AND_CHANGE = "lock", "read and change", "lock and change"
HAND, UNIT = "by hand", "unit"
ROWS = (1, 10, 100, 1000, 10_000)
HEAD = ("rows", "unit / by hand", "its client CPU", "unit, µs per row", "by hand, µs per row")
#: The same flush in plain SQLAlchemy, or the same lock query.
BY_HAND = 1.0
#: One unit with so many rows, by the name of what it does.
Works = dict[str, Callable[[int], Awaitable[None]]]


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """1 to 10,000 rows."""
    section = Section("Growth: rows in a unit")
    section.text.append(
        f'{__doc__} "{LOCK}": `tx.lock_many`, by hand one `SELECT ... WHERE id IN (...) ORDER BY '
        f'id FOR NO KEY UPDATE`. "{CHANGE}": loaded by a plain select, each changed, one flush. '
        f'"{LOCK_AND_CHANGE}": both. Flat is the same µs per row at each number, once there are '
        "enough rows to outweigh the rest."
    )
    async with AsyncExitStack() as stack:
        url = server.url("asyncpg")
        engine = await stack.enter_async_context(async_engine(url))
        uow = await stack.enter_async_context(async_units(url))
        by_hand, in_units = _by_hand(engine), _in_units(uow)
        for work in in_units:
            levels = {}
            for rows in (1, 1000) if quick else ROWS:
                ways = {
                    name: in_tasks(lambda write=write, n=rows: write(n), 1)  # type: ignore[misc]
                    for name, write in ((HAND, by_hand[work]), (UNIT, in_units[work]))
                }
                rounds, warm_up = (4, 1) if quick else (12, 2)
                levels[rows] = await interleave(ways, rounds, warm_up=warm_up)
            _tell(section, work, levels)
    return section


def _by_hand(engine: AsyncEngine) -> Works:
    begin = async_sessionmaker(engine, expire_on_commit=False).begin

    async def locked(session: Any, rows: int) -> Any:
        found = select(Account).where(Account.id.in_(range(1, rows + 1))).order_by(Account.id)
        return (await session.scalars(found.with_for_update(key_share=True))).all()

    return _works(begin, locked)


def _in_units(uow: AsyncUnitOfWork) -> Works:
    async def locked(tx: Any, rows: int) -> Any:
        return await tx.lock_many(Account, range(1, rows + 1))

    return _works(uow, locked)


def _works(begin: Callable[[], Any], locked: Callable[[Any, int], Awaitable[Any]]) -> Works:
    async def lock(rows: int) -> None:
        async with begin() as session:
            await locked(session, rows)

    async def change(rows: int) -> None:
        async with begin() as session:
            read = await session.scalars(select(Account).where(Account.id <= rows))
            for account in read.all():
                account.balance += 1

    async def lock_and_change(rows: int) -> None:
        async with begin() as session:
            for account in await locked(session, rows):
                account.balance += 1

    return {LOCK: lock, CHANGE: change, LOCK_AND_CHANGE: lock_and_change}


def _tell(section: Section, work: str, levels: Mapping[int, Mapping[str, Series]]) -> None:
    lines, times = [], {}
    per_row: dict[str, list[tuple[float, float]]] = {UNIT: [], HAND: []}
    for rows, ways in levels.items():
        times[rows] = ratio(ways[UNIT].elapsed, ways[HAND].elapsed)
        for way, points in per_row.items():
            points.append((rows, ways[way].microseconds / rows))
        cpu = ratio(ways[UNIT].cpu, ways[HAND].cpu)
        figures = (f"{points[-1][1]:.1f}" for points in per_row.values())
        lines.append([f"{rows:,}", times[rows], cpu, *figures])
    axes = "rows", "µs per row"
    name = "rows-" + work.replace(" ", "-")
    title = f"{work.capitalize()}: rows in a unit"
    plot = Plot(name, title, *axes, per_row, x_scale="log", y_scale="log")
    section.text += [f"### {work.capitalize()}", table(HEAD, lines), plot]
    most = max(times)
    found: dict[str, Ratio] = {f"{most:,} rows": times[most]}
    section.target(f"{work}: time of the unit / by hand", "≤", BY_HAND, found)

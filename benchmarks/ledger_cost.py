"""What the ledger and the watch cost: the same units with and without their listeners."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from sqlalchemy import Engine, event

from unitofwork import AsyncUnitOfWork, UnitOfWork
from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Ratio, Series, in_tasks, in_threads, interleave, ratio
from .model import async_units, sync_units
from .report import Section, table
from .works import EMPTY, READ, WRITE, Works, async_works, sync_works

NONE, AGAIN, LEDGER, BOTH = "neither", "neither, again", "ledger", "ledger and watch"
#: 5 % of a one-row unit.
AT_MOST = 1.05
HEAD = ("unit", "neither, µs", "both, µs", *(f"{way} / neither" for way in (AGAIN, LEDGER, BOTH)))
HEAD = (*HEAD, "client CPU, both / neither", "and when quiet")
LISTENERS = {
    "checkout": "_checked_out",
    "checkin": "_checked_in",
    "detach": "_gone",
    "handle_error": "_statement_failed",
}


def without_ledger(uow: AsyncUnitOfWork | UnitOfWork) -> None:
    """Take the ledger's listeners off the engine, and with them all looks at statements."""
    engine: Engine = uow._home.engine
    for name, method in LISTENERS.items():
        event.remove(engine, name, getattr(uow._home.ledger, method))
    _, engine.dialect.execution_ctx_cls = engine.dialect.execution_ctx_cls.__bases__


def without_watch(uow: AsyncUnitOfWork | UnitOfWork) -> None:
    """Stop the watch's thread."""
    if uow._watch is not None:
        uow._watch.stop()


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """One-row units on asyncpg, and in threads on psycopg."""
    section = Section("Cost of the ledger and the watch")
    section.text.append(__doc__ or "")
    section.text.append(
        f'"{AGAIN}" is the same as "neither" on an engine of its own: how far it is from 1.00 is '
        "how far the other ratios can be trusted. The client's CPU time is steadier; when quiet: "
        "the ratio of its lowest deciles."
    )
    rounds = 15 if quick else 80
    rows: list[list[str]] = []
    costs: dict[str, Ratio | float] = {}
    for concurrency in (1, 20):
        async with AsyncExitStack() as stack:
            ways = {}
            for way in (NONE, AGAIN, LEDGER, BOTH):
                uow = await stack.enter_async_context(async_units(server.url("asyncpg")))
                _take_off(way, uow)
                ways[way] = async_works(uow)
            for work in (EMPTY, READ, WRITE) if concurrency == 1 else (READ,):
                blocks = {way: in_tasks(works[work], concurrency) for way, works in ways.items()}
                found = await interleave(blocks, rounds, concurrency, 0.02)
                rows.append(_row(f"{work}, asyncpg, {concurrency} at once", found, costs))
    async with AsyncExitStack() as stack:
        sync_ways: dict[str, Works] = {}
        for way in (NONE, AGAIN, LEDGER, BOTH):
            sync_uow = stack.enter_context(sync_units(server.url("psycopg")))
            _take_off(way, sync_uow)
            sync_ways[way] = sync_works(sync_uow)
        threads = stack.enter_context(ThreadPoolExecutor(1))
        blocks = {way: in_threads(works[READ], 1, threads) for way, works in sync_ways.items()}
        found = await interleave(blocks, rounds, 1, 0.02)
        rows.append(_row(f"{READ}, psycopg in a thread, 1 at once", found, costs))
    section.text.append(table(HEAD, rows))
    section.target("time with ledger and watch / with neither", "≤", AT_MOST, costs)
    return section


def _take_off(way: str, uow: AsyncUnitOfWork | UnitOfWork) -> None:
    if way in (NONE, AGAIN):
        without_ledger(uow)
    if way != BOTH:
        without_watch(uow)


def _row(unit: str, found: Mapping[str, Series], costs: dict[str, Ratio | float]) -> list[str]:
    none, both = found[NONE], found[BOTH]
    ratios = [ratio(found[way].elapsed, none.elapsed) for way in (AGAIN, LEDGER, BOTH)]
    cpu = ratio(both.cpu, none.cpu)
    if EMPTY not in unit:  # an empty unit takes no connection: the ledger sees nothing of it
        costs[unit] = ratios[-1]
        costs[f"{unit}, client CPU when quiet"] = both.quiet_cpu / none.quiet_cpu
    times = (f"{none.microseconds:.0f}", f"{both.microseconds:.0f}")
    return [
        unit,
        *times,
        *map(str, ratios),
        f"{cpu.median:.3f} ± {cpu.margin:.3f}",
        f"{both.quiet_cpu / none.quiet_cpu:.3f}",
    ]

"""What the same three units of work take with other libraries and with the drivers alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from importlib import metadata

from sqlalchemy.orm import sessionmaker

from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Series, in_tasks, in_threads, interleave, ratio
from .model import async_units, sync_engine, sync_units
from .peer_works import PEERS
from .plots import Plot
from .report import Section, table
from .works import READ, TEN, WRITE, Works, async_works, sync_works

PACKAGES = (
    *("asyncpg", "psycopg-pool", "advanced-alchemy", "context-async-sqlalchemy"),
    *("oslo.db", "tortoise-orm", "piccolo", "django"),
)
UNIT = "unit"
WORKS = (READ, WRITE, TEN)
#: Tasks at once, and connections in the pool.
LEVELS = ((1, 5), (50, 20))
HEAD = ("way", *(f"{work}: way / unit" for work in WORKS), *(f"{work}, µs" for work in WORKS))


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """All that are installed, on asyncpg where there is a choice."""
    section = Section("Peers")
    section.text.append(
        f"{__doc__} Each as its own documentation shows it, with a pool of the same size. Less "
        "than 1: faster than a unit. The drivers have no objects and no tracking of changes; "
        "none of them has admission, a ledger, an order of locks or a checked outcome."
    )
    missing: list[str] = []
    for concurrency, pool_size in LEVELS[:1] if quick else LEVELS:
        missing = []
        async with AsyncExitStack() as stack:
            ways: dict[str, Works] = {}
            uow = await stack.enter_async_context(async_units(server.url("asyncpg"), pool_size))
            ways[UNIT] = async_works(uow)
            for name, peer in PEERS.items():
                try:
                    ways[name] = await stack.enter_async_context(peer(server, pool_size))
                except ModuleNotFoundError:
                    missing.append(name)
            found = {}
            for work in WORKS:
                blocks = {way: in_tasks(works[work], concurrency) for way, works in ways.items()}
                found[work] = await interleave(blocks, 5 if quick else 30, concurrency)
        _tell(section, f"{concurrency} at once, pool of {pool_size}", f"peers-{concurrency}", found)
    try:
        found = await _in_a_thread(server, quick)
    except ModuleNotFoundError:
        missing.append("Django")
    else:
        _tell(section, "in a thread, psycopg", "peers-thread", found)
    section.text.insert(1, f"Installed: {', '.join(_versions())}.")
    if missing:
        section.text.insert(1, f"Left out, because not installed: {', '.join(missing)}.")
    return section


async def _in_a_thread(server: EmbeddedPostgres, quick: bool) -> dict[str, dict[str, Series]]:
    from .peer_django import works_of_django

    with ExitStack() as stack:
        url = server.url("psycopg")
        engine = stack.enter_context(sync_engine(url))
        ways = {
            UNIT: sync_works(stack.enter_context(sync_units(url))),
            "sessionmaker.begin()": sync_works(sessionmaker(engine, expire_on_commit=False).begin),
            "Django": stack.enter_context(works_of_django(server)),
        }
        threads = stack.enter_context(ThreadPoolExecutor(1))
        found = {}
        for work in WORKS:
            blocks = {way: in_threads(works[work], 1, threads) for way, works in ways.items()}
            found[work] = await interleave(blocks, 5 if quick else 30)
        return found


def _versions() -> list[str]:
    found = []
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return found


def _tell(
    section: Section, title: str, file: str, found: Mapping[str, Mapping[str, Series]]
) -> None:
    rows = []
    bars: dict[str, list[tuple[float | str, float]]] = {}
    for way in found[READ]:
        ratios = [ratio(at[way].elapsed, at[UNIT].elapsed) for at in found.values()]
        times = (f"{at[way].microseconds:.0f}" for at in found.values())
        rows.append([way, *ratios, *times])
        bars[way] = [(work, each.median) for work, each in zip(found, ratios, strict=True)]
    axes = "", "time / that of a unit"
    plot = Plot(file, f"Peers: {title}", *axes, bars, bars=True)
    section.text += [f"### {title}", table(HEAD, rows), plot]

"""What the library adds to the start of a process: its import, and the validation of the pool."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections import defaultdict

from unitofwork.testing.postgres import EmbeddedPostgres

from .report import Section, table

#: Milliseconds.
IMPORT_LIMIT, START_LIMIT = 20, 100
IMPORT = """
import time
began = time.perf_counter()
import sqlalchemy.ext.asyncio
between = time.perf_counter()
import unitofwork
print(between - began, time.perf_counter() - between)
"""
START = """
import asyncio, sys, time
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from unitofwork import AsyncUnitOfWork

async def main(url):
    engine = create_async_engine(url)
    uow = AsyncUnitOfWork.from_url(url)
    times = [time.perf_counter()]
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    times.append(time.perf_counter())
    async with uow.lifespan():
        times.append(time.perf_counter())
        await uow.validate()
        times.append(time.perf_counter())
    await engine.dispose()
    print(*(after - before for before, after in zip(times, times[1:])))

asyncio.run(main(sys.argv[1]))
"""
SQLALCHEMY, LIBRARY = "import sqlalchemy.ext.asyncio", "import unitofwork, after it"
CONNECT, FIRST, AGAIN = (
    "connect by hand, SELECT 1",
    "enter the lifespan: connect and validate",
    "validate again, connected",
)
HEAD = ("step", "median, ms", "fastest", "slowest")


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """Each in a fresh interpreter, again and again."""
    section = Section("Import and start")
    section.text.append(
        f"{__doc__} Each run is a fresh interpreter whose files are in the cache of the system; "
        "the two kinds of run alternate."
    )
    steps: dict[str, list[float]] = defaultdict(list)
    drivers = ("asyncpg",) if quick else ("asyncpg", "psycopg")
    await _run(IMPORT)  # compiles
    for _ in range(3 if quick else 15):
        for name, took in zip((SQLALCHEMY, LIBRARY), await _run(IMPORT), strict=True):
            steps[name].append(took)
        for driver in drivers:
            found = await _run(START, server.url(driver))
            for name, took in zip((CONNECT, FIRST, AGAIN), found, strict=True):
                steps[f"{driver}: {name}"].append(took)
    rows = [
        [name, *(f"{figure:.1f}" for figure in (statistics.median(took), min(took), max(took)))]
        for name, took in steps.items()
    ]
    section.text.append(table(HEAD, rows))
    added = {"median": statistics.median(steps[LIBRARY])}
    section.target("import unitofwork, ms more than SQLAlchemy's", "≤", IMPORT_LIMIT, added)
    start = {driver: statistics.median(steps[f"{driver}: {FIRST}"]) for driver in drivers}
    section.target("lifespan with its validation, ms", "≤", START_LIMIT, start)
    return section


async def _run(script: str, *arguments: str) -> list[float]:
    """The figures that a script prints, in milliseconds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"a run failed with {process.returncode}")
    return [float(figure) * 1000 for figure in out.split()]

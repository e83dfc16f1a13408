"""What the library adds to the start of a process: its import, and the validation of the pool."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
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
        f"{__doc__} Each run is a fresh interpreter that finds all modules compiled, and their "
        "files in the cache of the system; the kinds of run alternate."
    )
    steps: dict[str, list[float]] = defaultdict(list)
    drivers = ("asyncpg",) if quick else ("asyncpg", "psycopg")
    with tempfile.TemporaryDirectory() as compiled:
        for run in range(4 if quick else 16):
            steps_of_run = dict(
                zip((SQLALCHEMY, LIBRARY), await _run(compiled, IMPORT), strict=True)
            )
            for driver in drivers:
                found = await _run(compiled, START, server.url(driver))
                names = (f"{driver}: {step}" for step in (CONNECT, FIRST, AGAIN))
                steps_of_run.update(zip(names, found, strict=True))
            for name, took in steps_of_run.items():
                steps[name] += [took] if run else []  # the first run compiles
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


async def _run(compiled: str, script: str, *arguments: str) -> list[float]:
    """The figures that a script prints, in milliseconds."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = (sys.executable, "-c", script, *arguments)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, env=environment)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"a run failed with {process.returncode}")
    return [float(figure) * 1000 for figure in out.split()]

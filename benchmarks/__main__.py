"""Runs the benchmarks, all or those named, and writes the report."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

from unitofwork.testing.postgres import EmbeddedPostgres

from . import (
    distance,
    external_calls,
    hot_rows,
    ledger_cost,
    many_engines,
    many_rows,
    memory,
    overhead,
    overload,
    peers,
    recorder_cost,
    round_trips,
    start_time,
    waiting,
)
from .model import create_tables
from .report import Section, commit_now, report

SCRIPTS = {
    "round_trips": round_trips,
    "distance": distance,
    "overhead": overhead,
    "peers": peers,
    "ledger_cost": ledger_cost,
    "recorder_cost": recorder_cost,
    "external_calls": external_calls,
    "hot_rows": hot_rows,
    "overload": overload,
    "waiting": waiting,
    "many_rows": many_rows,
    "many_engines": many_engines,
    "memory": memory,
    "start_time": start_time,
}


async def run(names: list[str], quick: bool) -> list[Section]:
    """One section for each script, all on one server."""
    sections = []
    with EmbeddedPostgres(18, {"max_connections": 500}) as server:
        create_tables(server)
        for name in names:
            began = time.perf_counter()
            sections.append(await SCRIPTS[name].measure(server, quick))
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return sections


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(SCRIPTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="in about two minutes")
    parser.add_argument("--output", type=Path, help="the report; REPORT.md after a full run")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(SCRIPTS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    commit, load, began = commit_now(), os.getloadavg()[0], time.perf_counter()
    sections = asyncio.run(run(asked.names or list(SCRIPTS), asked.quick))
    # A quick look, or a part, does not overwrite the report that is kept.
    whole = not asked.names and not asked.quick
    output = asked.output or (Path(__file__).with_name("REPORT.md") if whole else None)
    folder = output.parent if output is not None else None
    text = report(sections, asked.quick, commit, load, time.perf_counter() - began, folder)
    if output is None:
        print(text)
    else:
        output.write_text(text, encoding="utf-8")
        print(f"written: {output.name}")


if __name__ == "__main__":
    main()

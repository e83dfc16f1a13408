"""`UNITOFWORK_TRACE=1`: a line for each checkout and checkin, and a table of hold times at exit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from unitofwork.testing.postgres import EmbeddedPostgres

PROGRAM = """
import sys, time
from sqlalchemy import text
from unitofwork import UnitOfWork

uow = UnitOfWork.from_url(sys.argv[1], pool_size=2)

def short():
    with uow(name="short") as tx:
        tx.execute(text("SELECT 1"))  # short

def long():
    with uow(name="long") as tx:
        tx.execute(text("SELECT 1"))  # long
        time.sleep(0.2)

def raw():
    with uow.engine.connect():  # raw
        short()

short(); short(); long(); raw()
uow.engine.dispose()
"""


def run(url: str, directory: Path, trace: str) -> list[str]:
    program = directory / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), url],
        env={**os.environ, "UNITOFWORK_TRACE": trace},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.splitlines()


def place(name: str) -> str:
    lines = PROGRAM.splitlines()
    (found,) = [at for at, line in enumerate(lines, 1) if line.endswith(f"# {name}")]
    return f"program.py:{found} in {name}"


def test_trace(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Each checkout with the user's line and the pool's state; the longest held come first."""
    said = run(postgres.url("psycopg"), tmp_path, "1")
    checkouts = [line for line in said if line.startswith("checkout")]
    checkins = [line for line in said if line.startswith("checkin")]
    assert len(checkouts) == len(checkins) == 5
    taken = ["short", "short", "long", "raw", "short"]
    assert all(place(name) in line for name, line in zip(taken, checkouts, strict=True))
    assert "2 out, pool of 2, 0 overflow" in checkouts[4]
    assert all("1 out" in line for line in checkouts[:4])
    assert "unit 'long'" in checkins[2]
    found = re.search(r"after (\d+\.\d) ms", checkins[2])
    assert found is not None
    assert float(found[1]) >= 200

    (head,) = [at for at, line in enumerate(said) if line.split()[:1] == ["total"]]
    table = [line.split(maxsplit=4) for line in said[head + 1 :]]
    assert len(table) == 3
    assert place("long") in table[0][4]
    counts = {row[4].rsplit(" ", 1)[1]: int(row[1]) for row in table}
    assert counts == {"long": 1, "short": 3, "raw": 1}
    totals = [float(row[0]) for row in table]
    assert totals == sorted(totals, reverse=True)


def test_without_it_nothing_is_said(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Unset, empty or 0: not a line."""
    for off in ("", "0"):
        assert run(postgres.url("psycopg"), tmp_path, off) == []

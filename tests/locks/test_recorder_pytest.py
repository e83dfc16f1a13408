"""The recorder as a pytest plugin: a report at the end of the run, or a failure of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unitofwork.testing.postgres import EmbeddedPostgres

TESTS = """
from sqlalchemy import create_engine, text

engine = create_engine("sqlite://")

def write(*tables):
    with engine.begin() as connection:
        for table in ("a", "b"):
            connection.execute(text(f"CREATE TABLE IF NOT EXISTS {table} (id INT)"))
        for table in tables:
            connection.execute(text(f"UPDATE {table} SET id = 1 WHERE id = 1"))

def test_one():
    write("a", "b")

def test_two(lock_order):
    write("b", "a")
    assert lock_order.report().pairs == 2
    engine.dispose()
"""


SUITE = """
import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, create_engine, text
from unitofwork import UnitOfWork

metadata = MetaData()
for name in ("account", "note"):
    Table(f"suite_{name}", metadata, Column("id", Integer, primary_key=True))
Table("suite_order", metadata, Column("id", Integer, primary_key=True),
      Column("account_id", ForeignKey("suite_account.id")))

@pytest.fixture
def engine():
    engine = create_engine("%s")
    metadata.drop_all(engine)
    metadata.create_all(engine)
    yield engine
    metadata.drop_all(engine)
    engine.dispose()

@pytest.mark.parametrize("run", range(2))
def test_it(engine, run):
    with UnitOfWork(engine)() as tx:
        for table in ("suite_account", "suite_order"):
            tx.execute(text(f"UPDATE {table} SET id = 1 WHERE id = 1"))

def test_in_text(engine):
    with engine.begin() as connection:
        for table in ("suite_order", "suite_account"):
            connection.execute(text(f"LOCK TABLE {table}"))
"""


def run(directory: Path, *options: str, tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "unitofwork.testing.lock_order", *options]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("option", "code"), [("report", 0), ("error", 1)])
def test_a_run_ends_with_the_report(tmp_path: Path, option: str, code: int) -> None:
    """Two tests, each with one order: the circle between them is told, and fails if asked to."""
    done = run(tmp_path, f"--lock-order={option}")
    assert done.returncode == code, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "a and b are locked in no common order" in done.stdout
    assert done.stdout.count("test_it.py:11 in write") == 4


def test_one_order_passes(tmp_path: Path) -> None:
    """Also where a circle would be an error."""
    done = run(tmp_path, "--lock-order=error", "-k", "test_one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 circles" in done.stdout


def test_a_suite_that_makes_and_drops_its_tables_passes(
    tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """Its fixtures close no circle; LOCK TABLE in its text does."""
    suite = SUITE % postgres.url("psycopg")
    done = run(tmp_path, "--lock-order=error", "-k", "not text", tests=suite)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 pairs of locks, 0 circles" in done.stdout
    done = run(tmp_path, "--lock-order=error", tests=suite)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 circles" in done.stdout

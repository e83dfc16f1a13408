"""`unitofwork check` as a user starts it: a process of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.mariadb import MariaDB
from tests.support.pgbouncer import PgBouncer
from tests.support.proxy import Proxy
from tests.validator.rig import Cluster

from unitofwork.cli import main

CHECK = (sys.executable, "-m", "unitofwork.cli", "check")
#: Wide enough for the longest sum.
ENVIRONMENT = {**os.environ, "COLUMNS": "200"}
PASSWORD = "s3cret-of-bob"
FLEET = ("--workers", "2", "--replicas", "1")
LARGE = ("--workers", "4", "--replicas", "3", "--pool-size", "20", "--max-overflow", "10")
SUM = "4 workers x 3 replicas x (20 + 10) = 360 > 30 - 3 reserved - 1 in use = 26"


@dataclass(frozen=True)
class Done:
    """A run of the command."""

    returncode: int
    stdout: str
    stderr: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.stderr, self.stderr
        assert PASSWORD not in self.stdout + self.stderr


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, which saves the second that its imports take."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["unitofwork", "check", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


def start(*arguments: str, command: tuple[str, ...] = CHECK, cwd: Path | None = None) -> Done:
    """The command in a process of its own."""
    done = subprocess.run(
        [*command, *arguments],
        env=ENVIRONMENT,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def codes(done: Done) -> dict[str, str]:
    """Code and severity of what a run with `--format json` has found."""
    return {each["code"]: each["severity"] for each in json.loads(done.stdout)["findings"]}


def without(module: str) -> tuple[str, ...]:
    """The command line where `module` is not installed."""
    # What is None in sys.modules can't be imported.
    script = f"import sys; sys.modules[{module!r}] = None; from unitofwork.cli import main; main()"
    return (sys.executable, "-c", script)


@pytest.fixture
def url(cluster18: Cluster) -> Iterator[str]:
    """The URL of an ordinary role; any password is right."""
    with cluster18.account() as role:
        port = cluster18.server.port
        yield f"postgresql+asyncpg://{role}:{PASSWORD}@127.0.0.1:{port}/{cluster18.database}"


def test_a_fleet_that_fits(url: str) -> None:
    """Exit code 0; the target is shown without user and password."""
    done = start(url, *FLEET)
    assert done.returncode == 0, done.stdout
    assert re.match(r"postgresql\+asyncpg://127\.0\.0\.1:\d+/service\n", done.stdout)


def test_a_fleet_that_does_not_fit(run: Run, url: str) -> None:
    """Exit code 2, with the whole sum and the line to change."""
    done = run(url, *LARGE)
    assert done.returncode == 2
    assert SUM in done.stdout
    assert re.search(
        r"What to do: create_engine\(\.\.\., pool_size=1, max_overflow=0\)", done.stdout
    )
    assert re.search(r"^1 error, 1 warning, \d+ notes?$", done.stdout, re.MULTILINE)


def test_strict(run: Run, url: str) -> None:
    """A warning alone is exit code 0, and 1 with --strict."""
    asked = (url, *FLEET, "--max-overflow", "1", "--format", "json")
    lenient, strict = run(*asked), run(*asked, "--strict")
    assert (lenient.returncode, strict.returncode) == (0, 1)
    assert codes(lenient) == codes(strict)
    assert codes(strict)["overflow-churn"] == "warning"
    assert "error" not in codes(strict).values()


def test_json(run: Run, url: str) -> None:
    """Stdout is one JSON object, whatever there is to say."""
    done = run(url, *LARGE, "--format", "json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == told["exit_code"] == 2
    assert told["error"] is None
    first = told["findings"][0]
    assert (first["code"], first["severity"]) == ("fleet-too-large", "error")
    assert SUM in first["message"]
    assert first["pool_size"] == 1
    nothing = run("nonsense", "--format", "json")
    told = json.loads(nothing.stdout)
    assert nothing.returncode == told["exit_code"] == 2
    assert "nonsense" in told["error"]
    assert told["findings"] == []


def test_github(run: Run, url: str) -> None:
    """Each finding is one line that GitHub makes an annotation of; errors come first."""
    done = run(url, *LARGE, "--format", "github")
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert all(re.match(r"::(error|warning|notice) title=[\w-]+::\S", line) for line in lines)
    assert lines[0].startswith(f"::error title=fleet-too-large::{SUM}")
    assert "%0AWhat to do: create_engine(" in lines[0]
    assert run("nonsense", "--format", "github").stdout.startswith("::error title=unitofwork check")


def test_it_counts_with_the_throughput(run: Run, url: str) -> None:
    """From throughput and the time of a unit it computes the pool that is needed."""
    load = ("--throughput", "100", "--transaction-ms", "20", "--format", "json")
    findings = json.loads(run(url, *FLEET, *load).stdout)["findings"]
    recommended = next(each for each in findings if each["code"] == "recommendation")
    assert "100 units/s x 0.02 s / (2 workers x 1 replica) = 1 busy" in recommended["message"]
    assert recommended["pool_size"] == 3


def test_mariadb(run: Run, mariadb: MariaDB) -> None:
    """A URL of MariaDB is checked, though units don't work there yet."""
    done = run(mariadb.url(), "--workers", "10", "--format", "json")
    assert codes(done)["rolling-deploy"] == "warning"
    assert "10 workers x 5 = 100 > 50 (max_connections)" in done.stdout
    wrong = run(mariadb.url(password=PASSWORD), "--format", "json")
    assert wrong.returncode == 2
    assert codes(wrong)["access-denied"] == "error"


def test_a_wrong_password(run: Run, cluster18: Cluster) -> None:
    """It is told as what it is, exit code 2."""
    with cluster18.account() as role:
        with PgBouncer(cluster18.server.port, users={role: "another"}) as pooler:
            url = pooler.url("asyncpg", cluster18.database, role).replace("another", PASSWORD)
            done = run(url)
    assert done.returncode == 2
    assert "password authentication failed" in done.stdout


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg", "mysql+pymysql"])
def test_a_server_that_is_away(run: Run, driver: str) -> None:
    """A clear message and exit code 2."""
    with socket.socket() as taken:
        # Bound, and not listening: nobody else can answer there.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = run(f"{driver}://bob:{PASSWORD}@127.0.0.1:{port}/db")
    assert done.returncode == 2
    assert f"127.0.0.1:{port} can't be asked" in done.stdout
    assert "unreachable" in done.stdout


def test_a_server_that_comes_later(run: Run, url: str, cluster18: Cluster) -> None:
    """With --wait it is asked again until it is there."""
    with Proxy(cluster18.server.host, cluster18.server.port) as proxy:
        proxy.refuse()
        later = threading.Timer(0.7, proxy.refuse, (False,))
        later.start()
        through = url.replace(f":{cluster18.server.port}/", f":{proxy.port}/")
        done = run(through, *FLEET, "--wait", "30")
        later.join()
    assert done.returncode == 0, done.stdout


def test_a_server_that_says_nothing() -> None:
    """It gives up after 5 s, whatever the driver does, and ends then."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = time.monotonic()
        waiting = [
            subprocess.Popen(
                [*CHECK, f"{driver}://bob@127.0.0.1:{port}/db"], stdout=subprocess.PIPE, text=True
            )
            for driver in ("postgresql+asyncpg", "postgresql+psycopg", "mysql+pymysql")
        ]
        try:
            outputs = [each.communicate(timeout=30)[0] for each in waiting]
        finally:
            for each in waiting:
                each.kill()
                each.communicate()
    assert [each.returncode for each in waiting] == [2, 2, 2], outputs
    assert all("no answer within 5 s" in output for output in outputs)
    assert time.monotonic() - begun < 25


@pytest.mark.parametrize(
    "target",
    [
        f"postgresql+asyncpg://bob:{PASSWORD}@127.0.0.1:port/db",
        # The @ in the password should have been %40.
        f"postgresql+asyncpg://bob:x@{PASSWORD}@127.0.0.1/db",
        f"postgresql+asyncpg://bob:x/{PASSWORD}@127.0.0.1:port/db",
        f"nosuch+driver://bob:{PASSWORD}@127.0.0.1/db",
    ],
)
def test_a_url_that_cannot_be_read(run: Run, target: str) -> None:
    """One line, no password, exit code 2."""
    done = run(target)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("unitofwork check: ")
    assert json.loads(run(target, "--format", "json").stdout)["error"]


def test_sqlite(run: Run, tmp_path: Path) -> None:
    """A file is checked; one that is not there is not made."""
    file = tmp_path / "data.db"
    missing = run(f"sqlite+aiosqlite:///{file}")
    assert (missing.returncode, file.exists()) == (2, False)
    assert missing.stderr == f"unitofwork check: there is no file {file}\n"
    file.touch()
    done = run(f"sqlite+aiosqlite:///{file}", "--format", "json", "--strict")
    assert done.returncode == 1
    assert codes(done)["sqlite-journal"] == "warning"


def test_module_and_attribute(url: str, tmp_path: Path) -> None:
    """A unit of work or an engine of the application, with the pool that it really has."""
    (tmp_path / "service.py").write_text(
        "from sqlalchemy import create_engine\n"
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "from unitofwork import AsyncUnitOfWork\n"
        "print('hello')\n"
        f"URL = {url!r}\n"
        "class db:\n"
        "    uow = AsyncUnitOfWork.from_url(URL, pool_size=7)\n"
        "engine = create_engine(URL.replace('asyncpg', 'psycopg'), pool_size=8)\n"
    )
    large = ("--workers", "4", "--format", "json")
    of_uow = start("service:db.uow", *large, cwd=tmp_path)
    assert "4 workers x 7 = 28 > 30 - 3 reserved - 1 in use = 26" in of_uow.stdout
    assert "hello" in of_uow.stderr
    of_engine = start("service:engine", *large, cwd=tmp_path)
    # Both pools of the process count.
    assert "4 workers x ((8 + 10) + 7) = 100 > 30" in of_engine.stdout
    assert (of_uow.returncode, of_engine.returncode) == (2, 2)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("service:missing", "module service has no attribute missing"),
        ("service:URL", "service:URL is a str, not a unit of work or an engine of SQLAlchemy"),
        ("nowhere:uow", "can't import nowhere: ModuleNotFoundError: No module named 'nowhere'"),
        ("broken:uow", "can't import broken: RuntimeError: no postgresql://***@db/x"),
        ("service", "'service' is neither a URL nor module:attribute"),
    ],
)
def test_a_target_that_is_none(
    run: Run, target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what is wrong, no password, exit code 2."""
    (tmp_path / "service.py").write_text("URL = 'postgresql://'\n")
    (tmp_path / "broken.py").write_text(
        f"raise RuntimeError('no postgresql://bob:{PASSWORD}@db/x')\n"
    )
    monkeypatch.chdir(tmp_path)
    # Put back what was there, which is nothing: each run has a module of its own.
    monkeypatch.setitem(sys.modules, "service", None)
    del sys.modules["service"]
    done = run(target)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"unitofwork check: {message}\n"


@pytest.mark.parametrize(
    ("missing", "extra"), [("typer", "cli"), ("rich", "cli"), ("asyncpg", "asyncpg")]
)
def test_a_missing_extra_is_named(missing: str, extra: str) -> None:
    """Without it: one line with the command that installs it, exit code 2."""
    done = start("check", "postgresql+asyncpg://bob@127.0.0.1/db", command=without(missing))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"needs {missing}: pip install 'sqlalchemy-unitofwork[{extra}]'" in done.stderr


def test_one_command_does_not_need_what_another_needs() -> None:
    """Without the demo's extras the list of commands is complete, and says what is missing."""
    done = start("--help", command=without("aiohttp"))
    assert done.returncode == 0, done.stderr
    assert "check" in done.stdout
    assert "Needs aiohttp: pip install 'sqlalchemy-unitofwork[demo]'" in done.stdout


def test_it_is_quick(url: str) -> None:
    """It serves as a readiness command: under a second on an idle machine, most of it imports."""
    used = []
    for _ in range(2):
        before = os.times()
        assert start(url, *FLEET).returncode == 0
        after = os.times()
        # Not the time on the wall, which says how busy the machine is.
        used.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(used) < 2, used

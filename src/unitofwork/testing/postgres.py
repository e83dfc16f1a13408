"""A private, real PostgreSQL for tests and demos, out of a wheel: no system package, no Docker."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import quote

from ._workshop import ENVIRONMENT, EmbeddedPostgresError, Workshop, wheel_install, workshop

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
CONF = "embedded.conf"
INCLUDE = f"include_if_exists = '{CONF}'"
# A server that lives for one test run need not survive a power cut. It must survive `kill`, so
# synchronous_commit stays on: without fsync it costs nothing, and off it loses commits there.
DEFAULTS: Mapping[str, str | int] = MappingProxyType(
    {
        "fsync": "off",
        "full_page_writes": "off",
        # In the data directory, so that a killed server leaves nothing in /dev/shm.
        "dynamic_shared_memory_type": "mmap",
    }
)


class EmbeddedPostgres:
    """A PostgreSQL server of one's own on a free loopback port; a context manager.

    Args:
        version: 16 or 18, the two that the wheel carries.
        settings: server settings, `{"deadlock_timeout": "200ms"}`; they win over the defaults,
            which trade durability for speed (`fsync` off: safe but where the machine crashes).
        data_dir: keep the data here; it outlives `stop`. Without it the data is in a temporary
            directory that `stop` removes.

    The superuser is `postgres`, with no password, from this machine only. Works as root too: the
    server then runs as `nobody`. It is stopped at the end of the process, however that ends.

    Raises:
        EmbeddedPostgresError: from any method; the wheel is missing, or the server won't start
            (the message has the end of its log).
    """

    host = "127.0.0.1"

    def __init__(
        self,
        version: int = 18,
        settings: Mapping[str, str | int] = MappingProxyType({}),
        data_dir: Path | None = None,
    ) -> None:
        self.version = version
        self.settings = {**DEFAULTS, **settings}
        self.data_dir = data_dir
        self._temporary = data_dir is None
        self._name = ""
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        if self._process is None:
            raise EmbeddedPostgresError("the server is not running: call start() first")
        return self._process.pid

    @property
    def port(self) -> int:
        """The TCP port, chosen at the first start and kept from then on."""
        if self._port is None:
            raise EmbeddedPostgresError("the server has no port yet: call start() first")
        return self._port

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        path = workshop().directory / f"{self._name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def url(
        self,
        driver: str | None = "asyncpg",
        database: str = "postgres",
        user: str = "postgres",
        host: str | None = None,
        port: int | None = None,
    ) -> str:
        """The server's URL: for SQLAlchemy with a driver, for libpq and psql with None.

        `host` and `port` replace the server's own, to go through a proxy.
        """
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        address = f"{host or self.host}:{port or self.port}"
        return f"{scheme}://{quote(user, safe='')}@{address}/{quote(database, safe='')}"

    def psql(self, sql: str, database: str = "postgres", user: str = "postgres") -> str:
        """Run a script as `user`, each statement on its own; the rows, columns split by `|`."""
        result = subprocess.run(
            [
                str(wheel_install(self.version) / "bin" / "psql"),
                *("--no-psqlrc", "--quiet", "--no-align", "--tuples-only"),
                *("--set", "ON_ERROR_STOP=1", "--file", "-"),
                *("--dbname", self.url(None, database, user)),
            ],
            input=sql,
            env={**ENVIRONMENT, "PGCLIENTENCODING": "UTF8"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if result.returncode:
            raise EmbeddedPostgresError(f"psql failed: {result.stderr.strip()}")
        return result.stdout.strip()

    def start(self) -> None:
        """Start the server and wait until it takes connections; no-op if it runs."""
        if self.running:
            return
        shop = workshop()
        self._name = self._name or shop.new_name()
        data = self._prepare(shop)
        binaries = shop.binaries(self.version)
        tries = 1 if self._port else 5
        while True:
            tries -= 1
            port = self._port or _free_port(self.host)
            self._configure(shop, data, port)
            with open(shop.directory / f"{self._name}.log", "ab") as log:
                mark = log.tell()
                process = subprocess.Popen(
                    [str(binaries / "postgres"), "-D", str(data)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=ENVIRONMENT,
                    # Its own session: a Ctrl-C must end the tests first, then the server.
                    start_new_session=True,
                    **shop.as_user,
                )
            self._process = process
            shop.at_exit[id(self)] = self.stop
            if _wait_until_ready(process, data):
                self._port = port
                return
            self._end(signal.SIGQUIT)
            message = self.log[mark:]
            # Somebody took the port between our look and the server's bind.
            if tries == 0 or "could not bind" not in message:
                self.stop()
                raise EmbeddedPostgresError(
                    f"PostgreSQL {self.version} did not start; the end of its log:\n"
                    + "\n".join(message.splitlines()[-20:])
                )

    def stop(self) -> None:
        """Stop the server, breaking its connections; remove its data unless `data_dir` was given.

        No-op if it was never started.
        """
        if not self._name:
            return
        # Data about to be removed needs no checkpoint.
        self._end(signal.SIGQUIT if self._temporary else signal.SIGINT)
        workshop().at_exit.pop(id(self), None)
        if self._temporary and self.data_dir is not None:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self.data_dir = None

    def restart(self) -> None:
        """Stop and start, with the same data on the same port; connections are broken."""
        self._end(signal.SIGINT)
        self.start()

    def kill(self) -> None:
        """End the server like a crash of its machine would: SIGKILL to each of its processes.

        The data stays; `start` recovers it, on the same port.
        """
        if self._process is None:
            return
        import psutil  # type: ignore[import-untyped]

        try:
            postmaster = psutil.Process(self._process.pid)
            # A stopped postmaster can't fork the child that would be missing from the list.
            postmaster.suspend()
            children = postmaster.children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.kill()
        self._process.wait()
        self._process = None
        _wait_until(lambda: not any(_alive(child.pid) for child in children), STOP_TIMEOUT)
        (workshop().directory / f"{self._name}.pid").unlink(missing_ok=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _prepare(self, shop: Workshop) -> Path:
        """The data directory, filled from the template where it is new."""
        if self.data_dir is None:
            self.data_dir = shop.directory / f"{self._name}.data"
        data = self.data_dir
        if (data / "PG_VERSION").exists():
            return data
        if not data.exists():
            data.mkdir(mode=0o700, parents=True)
        if any(data.iterdir()):
            raise EmbeddedPostgresError(f"{data} is neither empty nor a PostgreSQL data directory")
        data.chmod(0o700)
        shop.give(data)
        if not shop.reaches(data):
            raise EmbeddedPostgresError(
                f"the user that runs the server can't enter {data}: choose a data_dir below /tmp"
            )
        result = shop.run("cp", "-R", f"{shop.template(self.version)}/.", data)
        if result.returncode:
            raise EmbeddedPostgresError(f"can't fill {data}: {result.stderr.strip()}")
        return data

    def _configure(self, shop: Workshop, data: Path, port: int) -> None:
        """Write the settings to a file of their own, so that ALTER SYSTEM still wins over them."""
        settings: dict[str, str | int] = {
            **self.settings,
            "listen_addresses": self.host,
            "port": port,
            "unix_socket_directories": "",
            "external_pid_file": str(shop.directory / f"{self._name}.pid"),
        }
        lines = [f"{name} = {_literal(value)}\n" for name, value in settings.items()]
        (data / CONF).write_text("".join(lines))
        shop.give(data / CONF)
        main = data / "postgresql.conf"
        if INCLUDE not in main.read_text():
            with open(main, "a") as file:
                file.write(f"\n{INCLUDE}\n")


def _literal(value: str | int) -> str:
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _free_port(host: str) -> int:
    """A free port outside the range of outgoing connections.

    One of those could take the port of a stopped server before it starts again.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> bool:
    """Wait for the postmaster's own word that it is ready; False if it ends or is too slow."""

    def status() -> str:
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        # The file may still be that of a killed predecessor.
        return lines[7].strip() if len(lines) > 7 and lines[0] == str(process.pid) else ""

    _wait_until(lambda: status() == "ready" or process.poll() is not None, START_TIMEOUT)
    return status() == "ready" and process.poll() is None


def _wait_until(condition: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and only not yet reaped does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

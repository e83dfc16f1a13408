"""A private instance of a server that came with a Debian package, on a free loopback port."""

from __future__ import annotations

import abc
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from unitofwork.testing._workshop import ENVIRONMENT, workshop
from unitofwork.testing.postgres import _free_port

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


class ServiceError(RuntimeError):
    """The program is not installed, or it won't start; the message has the end of its log."""


class Service(abc.ABC):
    """Base of the rigs: it runs beside whatever the package started, and as an ordinary user.

    Its files sit in the workshop of the embedded PostgreSQL, whose watchdog ends it too when this
    process is killed.
    """

    host = "127.0.0.1"
    program: str
    package: str

    def __init__(self) -> None:
        self.port = 0
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

    @abc.abstractmethod
    def command(self, program: str) -> list[str]:
        """What to run; writes the configuration into `self.directory` first."""

    @property
    def pid_file(self) -> Path:
        """Where the program keeps its process id, for the watchdog of the workshop to find."""
        return self.directory.with_suffix(".pid")

    @property
    def log(self) -> str:
        """What the instance has logged so far."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the instance and wait until it takes connections."""
        program = executable(self.program, self.package)
        shop = workshop()
        self.directory = shop.directory / f"{shop.new_name()}.{self.program}"
        self.directory.mkdir(mode=0o700)
        shop.give(self.directory)
        self.port = _free_port(self.host)
        command = self.command(program)
        with open(self.directory / "log", "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT,
                # Its own session: a Ctrl-C must end the tests first, then the server.
                start_new_session=True,
                **shop.as_user,
            )
        shop.at_exit[id(self)] = self.stop
        if not self._answers():
            end = "\n".join(self.log.splitlines()[-20:])
            self.stop()
            raise ServiceError(f"{self.program} did not start; the end of its log:\n{end}")

    def stop(self) -> None:
        """End the instance, breaking its connections, and remove its files."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        workshop().at_exit.pop(id(self), None)
        self.pid_file.unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        return False


def executable(program: str, package: str) -> str:
    """The path of a program, also where sbin is not on the user's path. Raises `ServiceError`."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    found = shutil.which(program, path=path)
    if found is None:
        raise ServiceError(f"{program} is not installed: apt-get install {package}")
    return found

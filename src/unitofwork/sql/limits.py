"""A limit for an exchange with the server: at its end the socket is shut down.

On a network that does not answer, cancelling a driver takes it as long as its own patience, and a
blocking one can't be cancelled at all. A socket that is shut down ends both at once, and the
driver says what it is: a lost connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from math import inf
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import Dialect

from .drivers import LINES

#: Seconds between two looks of the watchdog.
PRECISION = 0.05
#: Seconds that a server gets for one byte on a new connection.
ANSWER_TIMEOUT = 1.5
#: An answer that old, in seconds, is as good as a new one.
FRESH = 0.5
#: Between two questions.
MOST_SILENCE = 2.0
#: PostgreSQL's SSLRequest, which is answered before anyone is asked for a password:
#: https://www.postgresql.org/docs/current/protocol-message-formats.html
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
log = logging.getLogger("unitofwork.pool")


class Limit:
    """`with Limit(2.0, dialect, find):` shuts the socket down if the block takes longer.

    `seconds`: None for no limit. `find`: the driver's connection, asked for when time is up; None
    where there is none. `silence`: after so many seconds, and again and again, the server is asked
    on a new connection for a sign of life, and time is up when it gives none.

    Drivers whose sockets are not known have no limit: see `is_known`.
    """

    def __init__(
        self,
        seconds: float | None,
        dialect: Dialect,
        find: Callable[[], Any],
        silence: float | None = None,
    ) -> None:
        self.fired = False
        self._find = find
        self._silence = silence
        self._seconds = seconds
        self._line = LINES.get(dialect.driver)
        self._is_async = dialect.is_async
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_asking = False
        self._ends_at = self._asks_at = inf

    @staticmethod
    def is_known(dialect: Dialect) -> bool:
        """Whether the limit holds with this driver."""
        return dialect.driver in LINES

    def __enter__(self) -> Self:
        now = time.monotonic()
        if self._seconds is not None:
            self._ends_at = now + self._seconds
        if self._silence is not None:
            self._asks_at = now + self._silence
        if self._line is not None and min(self._ends_at, self._asks_at) < inf:
            self._loop = asyncio.get_running_loop() if self._is_async else None
            _WATCHDOG.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._line is not None:
            _WATCHDOG.discard(self)

    def end_now(self) -> None:
        """Shut the socket down, whatever time is left."""
        driver = self._find()
        if driver is not None and self._line is not None:
            self.fired = True
            self._line.shut(driver)

    # --- in the watchdog's thread

    def look(self, now: float) -> None:
        """Do what is due."""
        if now >= self._ends_at:
            self._time_is_up()
        elif now >= self._asks_at and not self._is_asking:
            self._is_asking = True
            threading.Thread(target=self._ask, name="unitofwork-ask", daemon=True).start()

    def _ask(self) -> None:
        driver, line = self._find(), self._line
        address = None if driver is None or line is None else line.peer(driver)
        if address is not None and not SIGNS.at(address):
            log.warning("the server at %s gives no sign of life; a connection is closed", address)
            self._ends_at = 0.0
        # A busy server is asked less and less often.
        self._silence = min(2 * (self._silence or 0.0), MOST_SILENCE)
        self._asks_at = time.monotonic() + self._silence
        self._is_asking = False

    def _time_is_up(self) -> None:
        self._ends_at = self._asks_at = inf
        if self._loop is None:
            self.end_now()
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._shut_if_still_in_block)

    def _shut_if_still_in_block(self) -> None:
        if self in _WATCHDOG.limits:
            self.end_now()


class _Watchdog:
    """One thread for the process, which sleeps while there is no limit to keep."""

    def __init__(self) -> None:
        self.limits: set[Limit] = set()
        # Held while a socket is shut: the block can't be left meanwhile, so that the connection
        # can't be anybody else's yet. Reentrant, because a garbage collection meanwhile may end a
        # unit that was abandoned right here, in this thread, and so its limits.
        self._lock = threading.RLock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, limit: Limit) -> None:
        self.limits.add(limit)
        if not self._wanted.is_set():
            self._wanted.set()
        if self._thread is None:
            self._start()

    def discard(self, limit: Limit) -> None:
        with self._lock:
            self.limits.discard(limit)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                name = "unitofwork-limits"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            while self.limits:
                now = time.monotonic()
                for limit in tuple(self.limits):
                    with self._lock:
                        if limit in self.limits:
                            self._look(limit, now)
                time.sleep(PRECISION)

    def _look(self, limit: Limit, now: float) -> None:
        try:
            limit.look(now)
        except Exception:
            self.limits.discard(limit)
            log.exception("a connection could not be ended at its limit")


class Signs:
    """Signs of life of servers: many that wait for the same one ask once."""

    def __init__(self) -> None:
        self._locks: dict[Any, threading.Lock] = {}
        self._answers: dict[Any, tuple[float, bool]] = {}

    def at(self, address: Any) -> bool:
        """Whether a PostgreSQL server, or a pooler before it, answers there. Blocks."""
        with self._locks.setdefault(address, threading.Lock()):
            asked_at, answer = self._answers.get(address, (-inf, False))
            if time.monotonic() - asked_at > FRESH:
                answer = gives_a_sign(address)
                self._answers[address] = time.monotonic(), answer
            return answer


def gives_a_sign(address: Any) -> bool:
    """Ask now, for `ANSWER_TIMEOUT` at most."""
    if isinstance(address, (str, bytes)):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    try:
        with socket.socket(family) as line:
            line.settimeout(ANSWER_TIMEOUT)
            line.connect(address)
            line.sendall(_SSL_REQUEST)
            return bool(line.recv(1))
    except OSError:
        return False


SIGNS = Signs()
_WATCHDOG = _Watchdog()


def _in_child() -> None:
    # The parent's threads are not here, and their locks may have been held at the fork.
    global _WATCHDOG, SIGNS
    _WATCHDOG, SIGNS = _Watchdog(), Signs()


os.register_at_fork(after_in_child=_in_child)

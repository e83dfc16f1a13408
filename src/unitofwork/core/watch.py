"""The watch: a thread that looks at what is out and reports what is held for nothing.

A thread also for asyncio: a task could not look while a blocking call stops its event loop, which
is one of the things to be found.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Literal

from ..policies.holding import Sight, Verdict, judge
from . import places, reports
from .holders import Hold
from .home import Home

ExternalAwaits = Literal["warn", "raise"]
log = logging.getLogger("unitofwork.watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRules:
    """How long a connection may be held idle, in seconds, and what happens then."""

    hold_warning: float = 1.0
    external_awaits: ExternalAwaits = "warn"


class Watch:
    """Looks at one engine's connections several times within `hold_warning`."""

    def __init__(self, home: Home, rules: WatchRules) -> None:
        self._home = home
        self._rules = rules
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unitofwork-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; returns when the thread has ended."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        pause = min(1.0, max(0.005, self._rules.hold_warning / 4))
        while not self._stopped.wait(pause):
            for hold in list(self._home.ledger.holds.values()):
                if not hold.reported:
                    try:
                        self._look(hold)
                    except Exception:
                        # Frames of a task that runs meanwhile can vanish; look again next time.
                        log.debug("the watch could not look at a connection", exc_info=True)

    def _look(self, hold: Hold) -> None:
        idle_since = hold.idle_since
        frames = hold.stack()
        in_database_call = places.in_database_call(frames)
        now = time.monotonic()
        if in_database_call:
            # Fetching a large result is no statement of its own: remember that it was at work.
            hold.busy_at = now
        idle_for = None if idle_since is None else now - max(idle_since, hold.busy_at)
        sight = Sight(
            idle_for=idle_for,
            owner_is_gone=hold.owner_is_gone(),
            in_database_call=in_database_call,
        )
        match judge(sight, self._rules.hold_warning):
            case Verdict.LEAKED:
                hold.reported = True
                reports.leaked(hold)
            case Verdict.WAITING_ELSEWHERE if hold.idle_since == idle_since:
                hold.reported = True
                found = reports.held_while_waiting(hold, frames)
                if self._rules.external_awaits == "raise" and hold.unit is not None:
                    hold.unit.violation = found
            case _:
                pass

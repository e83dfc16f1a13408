"""The trace mode, `UNITOFWORK_TRACE=1`: a line for each checkout and checkin, a table at exit."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections import defaultdict

from sqlalchemy import Engine
from sqlalchemy.pool import QueuePool

from ..types import Place
from .holders import Hold

log = logging.getLogger("unitofwork.trace")


def trace_wanted() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get("UNITOFWORK_TRACE", "") not in ("", "0")


class Trace:
    """Writes to the logger `unitofwork.trace`, which it sends to stderr."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: Seconds that connections were held, by the place that took them.
        self.held: dict[Place, list[float]] = defaultdict(list)
        if not log.handlers:
            log.addHandler(logging.StreamHandler(sys.stderr))
            log.setLevel(logging.INFO)
            log.propagate = False
        atexit.register(self.print_table)

    def checked_out(self, hold: Hold, out: int) -> None:
        """A connection was taken; `out` are out now."""
        log.info("checkout by %s at %s; %s", hold.owner_name, hold.acquired_at, self._pool(out))

    def checked_in(self, hold: Hold, out: int, seconds: float) -> None:
        """A connection came back after `seconds`; `out` are out now."""
        self.held[hold.acquired_at].append(seconds)
        who = f"unit {hold.unit.name!r}" if hold.unit is not None else hold.owner_name
        milliseconds = seconds * 1000
        log.info("checkin by %s after %.1f ms; %s", who, milliseconds, self._pool(out))

    def _pool(self, out: int) -> str:
        pool = self._engine.pool
        if not isinstance(pool, QueuePool):
            return f"{out} out of a {type(pool).__name__}"
        overflow = max(0, out - pool.size())
        return f"{out} out, pool of {pool.size()}, {overflow} overflow"

    def print_table(self) -> None:
        """Hold times by place, the most time first."""
        rows = sorted(self.held.items(), key=lambda item: -sum(item[1]))
        url = self._engine.url.render_as_string(hide_password=True)
        lines = [f"connections of {url} were held, in ms:"]
        lines.append(f"{'total':>10} {'count':>7} {'median':>9} {'longest':>9}  taken at")
        for place, times in rows:
            ordered = sorted(times)
            figures = (sum(times), ordered[len(times) // 2], ordered[-1])
            total, median, longest = (figure * 1000 for figure in figures)
            lines.append(f"{total:>10.1f} {len(times):>7} {median:>9.1f} {longest:>9.1f}  {place}")
        print("\n".join(lines), file=sys.stderr)

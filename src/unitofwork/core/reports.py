"""What the log says of connections that are held too long, and when they come back."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from types import FrameType

from ..errors import ConnectionLeakWarning, HeldWhileWaitingWarning
from ..types import Place
from . import places
from .holders import Hold

log = logging.getLogger("unitofwork.watch")


def held_while_waiting(hold: Hold, frames: list[FrameType]) -> HeldWhileWaitingWarning:
    """Report a connection whose owner waits for something else than the database."""
    now = time.monotonic()
    seen = hold.seen(now)
    start = places.user_frame(frames, hold.acquired_at) or 0
    chain = [_line(frame) for frame in frames[start:]]
    if len(chain) > 8:
        chain = [chain[0], "...", *chain[-7:]]
    waiting = "".join(f"\n    {line}" for line in chain)
    message = HeldWhileWaitingWarning(
        f"{_who(hold)} has held a connection for {seen.held_for:.2f} s, and has not used it for "
        f"{seen.idle_for:.2f} s.\n"
        f"  taken at: {seen.acquired_at}\n"
        f"  now at: {seen.waiting_at or 'a place unknown'}, inside of:{waiting}\n"
        f"  last statement: {_statement(hold)}\n"
        "  What to do: put the wait into `tx.released()` or `tx.outside()`, or before or after "
        "the unit.\n  Explained at: docs/errors.md#held-while-waiting"
    )
    _report(message, seen.waiting_at or seen.acquired_at)
    return message


def leaked(hold: Hold) -> None:
    """Report a connection whose task or thread has ended without returning it."""
    held = time.monotonic() - hold.since
    message = ConnectionLeakWarning(
        f"A connection is still out after {held:.2f} s, but {hold.owner_name}, which took it, "
        f"has ended.\n  taken at: {hold.acquired_at}\n  last statement: {_statement(hold)}\n"
        "  What to do: take connections in a `with` block, or use a unit.\n"
        "  Explained at: docs/errors.md#connection-leak"
    )
    _report(message, hold.acquired_at)


def came_back(hold: Hold) -> None:
    """The end of a story that was reported."""
    held = time.monotonic() - hold.since
    log.warning(
        "The connection taken at %s by %s came back after %.2f s.",
        hold.acquired_at,
        _who(hold),
        held,
    )


def _report(message: Warning, place: Place) -> None:
    log.warning("%s", message)
    with contextlib.suppress(Warning):  # made an error by a filter; the watch must go on
        warnings.warn_explicit(message, type(message), place.file, place.line)


def _who(hold: Hold) -> str:
    unit = f" in unit {hold.unit.name!r}" if hold.unit is not None else ""
    return f"{hold.owner_name}{unit}"


def _statement(hold: Hold) -> str:
    return " ".join((hold.last_statement or "none yet").split())[:200]


def _line(frame: FrameType) -> str:
    place = places.place_of(frame)
    module = frame.f_globals.get("__name__", os.path.basename(place.file))
    return f"{module}:{place.line} {place.function}"

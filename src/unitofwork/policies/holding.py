"""When a connection that is held is worth a report, and whose fault it is; pure decisions."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """What the watch thinks of one connection that is out."""

    FINE = "fine"
    #: Held, but waiting for something else than the database.
    WAITING_ELSEWHERE = "waiting elsewhere"
    #: Held by nobody any more.
    LEAKED = "leaked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is known of a connection at one moment."""

    #: Seconds since its last statement ended; None during a statement.
    idle_for: float | None
    owner_is_gone: bool
    #: The owner is inside SQLAlchemy or the driver, below its last frame of user code.
    in_database_call: bool


def judge(sight: Sight, hold_warning: float) -> Verdict:
    """Judge by the threshold `hold_warning`, in seconds."""
    if sight.owner_is_gone:
        return Verdict.LEAKED
    if sight.idle_for is None or sight.idle_for < hold_warning or sight.in_database_call:
        return Verdict.FINE
    return Verdict.WAITING_ELSEWHERE

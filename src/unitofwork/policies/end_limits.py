"""How long a server gets for the end of a transaction, in seconds; pure."""

from __future__ import annotations

#: A server that answers at all answers a ROLLBACK at once; closing the connection does the same.
ROLLBACK = 2.0
#: A COMMIT under way gets this also past the unit's time: cutting it leaves its outcome unknown.
COMMIT = 4.5
#: At the least, where the unit's time is nearly over.
LEAST = 0.5
#: A COMMIT that takes longer than this makes us ask whether the server is there at all.
SILENCE = 0.5
#: Past the unit's time, for the server to stop a statement by itself, which it does at that time.
STATEMENT_GRACE = 0.5
#: What becomes of a lost COMMIT: to be asked for, as the server may be restarting.
SETTLING = 5.0


def for_rollback(remaining: float | None) -> float:
    """For a ROLLBACK with `remaining` of the unit's time; None: it has no timeout."""
    return ROLLBACK if remaining is None else max(LEAST, min(ROLLBACK, remaining))


def for_commit(remaining: float | None) -> float | None:
    """For a COMMIT; None: as long as it takes, while the server gives signs of life."""
    return None if remaining is None else max(COMMIT, remaining)


def for_statement(remaining: float | None) -> float | None:
    """Until a statement is over at the latest; None: the unit has no timeout."""
    return None if remaining is None else remaining + STATEMENT_GRACE

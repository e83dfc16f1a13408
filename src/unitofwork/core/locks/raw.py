"""Writes whose row locks can't be told beforehand: they wait for a short time only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy.engine import ExecutionContext

from ...errors import LateLockError
from ...policies.locks.book import HIGHEST, NOTHING, Strength, Wants
from ...policies.statements import Effect, effect_of
from ...sql.sqlstates import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE
from ...sql.symptoms import sqlstate_in
from ...sql.waits import place_of_wait, telling_of, waits_for_value
from .. import places
from .acquire import limit_waits
from .late import late_row
from .refusal import absent_from, asked_for, in_table, tell_refusal
from .strict import refused

if TYPE_CHECKING:
    from ..unit import Unit
    from .footprint import Footprint

#: Execution option of a statement whose locks were taken in order before it is sent.
ORDERED = "unitofwork_ordered"
log = logging.getLogger("unitofwork.locks")


def before_sending(unit: Unit, context: ExecutionContext) -> None:
    """Note what a statement will leave in the transaction, and limit it if that is unordered.

    An unordered write, or lock, waits for less than the server's deadlock_timeout. Raises
    `UnorderedWriteError` with `strict_locks`.
    """
    statement = context.statement
    if unit.is_locking or statement is None:
        return
    effect = effect_of(statement)
    if effect is Effect.NOTHING:
        return
    if effect is not Effect.UNSURE and not _is_ordered(unit, context):
        _limit_or_refuse(unit, context, effect)
    unit.sent(statement, effect)


def _limit_or_refuse(unit: Unit, context: ExecutionContext, effect: Effect) -> None:
    if not unit.home.rules.locks_rows:
        return
    if unit.is_strict:
        raise refused(unit, context, effect)
    holds_nothing = unit.book.top is None and not unit.sent_unordered
    if not (effect is Effect.LOCK and holds_nothing):
        # A SELECT ... FOR UPDATE that comes first may wait behind others as long as it likes.
        limit_waits(unit, context.root_connection)
    holds_unknown(unit)
    unit.sent_unordered = True


def _is_ordered(unit: Unit, context: ExecutionContext) -> bool:
    if ORDERED in context.execution_options:
        return True
    # A flush has taken its locks; what the application's mapper events send meanwhile has not.
    return unit.flushing is not None and _is_of_flush(unit.flushing, context)


def _is_of_flush(flushing: Footprint, context: ExecutionContext) -> bool:
    """Whether SQLAlchemy's own flush has sent it.

    Mappers keep what they have compiled in a cache of their own; the rows of association tables
    are written without.
    """
    if context.compiled is None:
        return False
    if "compiled_cache" in context.execution_options:
        return True
    return getattr(context.compiled.statement, "table", None) in flushing.associations


def holds_unknown(unit: Unit) -> None:
    """The unit may hold any row from now on, so it waits for none: a request is late.

    Only where a refusal has it run again; elsewhere the server's detector is what remains.
    """
    if unit.story is not None:
        unit.book.touch(HIGHEST.rank)


# --- reports


def report(unit: Unit, error: BaseException, statement: str | None) -> LateLockError | None:
    """Say what the server told of a lock that was not granted, where nobody was to wait for it.

    Returns the error to raise in the place of the server's, if any.
    """
    state = sqlstate_in(error)
    if state == DEADLOCK_DETECTED:
        unit.home.lock_trouble["deadlock"] += 1
        unit.deadlock = error
        told = _both_sides(unit, error, statement)
        error.add_note(told)
        # Also where the unit is run again, and nobody sees the error.
        log.warning("deadlock: %s", told)
        return None
    if state != LOCK_NOT_AVAILABLE:
        return None
    if not unit.is_trying:  # or else the error for a late lock tells it
        tell_refusal(unit, error)
    if _was_not_to_wait(unit, statement):
        come = _come_since(unit, error)
        if come:
            late = late_row(unit, come)
            for note in getattr(error, "__notes__", ()):
                late.add_note(note)
            return late
        unit.home.lock_trouble["uncovered"] += 1
        log.warning(
            "uncovered wait: unit %r waited at %s for a lock in table %s that it had not taken in "
            "order; the statement was ended: %s",
            unit.name,
            places.caller(),
            place_of_wait(error) or "(which, the server does not tell)",
            " ".join((statement or "COMMIT").split())[:500],
        )
    return None


def _come_since(unit: Unit, error: BaseException) -> Wants:
    """What was not there when it was asked for, in the table whose row is waited for now."""
    if waits_for_value(error):
        return NOTHING
    return in_table(absent_from(unit), place_of_wait(error))


def _was_not_to_wait(unit: Unit, statement: str | None) -> bool:
    asked_not_to = statement is not None and "nowait" in statement.lower()
    # A statement that went alone, in order, has waited for as long as its caller allows.
    return unit.waits_are_limited and not unit.is_locking and not asked_not_to


def _both_sides(unit: Unit, error: BaseException, statement: str | None) -> str:
    held = sorted(unit.book.held.items())
    listed = "".join(
        f"\n    {resource}: {lock.strength.name}, locked at {lock.place or 'a place unknown'}"
        for resource, lock in held[:20]
    )
    more = f"\n    and {len(held) - 20} more" if len(held) > 20 else ""
    asked = {*unit.wanted, *asked_for(unit)} - unit.book.held.keys()
    wanted = "".join(f"\n    {resource}" for resource in sorted(asked)[:20])
    sent = " ".join((statement or "COMMIT").split())[:500]
    said = str(telling_of(error)).replace("\n", "\n    ")
    return (
        f"Unit {unit.name!r} was the victim of a deadlock. The server said:\n    {said}\n"
        f"  The unit waited for a lock in: {place_of_wait(error) or 'a place unknown'}\n"
        f"  It held, as far as it knows, in the order of locks:{listed or ' nothing'}{more}\n"
        f"  It wanted further:{wanted or ' nothing that is known'}\n"
        f"  It had sent: {sent}\n"
        "  The other side waits for one of these, or is a writer outside of units; the server's "
        f"log has the statements of both.{_about_one_row(unit)}"
    )


def _about_one_row(unit: Unit) -> str:
    if not {Strength.KEY_SHARE, Strength.UPDATE} & {*unit.asking.values()}:
        return ""
    return (
        "\n  UPDATE and KEY SHARE of one row can deadlock by PostgreSQL's own doing, whoever holds "
        "what: docs/locks.md, 'One row'."
    )

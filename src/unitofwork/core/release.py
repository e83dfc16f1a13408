"""Release and reacquire: a unit that waits for the outside world holds nothing meanwhile."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import (
    CommitUnknownError,
    ConfigurationError,
    TransactionStateError,
    UnsavedWorkError,
)
from ..policies.locks.book import Book
from ..types import Outcome, Place
from . import admission, places
from .ending import commit_transaction
from .reads import Recheck, recheck, rows_read
from .soundness import unsound
from .transaction import CoreTransaction

if TYPE_CHECKING:
    from .unit import Unit

log = logging.getLogger("unitofwork.unit")


def release(tx: CoreTransaction, commit: bool, relock: bool, place: Place) -> None:
    """End the transaction and return connection and permits; the session keeps what it loaded.

    `relock`: take the same locks again when the unit goes on. `place`: the user's line.

    Raises `UnsavedWorkError` if work would be lost, `TransactionStateError` inside a savepoint,
    `SilentRollbackError` after a swallowed failure; with `commit` what a commit can raise.
    """
    unit = tx.unit
    unit.begin_use()
    try:
        if tx.in_nested_transaction():
            raise TransactionStateError(
                f"Unit {unit.name!r} can't be released inside a savepoint, at {place}.",
                "leave the savepoint first.",
                name=unit.name,
                opened_at=unit.opened_at,
            )
        unit.relock = unit.book.strengths() if commit and relock else {}
        if commit:
            commit_transaction(tx, goes_on=True)
            unit.committed_before = unit.committed_before or unit.connection is not None
        else:
            silent = unsound(tx)
            if silent is not None:
                raise silent
            _refuse_to_lose(tx, place)
            _end_reading(tx)
        was_released(tx, place)
    except CommitUnknownError:
        unit.released_at = place  # if it is in doubt: nothing may be sent meanwhile
        raise
    finally:
        unit.end_use()


def was_released(tx: CoreTransaction, place: Place) -> None:
    """The transaction has ended well: note what it had read, and where it was released."""
    tx.unit.rows_read = rows_read(tx)
    tx.unit.released_at = place
    _back_to_the_start(tx.unit)


def _end_reading(tx: CoreTransaction) -> None:
    transaction, connection = tx.get_transaction(), tx.unit.connection
    try:
        if transaction is not None:
            # Not Session.rollback(), which would expire every attribute that was loaded.
            transaction.close()
    except Exception as error:
        log.warning("unit %r: ROLLBACK failed, connection dropped: %r", tx.unit.name, error)
        if connection is not None:
            if not connection.closed and not connection.invalidated:
                connection.invalidate(error)
            connection.close()


def _back_to_the_start(unit: Unit) -> None:
    unit.home.let_go(unit)
    admission.leave(unit)
    unit.outcome = Outcome.PENDING
    unit.commit_was_sent = False
    unit.transaction_id = None
    unit.connection_was_lent = False
    unit.failed_statement = None
    unit.book = Book(unit.book.floor)
    unit.fresh.clear()
    unit.session_lock_timeout = None
    unit.waits_are_limited = unit.tripwire_is_set = False
    unit.unsaved.clear()
    unit.may_have_written = unit.sent_unordered = False


def _refuse_to_lose(tx: CoreTransaction, place: Place) -> None:
    unit = tx.unit
    pending = [f"new: {_named(each)}" for each in tx.new]
    pending += [f"changed: {_named(each)}" for each in tx.dirty if tx.is_modified(each)]
    pending += [f"deleted: {_named(each)}" for each in tx.deleted]
    pending += [f"locked: {resource}" for resource in unit.book.held]
    pending += unit.unsaved_work()
    # A round trip, where the statements alone don't show that nothing was written.
    unsure = (unit.may_have_written or unit.connection_was_lent) and not unit.settings.read_only
    connection = unit.connection if unsure else None
    if not pending and connection is not None and unit.home.rules.has_written(connection):
        pending = ["written or locked by a statement whose text does not show it"]
    if pending:
        listed = "".join(f"\n  - {each}" for each in pending[:20])
        raise UnsavedWorkError(
            f"Unit {unit.name!r} has work that releasing it at {place} would lose:{listed}",
            "release before writing or locking; or pass commit=True to commit this part now, "
            "which nothing later can undo (relock=True takes its locks again afterwards).",
            pending=tuple(pending),
        )


def _named(instance: object) -> str:
    return type(instance).__name__


def check_recheck(how: str) -> None:
    """Refuse an unknown `recheck` before anything is let go."""
    if how not in ("raise", "refresh", "ignore"):
        raise ConfigurationError(
            f"recheck={how!r} is unknown.", "use 'raise', 'refresh' or 'ignore'."
        )


def check_released(unit: Unit) -> None:
    """Refuse to reacquire what is not released."""
    if unit.ended or unit.released_at is None:
        raise TransactionStateError(
            f"Unit {unit.name!r} is not released; reacquire() at {places.caller()} has no sense.",
            "call release() first, or use `released()` as a block.",
            name=unit.name,
            opened_at=unit.opened_at,
        )


def resume(tx: CoreTransaction, how: Recheck) -> None:
    """The unit has its permits again: compare what it had read, in a new transaction.

    Raises `StaleReadError`.
    """
    unit = tx.unit
    unit.released_at = None
    if how == "ignore":
        unit.rows_read = []
    elif unit.rows_read:
        recheck(tx, unit.rows_read, how)
        if how == "refresh":
            unit.rows_read = rows_read(tx)

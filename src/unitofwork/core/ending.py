"""The end of a unit: COMMIT or ROLLBACK once, the connection returned, the outcome settled."""

from __future__ import annotations

import logging

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from ..errors import CommitUnknownError
from ..policies.outcome import after_failed_commit
from ..sql.symptoms import sqlstate_in
from ..types import Outcome
from . import admission
from .locks.fresh import learn_written
from .locks.other_side import tell_other_side
from .settling import NOTHING_WRITTEN, settle
from .soundness import unsound
from .stopping import stop_query
from .transaction import CoreTransaction
from .unit import Unit

log = logging.getLogger("unitofwork.unit")


def has_pending_changes(tx: CoreTransaction) -> bool:
    """Whether a flush would send something."""
    # As `dirty` counts them, which makes a set of them.
    return bool(tx.identity_map.check_modified() or tx.new or tx.deleted)


def needs_database(tx: CoreTransaction) -> bool:
    """Whether the end has anything to do on the wire."""
    return tx.unit.connection is not None or has_pending_changes(tx)


def finish(tx: CoreTransaction, error: BaseException | None) -> None:
    """End the unit whose block was left by `error`, or by none.

    Raises what kept a block that ended well from being committed: `SilentRollbackError`,
    `CommitUnknownError`, `ConcurrentUseError`, or the database's own error. When it returns or
    raises, the connection is out of the unit's hands and `outcome` is true.
    """
    unit = tx.unit
    if unit.ended:
        return
    misuse = unit.busy_elsewhere()
    if misuse is not None:
        _abandon(tx)
        if error is None:
            raise misuse
        log.warning("%s", misuse)
    elif error is not None or unit.rollback_only:
        roll_back(tx)
    elif unit.violation is not None:
        roll_back(tx)
        raise unit.violation
    elif unit.is_late():
        roll_back(tx)
        raise unit.timed_out()
    elif unit.doom is not None:
        roll_back(tx)
        raise unit.silent_rollback(unit.doom)
    else:
        _commit(tx)


def _commit(tx: CoreTransaction) -> None:
    unit = tx.unit
    try:
        commit_transaction(tx)
        Session.close(tx)
        unit.end(Outcome.COMMITTED)
    except CommitUnknownError:
        raise  # it has ended, or is in doubt
    except BaseException:
        if not unit.ended:
            roll_back(tx)
        raise


def is_in_doubt(unit: Unit) -> bool:
    """Whether all that the unit has left to do is to ask the application what its COMMIT did."""
    return unit.outcome is Outcome.UNKNOWN and not unit.ended


def commit_transaction(tx: CoreTransaction, *, goes_on: bool = False) -> None:
    """Flush and COMMIT, and return the connection.

    If that fails, the unit has ended and its outcome is true; raises why. One that has a `verify`
    and an unknown outcome is left in doubt by `CommitUnknownError`: see `conclude`.
    `goes_on`: the session is used further.
    """
    unit, rules = tx.unit, tx.unit.home.rules
    try:
        silent = unsound(tx)
        if silent is not None:
            raise silent
        while has_pending_changes(tx):
            tx.flush()
        if goes_on:
            learn_written(tx)
        if unit.connection is not None:
            if unit.settings.confirm_commit and unit.transaction_id is None:
                unit.transaction_id = rules.transaction_id(unit.connection) or NOTHING_WRITTEN
            unit.commit_was_sent = not rules.is_closed(unit.connection)
        Session.commit(tx)
    except BaseException as error:
        _commit_failed(tx, error, goes_on)
        if unit.outcome is not Outcome.COMMITTED or not isinstance(error, Exception):
            raise
        log.warning("unit %r is committed; its connection was dropped: %r", unit.name, error)


def _commit_failed(tx: CoreTransaction, error: BaseException, goes_on: bool) -> None:
    """Settle the outcome and let go of the connection. Raises if the outcome is unknown."""
    unit = tx.unit
    connection = unit.connection
    if unit.outcome is Outcome.PENDING:
        lost = not isinstance(error, Exception) or (
            connection is not None and (connection.invalidated or connection.closed)
        )
        unit.outcome = after_failed_commit(
            sent=unit.commit_was_sent, sqlstate=sqlstate_in(error), lost=lost
        )
    if connection is not None and not (connection.invalidated or connection.closed):
        # SQLite keeps a transaction open whose COMMIT failed, and SQLAlchemy takes it for ended.
        try:
            connection.connection.rollback()
        except Exception as failed:
            connection.invalidate(failed)
    _return_connection(tx, connection, keep_session=goes_on)
    if unit.outcome is Outcome.UNKNOWN and isinstance(error, Exception):
        unit.outcome = settle(unit)
        if unit.outcome is Outcome.COMMITTED:
            return
        if unit.outcome is Outcome.UNKNOWN and unit.settings.verify is not None:
            unit.home.let_go(unit)
            admission.leave(unit)
            raise commit_unknown(unit) from error
    unit.end(unit.outcome)
    if unit.outcome is Outcome.UNKNOWN and isinstance(error, Exception):
        raise commit_unknown(unit) from error


def conclude(unit: Unit, unknown: CommitUnknownError, outcome: Outcome) -> None:
    """End a unit that was in doubt. Raises unless it is found committed."""
    unit.end(outcome)
    unknown.outcome = outcome
    lost = unknown.__cause__
    if outcome is Outcome.ROLLED_BACK and lost is not None:
        raise lost from lost.__cause__
    if outcome is not Outcome.COMMITTED:
        raise unknown


def commit_unknown(unit: Unit) -> CommitUnknownError:
    """The error for a COMMIT whose answer never came."""
    return CommitUnknownError(
        f"The connection of unit {unit.name!r} was lost while COMMIT was under way: its work may "
        f"or may not be in the database.\n  It was opened at {unit.opened_at}.",
        "look in the database for what the unit would have written before doing it again; "
        "running it again blindly may apply it twice.",
        name=unit.name,
        outcome=unit.outcome,
    )


def roll_back(tx: CoreTransaction) -> None:
    """Roll back and return the connection. Never raises an `Exception`: a cause is on its way.

    If ROLLBACK fails, the connection is closed instead, which rolls back just as surely.
    """
    try:
        _return_connection(tx, tx.unit.connection)
    finally:
        # An interrupted search for the fate of a COMMIT leaves it unknown.
        undecided = tx.unit.outcome is Outcome.PENDING
        tx.unit.end(Outcome.ROLLED_BACK if undecided else tx.unit.outcome)


def _return_connection(
    tx: CoreTransaction, connection: Connection | None, *, keep_session: bool = False
) -> None:
    transaction = tx.get_transaction()
    try:
        if connection is not None and tx.unit.deadlock is not None:
            tell_other_side(tx.unit, connection)
        if not keep_session:
            Session.close(tx)
        elif transaction is not None:
            transaction.close()
    except BaseException as error:
        # Closed sessions leave a connection behind whose ROLLBACK failed: drop it by hand.
        if connection is not None:
            if not connection.closed and not connection.invalidated:
                connection.invalidate(error)
            connection.close()
        if not isinstance(error, Exception):
            raise
        log.warning("unit %r: ROLLBACK failed, connection dropped: %r", tx.unit.name, error)


def _abandon(tx: CoreTransaction) -> None:
    """End a unit while another task (thread) is in the middle of a statement of it."""
    connection = tx.unit.connection
    tx.unit.end(Outcome.ROLLED_BACK)
    if connection is not None and not connection.invalidated:
        # Its wire is in use, so no ROLLBACK can be sent; the other one gets a disconnect error.
        stop_query(connection, None)
        connection.invalidate()
    _return_connection(tx, connection)

"""Whether a transaction whose block went on after an error can still be committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SilentRollbackError

if TYPE_CHECKING:
    from .transaction import CoreTransaction


def unsound(tx: CoreTransaction) -> SilentRollbackError | None:
    """The error for work that can only be rolled back, because a failure in it was swallowed.

    The server is asked only where something did fail, or may have failed unseen on a connection
    that was lent out: a round trip that sound units never pay.
    """
    unit, connection = tx.unit, tx.unit.connection
    failed = unit.failed_statement
    if connection is None or (failed is None and not unit.connection_was_lent):
        return None
    lost = connection.invalidated or connection.closed
    if lost or not tx.is_active or unit.home.rules.would_roll_back(connection):
        return unit.silent_rollback(failed)
    return None

"""What became of a COMMIT whose answer was lost, asked of the server on another connection."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import exc

from ..types import Outcome

if TYPE_CHECKING:
    from .unit import Unit

log = logging.getLogger("unitofwork.unit")

#: Seconds to ask for, and between two questions: the server may be restarting, or the backend
#: still be at work on the COMMIT.
PATIENCE = 5.0
PAUSE = 0.05


def settle(unit: Unit) -> Outcome:
    """The outcome of `unit`, as far as it can be found out now."""
    if unit.transaction_id is None:
        return Outcome.UNKNOWN
    if unit.transaction_id == NOTHING_WRITTEN:
        return Outcome.COMMITTED
    deadline = time.monotonic() + PATIENCE
    while True:
        outcome = _ask(unit, unit.transaction_id)
        if outcome is not None:
            log.info("unit %r: its COMMIT was lost, and found %s", unit.name, outcome.value)
            return outcome
        if time.monotonic() >= deadline:
            return Outcome.UNKNOWN
        unit.home.pause(PAUSE)


#: The transaction had no id, for it had written nothing: there is nothing to be lost.
NOTHING_WRITTEN = ""


def _ask(unit: Unit, transaction_id: str) -> Outcome | None:
    try:
        with unit.home.engine.connect() as connection:
            fate = unit.home.rules.fate_of_transaction(connection, transaction_id)
    except exc.SQLAlchemyError as error:
        log.info("unit %r: can't ask about its COMMIT yet: %r", unit.name, error)
        return None
    match fate:
        case "committed":
            return Outcome.COMMITTED
        case "aborted":
            return Outcome.ROLLED_BACK
        case "in progress":
            return None
        case _:  # so long ago that the server has forgotten it
            return Outcome.UNKNOWN

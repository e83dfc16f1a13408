"""What became of a COMMIT whose answer was lost: the server is asked, then the application."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import exc

from ..policies.end_limits import SETTLING
from ..sql.limits import Limit
from ..types import Outcome

if TYPE_CHECKING:
    from .unit import Unit

log = logging.getLogger("unitofwork.unit")

#: Seconds between two questions: the server may be restarting, or the backend still be at work
#: on the COMMIT.
PAUSE = 0.05

#: The transaction had no id, for it had written nothing: there is nothing to be lost.
NOTHING_WRITTEN = ""


def settle(unit: Unit) -> Outcome:
    """The outcome of `unit`, as far as the server can say it now."""
    if unit.transaction_id is None:
        return Outcome.UNKNOWN
    if unit.transaction_id == NOTHING_WRITTEN:
        return Outcome.COMMITTED
    deadline = time.monotonic() + SETTLING
    while True:
        outcome = _ask(unit, unit.transaction_id, deadline - time.monotonic())
        if outcome is not None:
            log.info("unit %r: its COMMIT was lost, and found %s", unit.name, outcome.value)
            return outcome
        if time.monotonic() >= deadline:
            return Outcome.UNKNOWN
        unit.home.pause(PAUSE)


def _ask(unit: Unit, transaction_id: str, seconds: float) -> Outcome | None:
    engine = unit.home.engine
    try:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            with Limit(seconds, engine.dialect, lambda: driver):
                fate = unit.home.rules.fate_of_transaction(connection, transaction_id)
    except (exc.SQLAlchemyError, OSError) as error:  # asyncpg: no connection, no wrapper
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


def verified(unit: Unit, answer: object) -> Outcome:
    """The outcome by what `verify` returned."""
    if answer is True or answer is False:
        log.info("unit %r: its COMMIT was lost; verify says %s", unit.name, answer)
        return Outcome.COMMITTED if answer else Outcome.ROLLED_BACK
    if answer is not None:
        log.error("unit %r: verify must return True, False or None, not %r", unit.name, answer)
    return Outcome.UNKNOWN


def not_verified(unit: Unit, error: Exception) -> Outcome:
    """The outcome where `verify` failed."""
    log.error("unit %r: verify failed, so its COMMIT stays unknown", unit.name, exc_info=error)
    return Outcome.UNKNOWN

"""Units inside of units: what the outer ones hold counts for the inner ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import TransactionStateError
from ...policies.locks.book import HIGHEST, Position, Wants
from .. import places

if TYPE_CHECKING:
    from ..unit import Unit


def floor(unit: Unit) -> Position | None:
    """The highest position that the units around `unit` hold.

    They end after it, so for whoever waits for them it is as if `unit` held their locks. One of
    an engine that comes later in the order makes every request late (LOCKS class 24).
    """
    found: Position | None = None
    for outer in unit.around:
        top = None if outer.ended else outer.book.top
        if top is None or outer.home.rank < unit.home.rank:
            continue
        if outer.home is not unit.home:
            return HIGHEST
        found = top if found is None else max(found, top)
    return found


def refuse_own_rows(unit: Unit, wants: Wants) -> None:
    """Raise `TransactionStateError` for rows of a unit around this one: no wait would ever end."""
    for outer in unit.around:
        if outer.ended or outer.home is not unit.home:
            continue
        common = sorted(outer.book.held.keys() & wants.keys())
        if common:
            raise TransactionStateError(
                f"Unit {unit.name!r} asked at {places.caller()} for {common[0]}, which unit "
                f"{outer.name!r} around it has locked: it would wait for itself.",
                "do that part of the work in the outer unit: leave propagation='requires_new' out.",
                name=unit.name,
                opened_at=unit.opened_at,
            )

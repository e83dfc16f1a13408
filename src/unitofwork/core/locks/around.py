"""Units inside of units: what the outer ones hold counts for the inner ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import TransactionStateError
from ...policies.locks.book import HIGHEST, Held, Position, Wants
from ...policies.locks.order import Resource
from .. import places

if TYPE_CHECKING:
    from ..unit import Unit


def floor(unit: Unit) -> Position | None:
    """The highest position that the units around `unit` hold.

    They end after it, so for whoever waits for them it is as if `unit` held their locks. One of
    an engine that comes later in the order makes every request late (LOCKS class 24).
    """
    found: Position | None = None
    for outer in _in_its_way(unit):
        top = outer.book.top
        if top is None:
            continue
        if outer.home is not unit.home:
            return HIGHEST
        found = top if found is None else max(found, top)
    return found


def _in_its_way(unit: Unit) -> Iterator[Unit]:
    """The units around it whose locks count for it."""
    for outer in unit.around:
        if not outer.ended and outer.home.rank >= unit.home.rank:
            yield outer


def holding_around(
    unit: Unit, resource: Resource
) -> Iterator[tuple[Unit, list[tuple[Resource, Held]]]]:
    """The units around it with what they hold that makes a request for `resource` late."""
    for outer in _in_its_way(unit):
        is_same = outer.home is unit.home
        held = outer.book.in_the_way(resource) if is_same else outer.book.held.items()
        yield outer, sorted(held)


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

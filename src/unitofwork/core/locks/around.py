"""Units inside of units: what the outer ones hold counts for the inner ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...policies.locks.book import HIGHEST, Position

if TYPE_CHECKING:
    from ..unit import Unit


def floor(unit: Unit, around: Sequence[Unit]) -> Position | None:
    """The highest position that the units around `unit` hold.

    They end after it, so for whoever waits for them it is as if `unit` held their locks. One of
    an engine that comes later in the order makes every request late (LOCKS class 24).
    """
    found: Position | None = None
    for outer in around:
        top = None if outer.ended else outer.book.top
        if top is None or outer.home.rank < unit.home.rank:
            continue
        if outer.home is not unit.home:
            return HIGHEST
        found = top if found is None else max(found, top)
    return found

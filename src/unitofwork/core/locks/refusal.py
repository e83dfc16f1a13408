"""A lock that was not granted in the time allowed: what was asked for, and who here holds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...policies.locks.book import NOTHING, Wants, conflict
from ...sql.waits import place_of_wait, waits_for_value
from .. import places
from ..listing import listed
from .late import told

if TYPE_CHECKING:
    from ..unit import Unit


def asked_for(unit: Unit) -> Wants:
    """What the unit has asked for just now: by a lock query, or by a flush that needed none."""
    flushing = NOTHING if unit.flushing is None else unit.flushing.wants
    return {**flushing, **absent_from(unit), **unit.asking}


def absent_from(unit: Unit) -> Wants:
    """What the flush or statement under way locks, and was not there when it was asked for."""
    flushing = NOTHING if unit.flushing is None else unit.flushing.absent
    return {**flushing, **unit.absent}


def tell_refusal(unit: Unit, error: BaseException) -> None:
    """Note it on the server's error, which tells the table at best."""
    asked: Wants = unit.book.missing(asked_for(unit))
    of_table = in_table(asked, place_of_wait(error))
    if of_table or waits_for_value(error):
        asked = of_table
    if not asked and not unit.is_locking:
        return
    rows = [told(resource, asked[resource]) for resource in sorted(asked)]
    held = list(_held_here(unit, asked))
    error.add_note(
        f"Unit {unit.name!r} asked at {places.caller()} for locks, and did not get them in the "
        f"time that it had to wait:{listed(rows or _UNKNOWN, indent=_INDENT)}\n"
        "  Of these, other units of this engine in this process hold:"
        f"{listed(held or _NONE, indent=_INDENT)}"
    )


def in_table(wants: Wants, table: str | None) -> Wants:
    """Those in a table, which the server names without its schema."""
    return {one: how for one, how in wants.items() if one.rank.name.split(".")[-1] == table}


_INDENT = "\n    "
_UNKNOWN = ("the rows that its query finds",)
_NONE = ("none that is known: another process does, or a writer outside of units",)


def _held_here(unit: Unit, asked: Wants) -> Iterator[str]:
    """What is in the books of others; they go on writing them meanwhile, in threads."""
    others = [one for one in list(unit.home.running) if one is not unit]
    for resource in sorted(asked):
        for other in others:
            lock = other.book.held.get(resource)
            if lock is not None and conflict(lock.strength, asked[resource]):
                place = lock.place or "a place unknown"
                yield f"{told(resource, lock.strength)}, by unit {other.name!r}, locked at {place}"

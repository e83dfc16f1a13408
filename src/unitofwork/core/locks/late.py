"""The error for a lock that was asked for out of order: what was in the way, and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import LateLockError
from ...policies.locks.book import HIGHEST, Held, Strength, Wants, stronger
from ...policies.locks.order import NAMES, Resource
from .. import places
from ..listing import listed
from .around import holding_around

if TYPE_CHECKING:
    from ..unit import Unit


def late_lock(unit: Unit, wants: Wants) -> LateLockError:
    """The error for a lock that was asked for out of order and is not free."""
    _refused(unit, wants)
    wanted = sorted(wants)
    first = wanted[0]
    held = sorted(unit.book.in_the_way(first))
    earlier = [_held(*each) for each in held]
    for outer, theirs in holding_around(unit, first):
        held += theirs
        earlier += [f"{_held(*each)}, by unit {outer.name!r} around it" for each in theirs]
    return LateLockError(
        f"Unit {unit.name!r} asked at {places.caller()} for locks that others hold, out of the "
        "global order, so waiting for them could have ended in a circle:"
        f"{listed([told(one, wants[one]) for one in wanted])}\n"
        "  It held already, at or above the first of them:"
        f"{listed(earlier or [_unknown_in_the_way(unit, first)], most=5)}",
        f"{_remedy(unit, wants)}{_RUN_AGAIN if unit.story is None else '.'}",
        wanted=tuple(str(resource) for resource in wanted),
        held=tuple(str(resource) for resource, _ in held),
    )


def late_row(unit: Unit, wants: Wants) -> LateLockError:
    """The error for rows that came after their lock query, and that others have locked by now."""
    _refused(unit, wants)
    wanted = sorted(wants)
    return LateLockError(
        f"Unit {unit.name!r} wrote at {places.caller()} rows that were not there when it asked for "
        "their locks. Others have inserted and locked one of them since, so it was not locked in "
        "the global order, and waiting for it could have ended in a circle:"
        f"{listed([told(one, wants[one]) for one in wanted])}",
        "what was read of these rows is out of date; read them in a new unit"
        f"{_RUN_AGAIN if unit.story is None else '.'}",
        wanted=tuple(str(resource) for resource in wanted),
    )


def _refused(unit: Unit, wants: Wants) -> None:
    unit.home.lock_trouble["late"] += 1
    # Kept with the unit: a savepoint on the way out of it makes the book forget.
    stronger(unit.wanted, unit.book.strengths())
    stronger(unit.wanted, wants)


def told(resource: Resource, strength: Strength) -> str:
    """A lock in words; of a name there is but one strength."""
    return str(resource) if resource.rank == NAMES else f"{resource}: {strength.name}"


def _held(resource: Resource, lock: Held) -> str:
    return f"{told(resource, lock.strength)}, locked at {lock.place or 'a place unknown'}"


def _unknown_in_the_way(unit: Unit, resource: Resource) -> str:
    passed = unit.book.passed_above(resource)
    if passed is None:
        return "what a unit around this one holds"
    if passed.rank == HIGHEST.rank:
        return "whatever the statements have locked that were sent as they are (raw SQL)"
    return f"rows of {passed.rank.name} that it has inserted, deleted or looked for"


def _remedy(unit: Unit, wants: Wants) -> str:
    weaker = sorted(unit.book.held.keys() & wants.keys())
    if weaker:
        row = weaker[0]
        place = unit.book.held[row].place or "the place where it was locked"
        strength = wants[row].name.lower()
        return (
            f'ask for the stronger lock of {row} first: strength="{strength}", at {place} already'
        )
    names = [resource.key for resource in sorted(wants) if resource.rank == NAMES]
    if names:
        return (
            "give the unit its names as an option, which are taken first and in order: "
            f"lock_names={names[:5]!r}, with all others that it takes. Names come before all rows; "
            "among them a hash decides, which you can't know"
        )
    return (
        "lock these rows together with the others, first thing in the unit (tx.lock_many, "
        "tx.lock_across)"
    )


_RUN_AGAIN = (
    "; or let it be run again, and lock them in order the next time: @transactional, uow.run and "
    "uow.attempts do that, unless with retry=None or inside of another unit."
)

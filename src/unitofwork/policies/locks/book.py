"""What a unit holds, and which further locks it may wait for (LOCKS rules R1, R2, R8, R9)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from ...types import Place
from .order import NAMES, Rank, Resource


class Strength(enum.IntEnum):
    """PostgreSQL's row lock modes; a stronger one covers the weaker ones.

    https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS
    """

    KEY_SHARE = 1
    SHARE = 2
    NO_KEY_UPDATE = 3
    UPDATE = 4


def conflict(one: Strength, other: Strength) -> bool:
    """Whether two transactions can't have these on one row at once.

    PostgreSQL's table of conflicts, by the numbers above.
    """
    return one + other > 4


Wants = Mapping[Resource, Strength]
NOTHING: Wants = MappingProxyType({})


class Position(NamedTuple):
    """A place in the global order. Each row has two: its key (0), and after it the rest (1).

    KEY SHARE takes the first for reading, NO KEY UPDATE the second for writing, SHARE and UPDATE
    take both: that is PostgreSQL's table of conflicts.
    """

    rank: Rank
    order: tuple[object, ...]
    part: int


#: Above everything.
HIGHEST = Position(Rank(9, 0, ""), (), 1)


class Held(NamedTuple):
    """One lock in the book."""

    strength: Strength
    #: The user's line that took it.
    place: Place | None
    #: False for UPDATE that may be NO KEY UPDATE only: see `Book.record`.
    is_sure: bool = True

    def covers(self, strength: Strength) -> bool:
        """Whether nothing is left to be locked."""
        return self.strength >= strength and (self.is_sure or strength < Strength.UPDATE)


class Mark(NamedTuple):
    """How much of the book was written at a savepoint."""

    locks: int
    inserted: int
    written: int
    passed: int


@dataclass(slots=True)
class Plan:
    """What to do about a request, each part in the global order."""

    #: Above everything held: these may be waited for.
    in_order: dict[Resource, Strength] = field(default_factory=dict)
    #: At or below something held, or an upgrade: these are tried without waiting.
    late: dict[Resource, Strength] = field(default_factory=dict)


class Book:
    """The locks of one transaction.

    `floor` tells the highest position that units around this one hold now; nothing up to it
    may be waited for.
    """

    def __init__(self, floor: Callable[[], Position | None] | None = None) -> None:
        self.held: dict[Resource, Held] = {}
        #: Rows that this transaction has inserted: nobody else can see them, let alone wait.
        self.inserted: set[Resource] = set()
        #: Rows that it has written to, whose foreign keys are checked anew at the next write.
        self.written: set[Resource] = set()
        self.floor = floor
        self._top: Position | None = None
        #: Where the transaction may hold something. Before all rows of a table: the shared lock of
        #: a locker or writer, which whoever keeps all others out of the table waits for.
        self._passed: list[Position] = []
        self._undo: list[tuple[Resource, Held | None]] = []
        self._inserted_log: list[Resource] = []
        self._written_log: list[Resource] = []

    def __bool__(self) -> bool:
        return bool(self.held)

    @property
    def top(self) -> Position | None:
        """The highest position held, by this unit or around it; None: nothing."""
        floor = self.floor() if self.floor is not None else None
        return floor if self._top is None else max(self._top, floor or self._top)

    def covers(self, resource: Resource, strength: Strength) -> bool:
        """Whether the lock is held already."""
        if resource in self.inserted:
            return True
        held = self.held.get(resource)
        return held is not None and held.covers(strength)

    def plan(self, wants: Wants) -> Plan:
        """Sort what is not held yet into what may be waited for and what may not."""
        plan, top = Plan(), self.top
        for resource in sorted(wants):
            strength = wants[resource]
            if self.covers(resource, strength):
                continue
            above = top is None or lowest(resource, strength) > top
            (plan.in_order if above else plan.late)[resource] = strength
        return plan

    def missing(self, wants: Wants) -> dict[Resource, Strength]:
        """Those of the locks that are not held."""
        return {one: how for one, how in wants.items() if not self.covers(one, how)}

    def record(
        self,
        resource: Resource,
        strength: Strength,
        place: Place | None = None,
        *,
        is_sure: bool = True,
    ) -> None:
        """Note a lock that the database has granted.

        `is_sure`: False for one that a write has taken by itself. PostgreSQL locks a row for an
        UPDATE of key columns as for one of others where no value is a new one, which a copy that is
        out of date does not tell.
        """
        held = self.held.get(resource)
        known = strength if is_sure else min(strength, Strength.NO_KEY_UPDATE)
        if held is not None and held.strength >= strength and held.covers(known):
            return
        self._undo.append((resource, held))
        self.held[resource] = Held(strength, held.place if held else place, known == strength)
        position = _highest(resource, strength)
        if self._top is None or position > self._top:
            self._top = position

    def touch(self, rank: Rank) -> None:
        """Note that a lock query, or an INSERT, has been at a table."""
        if rank.tier != NAMES.tier and not self.is_touched(rank):
            self._pass(Position(rank, (), 0))

    def pass_by(self, resource: Resource, strength: Strength) -> None:
        """Note a lock that is held if there was such a row, which nobody has told."""
        self._pass(_highest(resource, strength))

    def has_passed(self, resource: Resource, strength: Strength) -> bool:
        """Whether it may hold the lock by `pass_by`."""
        return _highest(resource, strength) in self._passed

    def _pass(self, position: Position) -> None:
        self._passed.append(position)
        if self._top is None or position > self._top:
            self._top = position

    def is_touched(self, rank: Rank) -> bool:
        """Whether a lock query, or an INSERT, has been at the table."""
        return Position(rank, (), 0) in self._passed

    def record_inserted(self, resource: Resource) -> None:
        """Note a row of one's own."""
        self.touch(resource.rank)
        # Deleted and inserted anew, it stays a row of one's own whatever is rolled back between.
        if resource not in self.inserted:
            self.inserted.add(resource)
            self._inserted_log.append(resource)

    def record_written(self, resource: Resource) -> None:
        """Note that a row was written to."""
        if resource not in self.written:
            self.written.add(resource)
            self._written_log.append(resource)

    def has_written(self, resource: Resource) -> bool:
        """Whether the transaction has made or changed the row.

        At each further UPDATE of it PostgreSQL checks also the foreign keys that stay as they are
        (RI_FKey_fk_upd_check_required in its ri_triggers.c: one added by this transaction).
        """
        return resource in self.written or resource in self.inserted

    def mark(self) -> Mark:
        """A point to go back to: a savepoint."""
        return Mark(
            locks=len(self._undo),
            inserted=len(self._inserted_log),
            written=len(self._written_log),
            passed=len(self._passed),
        )

    def back_to(self, mark: Mark) -> None:
        """Forget what was locked and written since: ROLLBACK TO SAVEPOINT has released it."""
        locks, inserted, written, passed = mark
        while len(self._undo) > locks:
            resource, before = self._undo.pop()
            if before is None:
                del self.held[resource]
            else:
                self.held[resource] = before
        self.inserted.difference_update(self._inserted_log[inserted:])
        del self._inserted_log[inserted:]
        self.written.difference_update(self._written_log[written:])
        del self._written_log[written:]
        del self._passed[passed:]
        positions = [_highest(resource, held.strength) for resource, held in self.held.items()]
        self._top = max(positions + self._passed, default=None)

    def strengths(self) -> dict[Resource, Strength]:
        """What is held, to be taken again by a further attempt."""
        return {resource: held.strength for resource, held in self.held.items()}

    def in_the_way(self, resource: Resource) -> Iterator[tuple[Resource, Held]]:
        """What is held at or above `resource`, and so makes a request for it late."""
        for other, held in self.held.items():
            if _highest(other, held.strength) >= lowest(resource, Strength.KEY_SHARE):
                yield other, held

    def passed_above(self, resource: Resource) -> Position | None:
        """The highest place at or above `resource` where something unknown may be held."""
        highest = max(self._passed, default=None)
        is_above = highest is not None and highest >= lowest(resource, Strength.KEY_SHARE)
        return highest if is_above else None


def lowest(resource: Resource, strength: Strength) -> Position:
    """The first position that taking this lock could wait at."""
    part = 1 if strength is Strength.NO_KEY_UPDATE else 0
    return Position(resource.rank, resource.order, part)


def _highest(resource: Resource, strength: Strength) -> Position:
    part = 0 if strength is Strength.KEY_SHARE else 1
    return Position(resource.rank, resource.order, part)


def stronger(into: dict[Resource, Strength], wants: Wants) -> None:
    """Add `wants` to a set, each resource at the strongest that was asked for."""
    for resource, strength in wants.items():
        if into.get(resource, 0) < strength:
            into[resource] = strength

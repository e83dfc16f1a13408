"""Which kinds of locks are taken while which are held, and the circles in that; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ..types import Place
from .locks.book import Strength

#: Circles of the same tables that are told, each with other places.
MOST_ALIKE = 20
_READS_KEY = frozenset({Strength.KEY_SHARE, Strength.SHARE})


def conflict(one: Strength, other: Strength) -> bool:
    """Whether two transactions can't lock one row so at the same time (PostgreSQL's table)."""
    weak, strong = sorted((one, other))
    if strong in _READS_KEY:
        return False
    return not (weak is Strength.KEY_SHARE and strong is Strength.NO_KEY_UPDATE)


class LockClass(NamedTuple):
    """All locks of one strength on the rows of one table, on a whole table, or on a name."""

    #: The table, or what kind of name.
    resource: str
    strength: Strength
    whole_table: bool = False

    def conflicts(self, other: LockClass) -> bool:
        """Whether a lock of the one can have to wait for one of the other."""
        # A lock of a whole table has the strength of those locks of rows that it keeps out.
        return self.resource == other.resource and conflict(self.strength, other.strength)

    def covers(self, other: LockClass) -> bool:
        """Whether who holds this needs no more for the other, if it is the same row."""
        if self.resource != other.resource or self.strength < other.strength:
            return False
        return self.whole_table or not other.whole_table

    def __str__(self) -> str:
        if self.whole_table:
            return f"{self.resource} (whole table)"
        return f"{self.resource} ({self.strength.name.replace('_', ' ')})"


class Taken(NamedTuple):
    """A lock of a class, taken by the units of one name at one place in the code."""

    lock: LockClass
    #: Where there is none, the function.
    unit: str
    place: Place
    #: By what a unit sends of itself, which waits for locks in the order of tables only.
    in_order: bool = False
    in_unit: bool = False

    @property
    def who(self) -> str:
        """The unit, or that there is none."""
        return f"unit {self.unit!r}" if self.in_unit else f"{self.unit!r}, no unit"


class Step(NamedTuple):
    """One unit held `held` and took `taken`, for which it may have to wait."""

    held: Taken
    taken: Taken


class Cycle(NamedTuple):
    """Units that can wait for each other: each takes what the next one holds."""

    steps: tuple[Step, ...]

    @property
    def resources(self) -> frozenset[str]:
        """The tables and names that are locked in no common order."""
        return frozenset(step.held.lock.resource for step in self.steps)

    @property
    def places(self) -> frozenset[Place]:
        """Where its locks are taken."""
        return frozenset(taken.place for step in self.steps for taken in step)


class LockGraph:
    """Grows by one pair at a time, and tells when a pair closes a circle.

    The units of a circle need never have met: each step was seen on its own. Pairs within one
    table are left out, for rows have an order among themselves that their class does not show.
    """

    def __init__(self, most_pairs: int = 20_000) -> None:
        self.cycles: list[Cycle] = []
        #: What was too much to be kept.
        self.left_out: set[str] = set()
        self._most_pairs = most_pairs
        #: Without the names of units, of which there may be ever more.
        self._pairs: set[tuple[LockClass, Place, LockClass, Place]] = set()
        #: By what is held; of each pair of classes the first example.
        self._steps: dict[str, dict[tuple[LockClass, LockClass], Step]] = {}
        #: By the tables and names of circles, the places of each that was told.
        self._told: dict[frozenset[str], set[frozenset[Place]]] = {}

    def __len__(self) -> int:
        """How many different pairs were seen."""
        return len(self._pairs)

    def add(self, held: Taken, taken: Taken) -> Cycle | None:
        """`taken` was asked for while `held`. Returns the circle that is found by it.

        Each set of places is told only once.
        """
        pair = (held.lock, held.place, taken.lock, taken.place)
        if held.lock.resource == taken.lock.resource or pair in self._pairs:
            return None
        if len(self._pairs) >= self._most_pairs:
            self.left_out.add("pairs of locks")
            return None
        self._pairs.add(pair)
        step = Step(held, taken)
        examples = self._steps.setdefault(held.lock.resource, {})
        examples.setdefault((held.lock, taken.lock), step)
        for cycle in self._cycles_through(step):
            if self._is_new(cycle):
                self.cycles.append(cycle)
                return cycle
        return None

    def _is_new(self, cycle: Cycle) -> bool:
        if self._has_shorter(cycle):
            return False
        told = self._told.setdefault(cycle.resources, set())
        places = cycle.places
        if places in told:
            return False
        if len(told) >= MOST_ALIKE:
            self.left_out.add("circles of the same tables at more places")
            return False
        told.add(places)
        return True

    def _has_shorter(self, cycle: Cycle) -> bool:
        """Whether two of its steps are one transaction's, which held the first lock for the second.

        Then there is a circle without what it took in between, and that one is told.
        """
        first, *others = cycle.steps
        for (held, _), (_, taken) in pairwise((first, *others, first)):
            if (held.lock, held.place, taken.lock, taken.place) in self._pairs:
                return True
        return False

    def _cycles_through(self, first: Step) -> Iterator[Cycle]:
        """The shortest ways from what it takes back to what it holds."""
        paths: deque[tuple[Step, ...]] = deque([(first,)])
        seen = {first.taken.lock}
        while paths:
            path = paths.popleft()
            wanted = path[-1].taken.lock
            if len(path) > 1 and wanted.conflicts(first.held.lock):
                yield Cycle(path)
                continue
            for step in self._steps.get(wanted.resource, {}).values():
                if wanted.conflicts(step.held.lock) and step.taken.lock not in seen:
                    seen.add(step.taken.lock)
                    paths.append((*path, step))

"""Which kinds of locks are taken while which are held, and the circles in that; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ..types import Place
from .locks.book import Strength

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
        if self.resource != other.resource:
            return False
        return self.whole_table or other.whole_table or conflict(self.strength, other.strength)

    def covers(self, other: LockClass) -> bool:
        """Whether who holds this needs no more for the other, if it is the same row."""
        if self.resource != other.resource:
            return False
        return self.whole_table or (not other.whole_table and self.strength >= other.strength)

    def __str__(self) -> str:
        if self.whole_table:
            return f"{self.resource} (whole table)"
        return f"{self.resource} ({self.strength.name.replace('_', ' ')})"


class Taken(NamedTuple):
    """A lock of a class, taken by the units of one name at one place in the code."""

    lock: LockClass
    unit: str
    place: Place


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


class LockGraph:
    """Grows by one pair at a time, and tells when a pair closes a circle.

    The units of a circle need never have met: each step was seen on its own. Pairs within one
    table are left out, for rows have an order among themselves that their class does not show.
    """

    def __init__(self) -> None:
        self.cycles: list[Cycle] = []
        self._pairs: set[Step] = set()
        #: By what is held; of each pair of classes the first example.
        self._steps: dict[str, dict[tuple[LockClass, LockClass], Step]] = {}
        self._reported: set[frozenset[str]] = set()

    def __len__(self) -> int:
        """How many different pairs were seen."""
        return len(self._pairs)

    def add(self, held: Taken, taken: Taken) -> Cycle | None:
        """`taken` was asked for while `held`. Returns the circle that is found by it, only once."""
        step = Step(held, taken)
        if held.lock.resource == taken.lock.resource or step in self._pairs:
            return None
        self._pairs.add(step)
        examples = self._steps.setdefault(held.lock.resource, {})
        if (held.lock, taken.lock) in examples:
            return None
        examples[held.lock, taken.lock] = step
        for cycle in self._cycles_through(step):
            if cycle.resources not in self._reported:
                self._reported.add(cycle.resources)
                self.cycles.append(cycle)
                return cycle
        return None

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

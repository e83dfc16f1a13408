"""What the recorder has found, and how it is told; pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from .lock_graph import Cycle, Taken


class Doubt(enum.Enum):
    """What is worth a look, but can't be judged by the kinds of locks alone."""

    MANY = "locks several rows in no given order"
    AGAIN = "locks more rows of a table of which it holds some already"
    UPGRADE = "strengthens a lock that two can hold at the same time"


class Remark(NamedTuple):
    """A doubt, and where."""

    doubt: Doubt
    taken: Taken
    #: The earlier lock on that table, of AGAIN and UPGRADE.
    held: Taken | None = None

    def __str__(self) -> str:
        taken = self.taken
        earlier = "" if self.held is None else f"\n    held since {self.held.place}"
        return (
            f"unit {taken.unit!r} {self.doubt.value}: {taken.lock}\n    at {taken.place}{earlier}"
        )


@dataclass(frozen=True, slots=True)
class LockOrderReport:
    """Everything that a recorder has found until now."""

    cycles: tuple[Cycle, ...]
    remarks: tuple[Remark, ...]
    #: How many pairs of lock classes were seen, one taken while the other was held.
    pairs: int
    #: How many different statements were read.
    statements: int
    #: Statements that may lock, and could not be read.
    unread: tuple[str, ...]
    #: Of what more was found than is kept.
    left_out: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no circle was found."""
        return not self.cycles

    def __str__(self) -> str:
        lines = [
            f"Lock order: {self.statements} statements read, {self.pairs} pairs of locks, "
            f"{len(self.cycles)} circles, {len(self.remarks)} remarks."
        ]
        lines += [told(cycle) for cycle in self.cycles]
        if self.remarks:
            lines += ["Worth a look:", *(f"  {remark}" for remark in self.remarks)]
        if self.unread:
            lines += ["Not understood:", *(f"  {sql}" for sql in self.unread)]
        if self.left_out:
            lines.append(f"Left out, for there were too many: {', '.join(self.left_out)}.")
        return "\n".join(lines)


def told(cycle: Cycle) -> str:
    """A circle with all its places."""
    names = " and ".join(sorted(cycle.resources))
    lines = [f"{names} are locked in no common order; units that meet there can deadlock:"]
    for number, (held, taken) in enumerate(cycle.steps, 1):
        lines.append(f"  {number}. unit {held.unit!r}")
        lines.append(f"     holds {held.lock} since {held.place}")
        lines.append(f"     takes {taken.lock} at {taken.place}")
    lines.append("  Remedy: lock them in one order, or in one call: tx.lock_across({...}).")
    return "\n".join(lines)

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
        who = taken.who if taken.in_unit else f"{taken.who},"
        return f"{who} {self.doubt.value}: {taken.lock}\n    at {taken.place}{earlier}"


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
    lines = [f"{names} are locked in no common order; transactions that meet there can deadlock:"]
    for number, (held, taken) in enumerate(cycle.steps, 1):
        lines.append(f"  {number}. {held.who}")
        lines.append(f"     holds {held.lock} since {held.place}")
        lines.append(f"     takes {taken.lock} at {taken.place}")
    lines.append(f"  Remedy: {_remedy(cycle)}")
    return "\n".join(lines)


def _remedy(cycle: Cycle) -> str:
    order = " before ".join(_one_order(cycle))
    if any(map(_is_name, cycle.resources)):
        return f"take them in one order, {order}, or as names of the units: lock_names=[...]."
    how = "in one call: tx.lock_across({...})."
    if all(step.held.in_unit for step in cycle.steps):
        return f"lock them in one order, {order}, or {how}"
    return f"lock them in one order, {order}; or in units, {how}"


def _one_order(cycle: Cycle) -> list[str]:
    """An order of what is in a circle; names come first, as in units.

    It keeps what units do of themselves, else all but the step that has closed the circle.
    """
    steps = cycle.steps
    against = next((at for at, step in enumerate(steps) if not step.taken.in_order), 0)
    turned = [step.held.lock.resource for step in steps[against + 1 :] + steps[: against + 1]]
    return sorted(turned, key=lambda resource: not _is_name(resource))


def _is_name(resource: str) -> bool:
    return resource.startswith("named lock")

"""What opening a unit means, given the unit that the task is in already."""

from __future__ import annotations

import enum

from ..settings import UnitSettings
from ..types import Propagation


class Decision(enum.Enum):
    """What to do with a block that asks for a unit."""

    OPEN = "open a unit of its own"
    JOIN = "take part in the outer unit"
    SAVEPOINT = "set a savepoint in the outer unit"
    REFUSE_NO_UNIT = "there is no outer unit"
    REFUSE_UNIT = "there is an outer unit"


def decide(asked: Propagation, in_unit: bool) -> Decision:
    """Decide from the propagation asked for and whether the task is in a unit of this engine."""
    match asked:
        case Propagation.REQUIRED:
            return Decision.JOIN if in_unit else Decision.OPEN
        case Propagation.REQUIRES_NEW:
            return Decision.OPEN
        case Propagation.NESTED:
            return Decision.SAVEPOINT if in_unit else Decision.OPEN
        case Propagation.MANDATORY:
            return Decision.JOIN if in_unit else Decision.REFUSE_NO_UNIT
        case Propagation.NEVER:
            return Decision.REFUSE_UNIT if in_unit else Decision.OPEN


def contradictions(inner: UnitSettings, outer: UnitSettings) -> list[str]:
    """Options of a joining block that the outer unit can't honour, each as a sentence.

    An option that was left out never contradicts. Timeouts of the database and the isolation level
    hold for the whole transaction, so they must be the outer unit's; a shorter `timeout` can be
    kept inside.
    """
    found = []
    for option in ("isolation", "read_only", "deferrable"):
        asked, given = getattr(inner, option), getattr(outer, option)
        # `read_only=False` asks for what every plain unit gives.
        if asked is not None and asked != (given if asked else bool(given)):
            found.append(f"{option}={asked!r}, but the outer unit has {given!r}")
    if inner.confirm_commit and not outer.confirm_commit:
        found.append("confirm_commit=True, but the outer unit, which commits, has it not")
    if inner.verify is not None and inner.verify is not outer.verify:
        found.append("verify is asked about the outer unit's COMMIT, and it has another or none")
    if not set(inner.lock_names) <= set(outer.lock_names):
        found.append("lock_names must be taken before the first statement, by the outer unit")
    found += [
        f"{option}=True, but the outer unit, which flushes, has it not"
        for option in ("guard_reads", "strict_locks")
        if getattr(inner, option) and not getattr(outer, option)
    ]
    for option in ("lock_timeout", "statement_timeout"):
        asked, given = getattr(inner, option), getattr(outer, option)
        if asked is not None and asked != given:
            found.append(f"{option}={asked!r} s, but the outer unit has {given!r}")
    if inner.connections is not None and inner.connections > (outer.connections or 1):
        found.append(
            f"connections={inner.connections}, but the outer unit reserved {outer.connections or 1}"
        )
    if inner.timeout is not None and outer.timeout is not None and inner.timeout > outer.timeout:
        found.append(f"timeout={inner.timeout!r} s is longer than the outer {outer.timeout!r} s")
    return found

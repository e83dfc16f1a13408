"""What a run with a fault may leave, compared to a clean run, and the report of it; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from unitofwork import CommitUnknownError

from .points import Fault, Point, Site

Ended = Literal["returned", "raised", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: it returned, raised, was cancelled, or raised `CommitUnknownError`.

    The error is kept as text only: its traceback would keep connections alive.
    """

    how: Ended
    error: str = ""

    def __str__(self) -> str:
        return f"{self.how} {self.error}".rstrip()


RETURNED = End("returned")
CANCELLED = End("cancelled")


def end_by(error: BaseException) -> End:
    """The end of a run that raised."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return End("unknown" if _is_unknown(error) else "raised", text)


def _is_unknown(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_unknown, error.exceptions))
    return error is not None and (
        isinstance(error, CommitUnknownError) or _is_unknown(error.__cause__)
    )


@dataclass(frozen=True, slots=True)
class Observation:
    """What is there to see after a run.

    Attributes:
        state: what the caller's `state()` gave.
        callbacks: the names of the `on_commit` callbacks that were called, in order.
        leaked: how many connections more than before are checked out.
    """

    state: Any
    callbacks: tuple[str, ...] = ()
    leaked: int = 0


def differences(
    before: Observation, after: Observation, seen: Observation, end: End
) -> tuple[str, ...]:
    """What is wrong with what a run has left; empty where nothing is.

    A run that returned must leave what a clean run leaves, one that raised what was there before
    it; one that was cancelled, or whose COMMIT is unknown, must have done all or nothing.
    """
    found = []
    if seen.leaked > 0:
        found.append(f"connections still checked out: {seen.leaked}")
    done = _effects(seen) == _effects(after)
    undone = _effects(seen) == _effects(before)
    match end.how:
        case "returned" if not done:
            found += _compared("a clean run leaves", after, seen)
        case "raised" if done and not undone:
            found.append("it raised although its work is done: called again, it would do it twice")
        case "raised" if not undone:
            found += _compared("before it there was", before, seen)
        case "cancelled" | "unknown" if not (done or undone):
            found.append(
                f"neither all nor nothing is done: before it there was {_shown(before)}, a clean "
                f"run leaves {_shown(after)}, this one {_shown(seen)}"
            )
    return tuple(found)


def _effects(seen: Observation) -> tuple[Any, tuple[str, ...]]:
    return seen.state, seen.callbacks


def _compared(what: str, wanted: Observation, seen: Observation) -> list[str]:
    found = []
    if seen.state != wanted.state:
        found.append(f"state: {what} {wanted.state!r}, this one {seen.state!r}")
    if seen.callbacks != wanted.callbacks:
        found.append(f"on_commit callbacks: {_called(wanted)} wanted, {_called(seen)} called")
    return found


def _shown(seen: Observation) -> str:
    return f"{seen.state!r} (on_commit callbacks: {_called(seen)})"


def _called(seen: Observation) -> str:
    return ", ".join(seen.callbacks) or "none"


@dataclass(frozen=True, slots=True)
class Finding:
    """A point at which the unit left something else than a clean run.

    Attributes:
        where: the statement, or where the task was suspended.
        differences: what is wrong, a sentence each.
    """

    point: Point
    where: str
    end: End
    differences: tuple[str, ...]

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        listed = "".join(f"\n    - {each}" for each in self.differences)
        return f"  {self.point}{place}\n    the unit {self.end}{listed}"


@dataclass
class Report:
    """What was injected into one unit, and what came of it; `str()` of it is for people.

    Attributes:
        counts: how many statements, COMMITs and checkouts a clean run has.
        injected: how many faults of each kind were injected.
        ended: how many of these runs returned, raised, were cancelled, or ended unknown.
        errors: what they raised, by the names of the errors.
        skipped: how many points could not be had: the run did not get there, as the unit varies
            from run to run; or nothing can be refused there, as at ROLLBACK TO SAVEPOINT and at the
            COMMIT of a read-only transaction.
        findings: the points that differ.
        stopped: why not all points were tried; None if they were.
    """

    name: str
    counts: Counter[Site] = field(default_factory=Counter)
    injected: Counter[Fault] = field(default_factory=Counter)
    ended: Counter[Ended] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    findings: list[Finding] = field(default_factory=list)
    stopped: str | None = None

    @property
    def total(self) -> int:
        """How many faults were injected."""
        return self.injected.total()

    def note(self, finding: Finding) -> None:
        """Count a run with a fault; keep it if it has differences."""
        self.injected[finding.point.fault] += 1
        self.ended[finding.end.how] += 1
        if finding.end.error:
            self.errors[finding.end.error.partition(":")[0]] += 1
        if finding.differences:
            self.findings.append(finding)

    def __str__(self) -> str:
        lines = [
            f"{self.total} faults injected into {self.name} ({_listed(self.counts)}): "
            f"{_listed(self.injected)}; the unit {_listed(self.ended)}"
        ]
        if self.errors:
            lines.append(f"it raised: {_listed(self.errors)}")
        if self.skipped:
            lines.append(f"{self.skipped} points could not be had")
        if self.stopped is not None:
            lines.append(f"stopped early: {self.stopped}")
        lines.append(f"{len(self.findings)} differ from a clean run{':' * bool(self.findings)}")
        return "\n".join([*lines, *map(str, self.findings)])


class FaultsFoundError(AssertionError):
    """A unit left something else than a clean run; `report` has the points."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def _listed(counts: Counter[Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"

"""What the runs of a unit have in common, async or sync: points, verdicts, the report."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeVar

from unitofwork import AsyncUnitOfWork, ConfigurationError, PoolStats, UnitOfWork

from .injecting import Injector
from .judging import RETURNED, End, FaultsFoundError, Finding, Observation, Report, differences
from .points import Fault, Point, chosen

U = TypeVar("U", AsyncUnitOfWork, UnitOfWork)

#: Seconds that tasks and threads which a run has left behind have to end, and connections to
#: come back, before they count as left.
GRACE = 0.5
#: Each unit earns a tenth of a retry in the budget of the process, and a lost connection spends
#: one: without so many idle units before each run, no unit would be run again after some dozens.
IDLE_UNITS = 10


@dataclass(frozen=True, slots=True)
class Seen:
    """One run: what there was to see, how it ended, whether and where the fault was injected."""

    observation: Observation
    end: End = RETURNED
    injected: bool = False
    where: str = ""


@dataclass(frozen=True, slots=True)
class Clean:
    """A run without a fault."""

    before: Observation
    after: Observation

    def check(self, again: Clean) -> None:
        """Raise `ConfigurationError` if another one differs."""
        for when in ("before", "after"):
            first, second = getattr(self, when), getattr(again, when)
            if first != second:
                raise ConfigurationError(
                    f"Two clean runs differ {when} the unit:\n  first: {first}\n  then: {second}",
                    "have reset() put back everything that state() looks at, and leave out of "
                    "state() what is never the same, such as generated keys and times.",
                )


class Runs(Generic[U]):
    """Base of `Faults` and `AsyncFaults`."""

    def __init__(self, uow: U, faults: Iterable[Fault] | None, slow: float) -> None:
        self._uow: U = uow
        self._injector = Injector(uow, slow)
        self._faults = chosen(faults, self._injector.faults)
        #: How many faults of each kind were injected, over all units.
        self.injected: Counter[Fault] = Counter()

    def __enter__(self) -> Self:
        self._injector.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self._injector.detach()

    def _checked_out(self) -> int:
        stats: PoolStats = self._uow.stats()
        return stats.checked_out

    def _judge(self, report: Report, point: Point, clean: Clean, seen: Seen) -> bool:
        """Note what a run with a fault has left; whether to go on with the next point."""
        if not seen.injected:
            report.skipped += 1
            return True
        found = differences(clean.before, clean.after, seen.observation, seen.end)
        report.note(Finding(point, seen.where, seen.end, found))
        self.injected[point.fault] += 1
        if seen.observation.leaked > 0:
            # The next runs would wait for its locks, or for room in the pool.
            report.stopped = f"a connection was not returned at {point}"
        return report.stopped is None


def sound(report: Report) -> Report:
    """The report, if nothing was found. Raises `FaultsFoundError`."""
    if report.findings:
        raise FaultsFoundError(report)
    return report


@contextlib.contextmanager
def called_back(kind: Any) -> Iterator[list[str]]:
    """The names of the `on_commit` callbacks that are called by units with this kind of `tx`."""
    called: list[str] = []
    register = kind.on_commit

    def on_commit(tx: Any, callback: Any) -> None:
        register(tx, callback)
        # A second one, behind it: its fate is the same, and the user's own is not touched.
        register(tx, partial(called.append, name_of(callback)))

    kind.on_commit = on_commit
    try:
        yield called
    finally:
        del kind.on_commit


def name_of(function: Any) -> str:
    """The name of a function for people."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__qualname__", type(function).__name__))

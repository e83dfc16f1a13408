"""`Faults`: a sync unit, run once per point."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from unitofwork import Transaction, UnitOfWork

from .judging import RETURNED, Observation, Report, end_by
from .points import Fault, Point, points
from .runs import GRACE, IDLE_UNITS, Clean, Runs, Seen, called_back, name_of, sound

Unit = Callable[[], object]


class Faults(Runs[UnitOfWork]):
    """`AsyncFaults` for sync units; there is no cancellation.

    with Faults(uow, state=balances, reset=start_again) as faults:
        faults.check(lambda: transfer(1, 2, 10))
    """

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        state: Callable[[], Any],
        reset: Callable[[], Any],
        faults: Iterable[Fault] | None = None,
        slow: float = 0.1,
    ) -> None:
        super().__init__(uow, faults, slow)
        self._state = state
        self._reset = reset

    def check(self, unit: Unit) -> Report:
        """`survey`, and raise `FaultsFoundError` if a point differs from a clean run."""
        return sound(self.survey(unit))

    def survey(self, unit: Unit) -> Report:
        """Run `unit()` twice without a fault, then once per point; the report of all points.

        Stops early where a connection was not returned.

        Raises:
            ConfigurationError: the two clean runs differ.
            Exception: whatever `unit` raises without a fault.
        """
        report = Report(name_of(unit))
        clean = self._clean(unit)
        clean.check(self._clean(unit))
        report.counts = self._injector.counts
        for point in points(self._faults, report.counts):
            if not self._judge(report, point, clean, self._run(unit, point)):
                break
        return report

    def _clean(self, unit: Unit) -> Clean:
        self._reset()
        before = Observation(self._state())
        return Clean(before, self._run(unit, None).observation)

    def _run(self, unit: Unit, point: Point | None) -> Seen:
        self._reset()
        for _ in range(IDLE_UNITS):
            for attempt in self._uow.attempts():
                with attempt:
                    pass
        out, threads = self._checked_out(), set(threading.enumerate())
        end, injector = RETURNED, self._injector
        with called_back(Transaction) as called:
            injector.start(point)
            try:
                unit()
            except Exception as error:
                if point is None:
                    raise
                end = end_by(error)
            finally:
                self._settle(threads, out)
                injector.stop()
        leaked = self._checked_out() - out
        seen = Observation(self._state(), tuple(called), leaked)
        return Seen(seen, end, injector.done, injector.where)

    def _settle(self, threads: set[threading.Thread], out: int) -> None:
        """Wait for what the run has left behind: its effects count."""
        deadline = time.monotonic() + GRACE
        for thread in set(threading.enumerate()) - threads:
            # A worker of an executor never ends by itself.
            thread.join(max(0.0, deadline - time.monotonic()))
        for _ in range(round(GRACE / 0.005)):
            if self._checked_out() <= out:
                break
            time.sleep(0.005)

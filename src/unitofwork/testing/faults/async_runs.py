"""`AsyncFaults`: an async unit, run once per point."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from unitofwork import AsyncTransaction, AsyncUnitOfWork

from ..cancellation import Cut, Way, cancel_at
from .judging import CANCELLED, RETURNED, End, Observation, Report, end_by
from .points import Fault, Point, points
from .runs import GRACE, IDLE_UNITS, Clean, Runs, Seen, called_back, name_of, sound

Unit = Callable[[], Awaitable[object]]


class AsyncFaults(Runs[AsyncUnitOfWork]):
    """Runs an async unit again and again, each time with a fault at its next point.

        with AsyncFaults(uow, state=balances, reset=start_again) as faults:
            await faults.check(lambda: transfer(1, 2, 10))

    Args:
        uow: opens the unit. Faults strike at whatever the unit sends through its engine.
        state: gives all that the unit is to change, comparable with `==`: rows, sent mails, files.
            What is never the same, such as generated keys, must stay out.
        reset: puts all of that back; called before each run. Either may be async.
        faults: which ones to inject; all by default. `Fault` tells what they are.
        how: the way to cancel, one of `unitofwork.testing.WAYS`.
        slow: seconds that a slow checkout takes.
        within: seconds that one run may take.

    Raises `ConfigurationError` for a database or a fault that can't be had.
    """

    def __init__(
        self,
        uow: AsyncUnitOfWork,
        *,
        state: Callable[[], Any],
        reset: Callable[[], Any],
        faults: Iterable[Fault] | None = None,
        how: Way = "cancel",
        slow: float = 0.1,
        within: float = 30.0,
    ) -> None:
        super().__init__(uow, faults, slow)
        self._state = state
        self._reset = reset
        self._how = how
        self._within = within

    async def check(self, unit: Unit) -> Report:
        """`survey`, and raise `FaultsFoundError` if a point differs from a clean run."""
        return sound(await self.survey(unit))

    async def survey(self, unit: Unit) -> Report:
        """Run `unit()` twice without a fault, then once per point; the report of all points.

        Stops early where a connection was not returned.

        Raises:
            ConfigurationError: the two clean runs differ.
            AssertionError: a run did not end in time.
            Exception: whatever `unit` raises without a fault.
        """
        report = Report(name_of(unit))
        clean = await self._clean(unit)
        clean.check(await self._clean(unit))
        report.counts = self._injector.counts
        for point in points(self._faults, report.counts):
            if not self._judge(report, point, clean, await self._run(unit, point)):
                return report
        number = 1
        while "cancel" in self._faults:
            point = Point("cancel", "await", number)
            seen = await self._run(unit, point)
            # The first run that is over before it gets there has them all behind it.
            if not seen.injected or not self._judge(report, point, clean, seen):
                break
            number += 1
        return report

    async def _clean(self, unit: Unit) -> Clean:
        await _result(self._reset())
        before = Observation(await _result(self._state()))
        return Clean(before, (await self._run(unit, None)).observation)

    async def _run(self, unit: Unit, point: Point | None) -> Seen:
        await _result(self._reset())
        for _ in range(IDLE_UNITS):
            async for attempt in self._uow.attempts():
                async with attempt:
                    pass
        out, tasks = self._checked_out(), asyncio.all_tasks()
        end, cut, injector = RETURNED, None, self._injector
        with called_back(AsyncTransaction) as called:
            injector.start(point)
            try:
                if point is None:
                    await self._in_time(unit)
                elif point.fault == "cancel":
                    make = _maker(unit)
                    cut = await cancel_at(point.number, make, how=self._how, within=self._within)
                    end = RETURNED if cut is None else _end_of(cut)
                else:
                    end = await self._with_fault(unit)
                await self._settle(tasks, out)
            finally:
                injector.stop()
        leaked = self._checked_out() - out
        seen = Observation(await _result(self._state()), tuple(called), leaked)
        if cut is not None:
            return Seen(seen, end, True, _place_of(cut))
        return Seen(seen, end, injector.done, injector.where)

    async def _with_fault(self, unit: Unit) -> End:
        try:
            await self._in_time(unit)
        except _TooLong:
            raise
        except (Exception, asyncio.CancelledError) as error:
            return end_by(error)
        return RETURNED

    async def _in_time(self, unit: Unit) -> None:
        # A task of its own: it opens its units in no unit of ours, and can be left behind.
        task = asyncio.get_running_loop().create_task(_maker(unit)())
        try:
            await asyncio.wait({task}, timeout=self._within)
            if not task.done():
                raise _TooLong(f"the unit still runs after {self._within:g} s")
        finally:
            task.cancel()
        task.result()

    async def _settle(self, tasks: set[asyncio.Task[Any]], out: int) -> None:
        """Wait for what the run has left behind: its effects count."""
        left = asyncio.all_tasks() - tasks
        if left:
            await asyncio.wait(left, timeout=GRACE)
        for _ in range(round(GRACE / 0.005)):
            if self._checked_out() <= out:
                break
            await asyncio.sleep(0.005)


class _TooLong(AssertionError):
    """A run did not end in time."""


def _end_of(cut: Cut) -> End:
    if cut.error is not None:
        return end_by(cut.error)
    return CANCELLED if cut.outcome == "cancelled" else RETURNED


def _place_of(cut: Cut) -> str:
    frames = cut.stuck_at[1:]  # the first one is that of `make`
    return " ... ".join(dict.fromkeys(frames[:1] + frames[-1:]))


def _maker(unit: Unit) -> Callable[[], Coroutine[Any, Any, None]]:
    async def make() -> None:
        await unit()

    return make


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value

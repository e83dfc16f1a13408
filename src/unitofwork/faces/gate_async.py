"""The gate for asyncio: one future per waiter, used from one event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from ..policies.admission import Admission, Gatekeeper, GateStats, Ticket
from ..policies.shedding import Shedding


class _Waiter(Ticket):
    __slots__ = ("told",)

    def __init__(self, told: asyncio.Future[None]) -> None:
        super().__init__()
        self.told = told


_Step = Callable[[float], list[_Waiter]]


class AsyncGate:
    """Permits for the tasks of one event loop, strictly first in, first out.

    capacity: number of permits, at least 1. max_waiting: length of the line from which on
    requests are refused at once. shedding: whom to give up under overload. clock: monotonic, s.
    Raises `ValueError` for values out of range.
    """

    def __init__(
        self,
        capacity: int,
        *,
        max_waiting: int | None = None,
        shedding: Shedding | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper: Gatekeeper[_Waiter] = Gatekeeper(
            capacity, max_waiting=max_waiting, shedding=shedding
        )
        self._clock = clock
        self._steps: deque[_Step] = deque()
        self._stepping = False
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = math.inf

    def try_acquire(self, permits: int = 1) -> bool:
        """Take `permits` if that is possible now, without passing anyone in line."""
        return self._keeper.try_enter(permits)

    async def acquire(self, permits: int = 1, *, deadline: float = math.inf) -> None:
        """Take `permits`, all at once. Does not suspend where the gate is free.

        deadline: until when to wait, as the gate's clock tells the time. Raises `GateTimeout`, or
        `GateRefused` for more than the capacity, a line too long, or load that was shed.
        """
        if self._keeper.try_enter(permits):
            return
        waiter = _Waiter(asyncio.get_running_loop().create_future())
        self._step(lambda now: self._keeper.enter(now, waiter, permits))
        if waiter.admission is Admission.WAITS:
            await self._wait(waiter, deadline)
        if waiter.admission is not Admission.GRANTED:
            raise self._keeper.refusal(waiter)

    async def _wait(self, waiter: _Waiter, deadline: float) -> None:
        def expire() -> None:
            self._step(lambda now: self._keeper.expire(now, waiter))

        seconds = deadline - waiter.queued_at
        if seconds <= 0:
            return expire()
        timer = waiter.told.get_loop().call_later(seconds, expire) if seconds < math.inf else None
        try:
            await waiter.told
        except BaseException:
            # Closes the race in which the permits were granted in the turn of the cancellation:
            # then nobody would use them, or ever give them back.
            self._step(lambda now: self._keeper.withdraw(now, waiter))
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def release(self, permits: int = 1) -> None:
        """Give `permits` back, and to the next in line. Raises `ValueError` for too many."""
        if self._stepping or not self._keeper.try_leave(permits):
            self._step(lambda now: self._keeper.leave(now, permits))

    def stats(self) -> GateStats:
        """The counts so far."""
        return self._keeper.stats()

    def _step(self, step: _Step) -> None:
        self._steps.append(step)
        # A garbage collection in the middle of a step may finalise a unit that was abandoned,
        # which releases its permits right here; that step then waits for this one's end.
        while self._steps and not self._stepping:
            self._stepping = True
            try:
                if self._steps:  # that release may have been the first to get here
                    self._tell(self._steps.popleft()(self._clock()))
            finally:
                self._stepping = False

    def _tell(self, settled: list[_Waiter]) -> None:
        for waiter in settled:
            if not waiter.told.done():
                waiter.told.set_result(None)
        self._plan_sweep()

    def _plan_sweep(self) -> None:
        head, due = self._keeper.head, self._keeper.due()
        # A sweep that comes too early finds nothing and plans the next one; moving it whenever
        # the head changes would cost a timer for each unit.
        if self._sweep is not None and (head is None or due < self._sweep_at):
            self._sweep.cancel()
            self._sweep = None
        if self._sweep is None and head is not None and due < math.inf:
            self._sweep_at = due
            loop = head.told.get_loop()
            self._sweep = loop.call_later(due - self._clock(), self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        self._step(self._keeper.sweep)

"""The gate for threads: one lock, and one more per waiter for an exact hand-over."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from ..policies.admission import Admission, Gatekeeper, GateStats, Ticket
from ..policies.shedding import Shedding


class _Waiter(Ticket):
    __slots__ = ("sweep_at", "wake")

    def __init__(self) -> None:
        super().__init__()
        #: Locked until there is news. Not an Event: that one is implemented in Python, so a garbage
        #: collection inside of it may finalise a unit whose release sets this very event.
        self.wake = threading.Lock()
        self.wake.acquire()
        #: When this waiter has to sweep the line, as its head; finite only with shedding.
        self.sweep_at = math.inf


_Step = Callable[[float], list[_Waiter]]


class SyncGate:
    """Permits for threads, strictly first in, first out.

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
        self._lock = threading.Lock()
        self._returned: deque[int] = deque()

    def try_acquire(self, permits: int = 1) -> bool:
        """Take `permits` if that is possible now, without passing anyone in line."""
        try:
            with self._lock:
                return self._keeper.try_enter(permits)
        finally:
            self._take_returned()

    def acquire(self, permits: int = 1, *, deadline: float = math.inf) -> None:
        """Take `permits`, all at once.

        deadline: until when to wait, as the gate's clock tells the time. Raises `GateTimeout`, or
        `GateRefused` for more than the capacity, a line too long, or load that was shed.
        """
        waiter = _Waiter()
        try:
            self._step(lambda now: self._keeper.enter(now, waiter, permits))
            if waiter.admission is Admission.WAITS:
                self._wait(waiter, deadline)
        except BaseException:
            # A KeyboardInterrupt, before or just after the grant: nobody would use the permits.
            self._step(lambda now: self._keeper.withdraw(now, waiter))
            raise
        if waiter.admission is not Admission.GRANTED:
            raise self._keeper.refusal(waiter)

    def _wait(self, waiter: _Waiter, deadline: float) -> None:
        while waiter.admission is Admission.WAITS:
            pause = min(deadline, waiter.sweep_at) - self._clock()
            if pause > 0:
                waiter.wake.acquire(timeout=min(pause, threading.TIMEOUT_MAX))
            elif deadline <= waiter.sweep_at:
                self._step(lambda now: self._keeper.expire(now, waiter))
            else:
                self._step(self._keeper.sweep)

    def release(self, permits: int = 1) -> None:
        """Give `permits` back, and to the next in line. Raises `ValueError` for too many.

        Never blocks: a garbage collection while this very thread has the lock may finalise a unit
        that was abandoned, which comes here. Whoever has the lock takes the permits on leaving.
        """
        if permits < 1:
            raise ValueError(f"permits={permits} is less than 1.")
        self._returned.append(permits)
        self._take_returned()

    def stats(self) -> GateStats:
        """The counts so far; read without the lock, so they may be a step apart."""
        return self._keeper.stats()

    def _step(self, step: _Step) -> None:
        try:
            with self._lock:
                self._tell(step(self._clock()))
        finally:
            self._take_returned()

    def _take_returned(self) -> None:
        # Looked at again after each unlocking: permits that came while it was locked are in there.
        while self._returned and self._lock.acquire(blocking=False):
            try:
                if self._returned:  # another may have been the first to get here
                    self._tell(self._keeper.leave(self._clock(), self._returned.popleft()))
            finally:
                self._lock.release()

    def _tell(self, settled: list[_Waiter]) -> None:
        for waiter in settled:
            self._wake(waiter)
        head = self._keeper.head
        # Nobody else watches the line: the thread at its head does, until it is dropped itself.
        if head is not None and head.sweep_at != (due := self._keeper.due()):
            head.sweep_at = due
            self._wake(head)

    @staticmethod
    def _wake(waiter: _Waiter) -> None:
        # Only here, under the gate's lock, is it unlocked: no two threads can do so at once.
        if waiter.wake.locked():
            waiter.wake.release()

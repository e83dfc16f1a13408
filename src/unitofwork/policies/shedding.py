"""Load shedding: which waiters to give up when the line has stood too long (CoDel), no I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shedding:
    """When to shed load. Raises `ValueError` unless `0 < target` and `2 * target <= interval`.

    target: seconds that a waiter may wait when all is well. While load is being shed nobody waits
        longer than twice the target: who would is told so at that moment.
    interval: seconds for which the waits must have stayed above the target before anything is
        shed, so that a burst worked off in less loses nothing. It should span many units.
    """

    target: float = 0.05
    interval: float = 1.0

    def __post_init__(self) -> None:
        if not (self.target > 0 and 2 * self.target <= self.interval < math.inf):
            raise ValueError(f"{self!r}: needs 0 < target and 2 * target <= interval.")


class CoDel:
    """The state of one line's shedding: the Controlled Delay of Nichols and Jacobson, at its head.

    It sees only the waiter at the head of a first-in, first-out line, whenever that one may leave.
    The wait of the head tells a burst, after which it falls below the target again, from a
    standing line, in which it never does. All times are seconds of one monotonic clock.
    """

    __slots__ = ("_above_since", "_rule", "_seen_at", "_shedding_until")

    def __init__(self, rule: Shedding) -> None:
        self._rule = rule
        self._seen_at = -math.inf
        self._above_since = math.inf
        self._shedding_until = -math.inf

    def judge(self, now: float, queued_at: float) -> bool:
        """Say whether the head, in line since `queued_at`, is to be dropped at `now`.

        Called for each waiter before it leaves the head, and at any time between.
        """
        drop = now >= self.drop_at(queued_at)
        self._above_since = self._above_target_since(queued_at)
        self._seen_at = now
        if drop:
            # Not until the wait is low again, as in a router: with few and slow units a wait is
            # low by chance now and then, and the next interval of overload would go unchecked.
            self._shedding_until = now + self._rule.interval
        return drop

    def drop_at(self, queued_at: float) -> float:
        """The time at which the head, in line since `queued_at`, is dropped if still there."""
        late = queued_at + 2 * self._rule.target
        if late < self._shedding_until:
            return late
        return max(late, self._above_target_since(queued_at) + self._rule.interval)

    def _above_target_since(self, queued_at: float) -> float:
        passed_target = queued_at + self._rule.target
        # Below the target when the head before it left: the line did not stand without a break.
        return passed_target if passed_target > self._seen_at else self._above_since

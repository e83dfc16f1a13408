"""Admission: who may hold how many connections, and who waits; pure state, no clock, no I/O."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .shedding import CoDel, Shedding


class Admission(enum.Enum):
    """What became of a request for permits."""

    GRANTED = "granted"
    WAITS = "waits"
    #: The line was `max_waiting` long.
    REFUSED = "refused"
    #: More than the capacity: could never be granted.
    TOO_MANY = "too many"
    #: Given up by load shedding.
    SHED = "shed"
    TIMED_OUT = "timed out"
    #: The waiter went away by itself: it was cancelled.
    WITHDRAWN = "withdrawn"


class Ticket:
    """One request for permits, used once. The faces add what wakes its owner."""

    __slots__ = ("admission", "permits", "queued_at", "waited")

    def __init__(self) -> None:
        self.permits = 0
        self.admission: Admission | None = None
        self.queued_at = math.nan
        #: Seconds in line, once settled.
        self.waited = 0.0


T = TypeVar("T", bound=Ticket)


class PermitQueue(Generic[T]):
    """Permits granted strictly first in, first out; those of one request all at once.

    A request that does not fit yet blocks those behind it, so it can't starve, and nobody holds
    one permit while waiting for another. Every step is O(1), or O(1) for each ticket it settles.

    capacity: number of permits. max_waiting: length of the line from which on requests are
    refused; None for no limit. Raises `ValueError` for a capacity below 1 or a negative limit.
    """

    def __init__(self, capacity: int, *, max_waiting: int | None = None) -> None:
        if max_waiting is not None and max_waiting < 0:
            raise ValueError(f"max_waiting={max_waiting} is negative.")
        self._capacity = _at_least_one("capacity", capacity)
        self._max_waiting = max_waiting
        self._in_use = 0
        self._line: OrderedDict[T, None] = OrderedDict()

    @property
    def capacity(self) -> int:
        """The number of permits."""
        return self._capacity

    @property
    def in_use(self) -> int:
        """Permits granted and not yet released."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """The number of tickets in line."""
        return len(self._line)

    @property
    def head(self) -> T | None:
        """The ticket that is served next."""
        return next(iter(self._line), None)

    def try_request(self, permits: int) -> bool:
        """Grant `permits` if that is possible now, without passing anyone in line."""
        if self._line or self._in_use + permits > self._capacity:
            return False
        self._in_use += permits
        return True

    def request(self, ticket: T, permits: int) -> Admission:
        """Ask for `permits` (`ValueError` below 1): granted, in line, or refused for good."""
        ticket.permits = _at_least_one("permits", permits)
        if permits > self._capacity:
            ticket.admission = Admission.TOO_MANY
        elif not self._line and self._in_use + permits <= self._capacity:
            # The two belong together, with no call between them that an interrupt could part.
            self._in_use += permits
            ticket.admission = Admission.GRANTED
        elif self._max_waiting is not None and len(self._line) >= self._max_waiting:
            ticket.admission = Admission.REFUSED
        else:
            ticket.admission = Admission.WAITS
            self._line[ticket] = None
        return ticket.admission

    def release(self, permits: int) -> list[T]:
        """Give `permits` back. Returns the tickets granted by it, in order.

        Raises `ValueError` for less than 1 or more than are in use.
        """
        self.check_release(permits)
        self._in_use -= permits
        return self._advance()

    def try_release(self, permits: int) -> bool:
        """`release` where nobody is in line; False, and nothing given back, where somebody is."""
        if self._line:
            return False
        self.check_release(permits)
        self._in_use -= permits
        return True

    def check_release(self, permits: int) -> None:
        """Raise the `ValueError` of `release`, if it would."""
        if _at_least_one("permits", permits) > self._in_use:
            raise ValueError(f"{permits} permits given back, but {self._in_use} are in use.")

    def withdraw(self, ticket: T, outcome: Admission = Admission.WITHDRAWN) -> list[T]:
        """Take `ticket` back, wherever it is. Returns the tickets granted by it, in order.

        Its owner may be interrupted just after the grant: the permits then go to the next. Not for
        a ticket whose permits were given back with `release` already.
        """
        match ticket.admission:
            case Admission.WAITS:
                del self._line[ticket]
                ticket.admission = outcome
            case Admission.GRANTED:
                self._in_use -= ticket.permits
                ticket.admission = outcome
            case _:
                return []
        return self._advance()

    def shed(self, stale: Callable[[T], bool]) -> list[T]:
        """Drop tickets from the head while `stale` says so, and only then grant what fits.

        Returns the tickets dropped, then the tickets granted, each in order.
        """
        dropped = []
        while (ticket := self.head) is not None and stale(ticket):
            del self._line[ticket]
            ticket.admission = Admission.SHED
            dropped.append(ticket)
        return dropped + self._advance() if dropped else dropped

    def _advance(self) -> list[T]:
        granted = []
        while (ticket := self.head) is not None:
            if self._in_use + ticket.permits > self._capacity:
                break
            del self._line[ticket]
            self._in_use += ticket.permits
            ticket.admission = Admission.GRANTED
            granted.append(ticket)
        return granted


class Reservation:
    """The permits of one tree of units, for the units inside it. Raises nothing, waits never.

    granted: permits that the tree got from the gate. Not locked: one task or thread at a time.
    """

    __slots__ = ("free", "granted")

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.free = granted

    def take(self, permits: int = 1) -> bool:
        """Use `permits` of those that are free; False, and nothing taken, if there are fewer."""
        if not 0 < permits <= self.free:
            return False
        self.free -= permits
        return True

    def give_back(self, permits: int = 1) -> bool:
        """Free `permits` again; False, and nothing freed, if fewer are in use."""
        if not 0 < permits <= self.granted - self.free:
            return False
        self.free += permits
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStats:
    """Counts of a gate: the first three now, the others since it was made; times in seconds."""

    capacity: int
    in_use: int
    waiting: int
    #: Those included whose owner was cancelled in that instant, so that the next one got it.
    granted: int
    timeouts: int
    shed: int
    #: Too many permits asked for, or the line too long.
    refused: int
    #: Cancelled while in line.
    withdrawn: int
    #: Spent in line by all that have left it, whether granted or not.
    wait_seconds: float
    max_wait: float


class GateError(Exception):
    """A request for permits that was not granted. Not public: the units tell the user."""

    def __init__(self, reason: Admission, *, waited: float, permits: int, stats: GateStats) -> None:
        super().__init__(
            f"{permits} of {stats.capacity} permits: {reason.value} after {waited:.3f} s "
            f"({stats.in_use} in use, {stats.waiting} waiting)"
        )
        self.reason = reason
        self.waited = waited
        self.permits = permits
        self.stats = stats


class GateTimeout(GateError):
    """The deadline passed in line; `reason` is `TIMED_OUT`."""


class GateRefused(GateError):
    """`reason` is `REFUSED` or `TOO_MANY`, at once, or `SHED`, after a wait."""


class Gatekeeper(Generic[T]):
    """All that a gate decides: the queue, its shedding and its counts, given the time.

    Each step returns the tickets that it settled, for their owners to be told, in order; what
    became of each is its `admission`. `now` is in seconds of one monotonic clock.
    """

    def __init__(
        self, capacity: int, *, max_waiting: int | None = None, shedding: Shedding | None = None
    ) -> None:
        self._queue: PermitQueue[T] = PermitQueue(capacity, max_waiting=max_waiting)
        self._codel = None if shedding is None else CoDel(shedding)
        self._count = dict.fromkeys(Admission, 0)
        self._wait_seconds = 0.0
        self._max_wait = 0.0

    @property
    def head(self) -> T | None:
        """The ticket that is served next."""
        return self._queue.head

    def due(self) -> float:
        """When to `sweep`, unless the head leaves before; infinity for never."""
        head = self._queue.head
        if self._codel is None or head is None:
            return math.inf
        return self._codel.drop_at(head.queued_at)

    def try_enter(self, permits: int) -> bool:
        """Grant `permits` (`ValueError` below 1) if the gate is free, else leave no trace."""
        granted = self._queue.try_request(_at_least_one("permits", permits))
        self._count[Admission.GRANTED] += granted
        return granted

    def enter(self, now: float, ticket: T, permits: int) -> list[T]:
        """Ask for `permits`. Returns the ticket itself unless it waits."""
        ticket.queued_at = now
        waits = self._queue.request(ticket, permits) is Admission.WAITS
        return self._settled(now, [] if waits else [ticket])

    def leave(self, now: float, permits: int) -> list[T]:
        """Give `permits` back (`ValueError` for more than are in use)."""
        self._queue.check_release(permits)  # before the sweep, whose tickets an error would lose
        return self.sweep(now) + self._settled(now, self._queue.release(permits))

    def try_leave(self, permits: int) -> bool:
        """`leave` where nobody is in line, which concerns nobody else; False: nothing was done."""
        return self._queue.try_release(permits)

    def expire(self, now: float, ticket: T) -> list[T]:
        """The deadline of `ticket` has passed; too late to matter if it is settled already."""
        swept = self.sweep(now)
        if ticket.admission is not Admission.WAITS:
            return swept
        granted = self._queue.withdraw(ticket, Admission.TIMED_OUT)
        return swept + self._settled(now, [ticket, *granted])

    def withdraw(self, now: float, ticket: T) -> list[T]:
        """The owner of `ticket` was interrupted; a grant that it can't use goes to the next."""
        swept = self.sweep(now)
        was_waiting = ticket.admission is Admission.WAITS
        granted = self._queue.withdraw(ticket)
        return swept + self._settled(now, [ticket, *granted] if was_waiting else granted)

    def sweep(self, now: float) -> list[T]:
        """Drop who has waited too long. Each step that lets anyone pass does this first."""
        codel = self._codel
        if codel is None:
            return []
        return self._settled(now, self._queue.shed(lambda head: codel.judge(now, head.queued_at)))

    def refusal(self, ticket: T) -> GateError:
        """The error for a ticket that was settled, but not granted."""
        reason = ticket.admission or Admission.WAITS
        kind = GateTimeout if reason is Admission.TIMED_OUT else GateRefused
        return kind(reason, waited=ticket.waited, permits=ticket.permits, stats=self.stats())

    def stats(self) -> GateStats:
        """The counts so far."""
        return GateStats(
            capacity=self._queue.capacity,
            in_use=self._queue.in_use,
            waiting=self._queue.waiting,
            granted=self._count[Admission.GRANTED],
            timeouts=self._count[Admission.TIMED_OUT],
            shed=self._count[Admission.SHED],
            refused=self._count[Admission.REFUSED] + self._count[Admission.TOO_MANY],
            withdrawn=self._count[Admission.WITHDRAWN],
            wait_seconds=self._wait_seconds,
            max_wait=self._max_wait,
        )

    def _settled(self, now: float, tickets: list[T]) -> list[T]:
        for ticket in tickets:
            if ticket.admission is not None:
                self._count[ticket.admission] += 1
            ticket.waited = now - ticket.queued_at
            self._wait_seconds += ticket.waited
            self._max_wait = max(self._max_wait, ticket.waited)
        return tickets


def _at_least_one(what: str, number: int) -> int:
    if number < 1:
        raise ValueError(f"{what}={number} is less than 1.")
    return number

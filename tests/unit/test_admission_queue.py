"""The queue of permits: strictly first in, first out, work conserving, and it loses nothing."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unitofwork.policies.admission import Admission, PermitQueue, Ticket


class Numbered(Ticket):
    """A ticket that knows its place among all that were ever issued."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class QueueMachine(RuleBasedStateMachine):
    """Random requests, releases, withdrawals and sheddings, on any state they lead to."""

    @initialize(capacity=st.integers(1, 6), max_waiting=st.none() | st.integers(0, 4))
    def start(self, capacity: int, max_waiting: int | None) -> None:
        self.queue: PermitQueue[Numbered] = PermitQueue(capacity, max_waiting=max_waiting)
        self.max_waiting = max_waiting
        self.numbers = itertools.count()
        #: Those that may still be withdrawn: all but the released.
        self.issued: list[Numbered] = []
        self.held: list[int] = []
        self.holders: list[Numbered] = []
        self.last_granted = -1

    def granted(self, tickets: list[Numbered]) -> None:
        for ticket in tickets:
            assert ticket.admission is Admission.GRANTED
            assert ticket.number > self.last_granted, "somebody was passed in line"
            self.last_granted = ticket.number
            self.holders.append(ticket)
        assert not tickets or self.queue.in_use <= self.queue.capacity

    def in_line(self) -> list[Numbered]:
        return [ticket for ticket in self.issued if ticket.admission is Admission.WAITS]

    @rule(permits=st.integers(1, 7))
    def request(self, permits: int) -> None:
        line = len(self.in_line())
        fits = self.queue.in_use + permits <= self.queue.capacity
        ticket = Numbered(next(self.numbers))
        answer = self.queue.request(ticket, permits)
        self.issued.append(ticket)
        assert ticket.admission is answer
        if permits > self.queue.capacity:
            assert answer is Admission.TOO_MANY
        elif fits and not line:
            self.granted([ticket])
        elif self.max_waiting is not None and line >= self.max_waiting:
            assert answer is Admission.REFUSED
        else:
            assert answer is Admission.WAITS

    @rule(permits=st.integers(1, 7))
    def try_request(self, permits: int) -> None:
        free = not self.in_line() and self.queue.in_use + permits <= self.queue.capacity
        assert self.queue.try_request(permits) is free
        if free:
            self.held.append(permits)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.holders))
        self.holders.remove(ticket)
        self.issued.remove(ticket)
        self.granted(self.queue.release(ticket.permits))

    @precondition(lambda self: self.held)
    @rule()
    def release_oldest_without_a_ticket(self) -> None:
        self.granted(self.queue.release(self.held.pop(0)))

    @precondition(lambda self: self.issued)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        candidates = [*self.in_line(), *self.holders] or self.issued
        ticket = data.draw(st.sampled_from(candidates))
        if ticket in self.holders:
            self.holders.remove(ticket)
        in_use, before = self.queue.in_use, ticket.admission
        granted = self.queue.withdraw(ticket)
        if before in (Admission.WAITS, Admission.GRANTED):
            assert ticket.admission is Admission.WITHDRAWN
        else:
            assert (granted, self.queue.in_use, ticket.admission) == ([], in_use, before)
        self.granted(granted)
        assert self.queue.withdraw(ticket) == []

    @precondition(lambda self: self.in_line())
    @rule(data=st.data())
    def shed(self, data: st.DataObject) -> None:
        line = self.in_line()
        doomed = line[: data.draw(st.integers(0, len(line)))]
        settled = self.queue.shed(lambda ticket: ticket in doomed)
        assert settled[: len(doomed)] == doomed
        assert all(ticket.admission is Admission.SHED for ticket in doomed)
        self.granted(settled[len(doomed) :])

    @invariant()
    def no_permit_is_lost_or_made(self) -> None:
        assert self.queue.in_use == sum(self.held) + sum(t.permits for t in self.holders)

    @invariant()
    def the_head_waits_only_if_it_does_not_fit(self) -> None:
        line = self.in_line()
        assert self.queue.waiting == len(line)
        assert self.queue.head is (line[0] if line else None)
        if line:
            assert self.queue.in_use + line[0].permits > self.queue.capacity
            assert line[0].permits <= self.queue.capacity


TestPermitQueue = QueueMachine.TestCase
TestPermitQueue.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_big_request_at_the_head_is_not_passed_by_small_ones() -> None:
    """One that needs all permits gets them next, however many small ones come and fit."""
    queue: PermitQueue[Ticket] = PermitQueue(3)
    queue.request(Ticket(), 2)
    big, small = Ticket(), Ticket()
    assert queue.request(big, 3) is Admission.WAITS
    assert queue.request(small, 1) is Admission.WAITS
    assert not queue.try_request(1)
    assert queue.release(2) == [big]
    assert queue.release(3) == [small]


def test_a_big_head_that_leaves_unblocks_those_behind_it() -> None:
    """Its withdrawal grants what it alone had been holding up."""
    queue: PermitQueue[Ticket] = PermitQueue(3)
    queue.request(Ticket(), 1)
    big, second, third = Ticket(), Ticket(), Ticket()
    for ticket, permits in ((big, 3), (second, 1), (third, 1)):
        queue.request(ticket, permits)
    assert queue.withdraw(big, Admission.TIMED_OUT) == [second, third]
    assert big.admission is Admission.TIMED_OUT


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: PermitQueue(0),
        lambda: PermitQueue(1, max_waiting=-1),
        lambda: PermitQueue(1).request(Ticket(), 0),
        lambda: PermitQueue(1).release(0),
        lambda: PermitQueue(1).release(1),
    ],
)
def test_a_number_out_of_range_is_an_error(misuse) -> None:
    """Each raises `ValueError`, giving back more permits than are in use among them."""
    with pytest.raises(ValueError):
        misuse()


def test_a_long_line_is_cheap() -> None:
    """Every step stays O(1) with 200,000 in line, also after most have left from the middle."""
    queue: PermitQueue[Ticket] = PermitQueue(1)
    tickets = [Ticket() for _ in range(200_000)]
    started = time.perf_counter()
    for ticket in tickets:
        queue.request(ticket, 1)
    for ticket in tickets[50_000:0:-1]:
        assert queue.withdraw(ticket) == []
    served = [tickets[0]]
    while queue.in_use:
        served += queue.release(1)
    assert served == [tickets[0], *tickets[50_001:]]
    # About half a second; anything quadratic takes more than ten.
    assert time.perf_counter() - started < 6

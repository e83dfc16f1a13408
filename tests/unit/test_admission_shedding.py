"""Shedding in a simulation with virtual time: who is dropped, when, and at what cost."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from unitofwork.policies.admission import Admission, Gatekeeper, GateStats, Ticket
from unitofwork.policies.shedding import CoDel, Shedding

POOL = 5
MEAN = 0.02
RULE = Shedding(target=0.05, interval=1.0)
SECONDS = 30.0

Service = Callable[[random.Random], float]

#: How long a unit holds its connection; each has the mean MEAN.
SERVICES: dict[str, Service] = {
    "constant": lambda dice: MEAN,
    "uniform": lambda dice: dice.uniform(0, 2 * MEAN),
    "exponential": lambda dice: dice.expovariate(1 / MEAN),
    "heavy tail": lambda dice: dice.lognormvariate(math.log(MEAN) - 1.125, 1.5),
    "few slow ones": lambda dice: MEAN / 4 if dice.random() < 0.9 else MEAN * 7.75,
}


@dataclass
class Run:
    """What a simulation saw: (time, wait) of each waiter that was settled."""

    stats: GateStats
    admitted: list[tuple[float, float]] = field(default_factory=list)
    shed: list[tuple[float, float]] = field(default_factory=list)
    busy_seconds: float = 0.0

    def late(self, *, after: float = 0.0) -> list[tuple[float, float]]:
        return [(at, wait) for at, wait in self.admitted if wait > 2 * RULE.target and at > after]


def poisson(dice: random.Random, rate: float, start: float, end: float) -> Iterator[float]:
    at = start
    while (at := at + dice.expovariate(rate)) < end:
        yield at


def load(times_capacity: float, start: float, end: float, seed: int = 1) -> Iterator[float]:
    return poisson(random.Random(seed), times_capacity * POOL / MEAN, start, end)


def simulate(
    arrivals: Iterable[float],
    service: Service,
    *,
    shedding: Shedding | None = RULE,
    permits: Callable[[random.Random], int] = lambda dice: 1,
    end: float = SECONDS,
) -> Run:
    """Serve `arrivals` through a gate; an unfinished line is served to its end."""
    dice = random.Random(2)
    keeper: Gatekeeper[Ticket] = Gatekeeper(POOL, shedding=shedding)
    run = Run(keeper.stats())
    count = itertools.count()
    events: list[tuple[float, int, Ticket | None]] = [(at, next(count), None) for at in arrivals]
    heapq.heapify(events)
    while events:
        if (now := keeper.due()) < events[0][0]:
            settled = keeper.sweep(now)
        else:
            now, _, holder = heapq.heappop(events)
            if holder is None:
                settled = keeper.enter(now, Ticket(), permits(dice))
            else:
                settled = keeper.leave(now, holder.permits)
        for ticket in settled:
            if ticket.admission is Admission.GRANTED:
                until = now + service(dice)
                heapq.heappush(events, (until, next(count), ticket))
                run.busy_seconds += ticket.permits * max(0.0, min(until, end) - now)
                run.admitted.append((now, ticket.waited))
            else:
                assert ticket.admission is Admission.SHED
                run.shed.append((now, ticket.waited))
    run.stats = keeper.stats()
    return run


@pytest.mark.parametrize("name", SERVICES)
def test_three_times_the_capacity_for_30_s(name: str) -> None:
    """Waits stay within twice the target and the connections stay busy; told apart within 1.5 s.

    The first interval can't be told from a burst, so the waits of that second are long: at most
    one admitted waiter in 20 waits longer, and none once anything was shed.
    """
    run = simulate(load(3, 0, SECONDS), SERVICES[name])
    onset = run.shed[0][0]
    assert RULE.interval < onset < 1.5 * RULE.interval
    assert run.late(after=onset) == []
    assert len(run.late()) < 0.05 * len(run.admitted)
    assert run.busy_seconds > 0.9 * POOL * SECONDS
    # Not simply everybody: two thirds of the load are too much, and no more than that is shed.
    assert 0.6 < len(run.shed) / (len(run.shed) + len(run.admitted)) < 0.7


def test_without_shedding_the_waits_explode() -> None:
    """The simulation does overload the gate: the same load without shedding waits many seconds."""
    run = simulate(load(3, 0, SECONDS), SERVICES["exponential"], shedding=None)
    assert run.shed == []
    assert max(wait for _, wait in run.admitted) > 15


@pytest.mark.parametrize("name", SERVICES)
def test_trees_with_several_connections_are_shed_alike(name: str) -> None:
    """Requests for 1 to 3 permits: the same bounds, less what a big one at the head leaves idle."""
    run = simulate(
        load(1.5, 0, SECONDS), SERVICES[name], permits=lambda dice: dice.choice((1, 2, 3))
    )
    assert run.late(after=run.shed[0][0]) == []
    assert run.busy_seconds > 0.75 * POOL * SECONDS


@pytest.mark.parametrize("name", SERVICES)
def test_a_short_burst_loses_nothing(name: str) -> None:
    """Three times the capacity, again and again, each burst worked off within the interval."""
    bursts = [load(3, start, start + 0.25, seed=int(start)) for start in range(0, 30, 2)]
    run = simulate(itertools.chain(*bursts), SERVICES[name])
    assert run.shed == []
    assert len(run.late()) > 100, "the bursts are real ones"


def test_a_crowd_at_one_instant_loses_nothing() -> None:
    """200 at once wait 0.8 s, 16 times the target, and are all served."""
    run = simulate(itertools.repeat(1.0, 200), SERVICES["constant"])
    assert run.shed == []
    assert len(run.admitted) == 200


def test_after_the_overload_a_sound_load_loses_nothing() -> None:
    """Shedding ends by itself: from an interval after the overload on, bursts are safe again."""
    run = simulate(
        itertools.chain(load(3, 0, 10), load(0.6, 10, 20), load(3, 20, 20.25)),
        SERVICES["exponential"],
    )
    assert run.shed
    assert max(at for at, _ in run.shed) < 10 + RULE.interval


@pytest.mark.parametrize("name", SERVICES)
def test_who_is_dropped_is_told_at_once(name: str) -> None:
    """Once shedding, a waiter is told at twice the target, not when a connection comes back."""
    run = simulate(load(3, 0, SECONDS), SERVICES[name])
    onset = run.shed[0][0]
    waits = [wait for at, wait in run.shed if at > onset]
    assert max(waits) == pytest.approx(2 * RULE.target)
    assert min(waits) == pytest.approx(2 * RULE.target)


def test_the_oldest_are_dropped_and_told_also_when_nothing_comes_back() -> None:
    """All connections stuck: at the end of the interval the late ones go, in order; then each."""
    keeper: Gatekeeper[Ticket] = Gatekeeper(1, shedding=RULE)
    keeper.enter(0.0, Ticket(), 1)
    tickets = [Ticket() for _ in range(13)]
    for number, ticket in enumerate(tickets):
        keeper.enter(number / 10, ticket, 1)
    dropped = []
    while (now := keeper.due()) < math.inf:
        dropped += [(round(now, 3), ticket) for ticket in keeper.sweep(now)]
    assert [ticket for _, ticket in dropped] == tickets
    # The first passed the target at 0.05, and an interval later those from 0.95 or before are late.
    assert [at for at, _ in dropped] == [1.05] * 10 + [1.1, 1.2, 1.3]


@pytest.mark.parametrize(("queued_at", "dropped_at"), [(0.4, 1.05), (0.48, 1.53)])
def test_a_wait_below_the_target_starts_a_new_interval(queued_at: float, dropped_at: float) -> None:
    """The head left at 0.5: the next had by then waited above the target, or not yet."""
    codel = CoDel(RULE)
    assert not codel.judge(0.5, 0.0)
    assert codel.drop_at(queued_at) == pytest.approx(dropped_at)
    assert not codel.judge(dropped_at - 0.01, queued_at)
    assert codel.judge(dropped_at + 0.01, queued_at)


STEPS: dict[str, Callable[[Gatekeeper[Ticket], Ticket], list[Ticket]]] = {
    "sweep": lambda keeper, big: keeper.sweep(1.2),
    "cancelled": lambda keeper, big: keeper.withdraw(1.2, big),
    "deadline": lambda keeper, big: keeper.expire(1.2, big),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_late_one_does_not_pass_when_the_head_goes(step: str) -> None:
    """However a big request leaves the head, who is behind it is judged before any grant."""
    keeper: Gatekeeper[Ticket] = Gatekeeper(2, shedding=RULE)
    keeper.enter(0.0, Ticket(), 1)
    big, late, fresh = Ticket(), Ticket(), Ticket()
    keeper.enter(0.1, big, 2)
    keeper.enter(0.2, late, 1)
    keeper.enter(1.19, fresh, 1)
    assert STEPS[step](keeper, big) == [big, late, fresh]
    assert [t.admission for t in (big, late, fresh)] == [
        Admission.SHED,
        Admission.SHED,
        Admission.GRANTED,
    ]


@pytest.mark.parametrize("rule", [(0, 1), (-1, 1), (1, 1.9), (math.nan, 1), (1, math.inf)])
def test_a_rule_out_of_range_is_an_error(rule: tuple[float, float]) -> None:
    """The target is above 0 and the interval at least twice as long."""
    with pytest.raises(ValueError):
        Shedding(target=rule[0], interval=rule[1])

"""The gate for threads: exact first in first out, and no permit is ever lost."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from unitofwork.faces.gate_sync import SyncGate
from unitofwork.policies.admission import Admission, GateRefused, GateTimeout
from unitofwork.policies.shedding import Shedding


def start(target: Callable[..., Any], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def join(*threads: threading.Thread) -> None:
    """Wait for the end of each, not for ever."""
    until = time.monotonic() + 30
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
        assert not thread.is_alive(), "a thread hangs"


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.0005)


def start_in_line(gate: SyncGate, target: Callable[..., Any], *args: Any) -> threading.Thread:
    """Start a thread, and go on when it is in line."""
    before = gate.stats().waiting
    thread = start(target, *args)
    wait_until(lambda: gate.stats().waiting == before + 1)
    return thread


def test_the_order_is_exactly_that_of_arrival() -> None:
    """50 threads of 1 to 3 permits each pass in the order in which they came."""
    gate, dice, passed = SyncGate(3), random.Random(3), []

    def pass_through(number: int, permits: int) -> None:
        gate.acquire(permits)
        passed.append((number, permits))
        # With no permits but those of one thread in use, the order of the list is that of grants.
        time.sleep(0.001)
        gate.release(permits)

    gate.acquire(3)
    threads = [start_in_line(gate, pass_through, n, dice.choice((2, 3))) for n in range(50)]
    gate.release(3)
    join(*threads)
    assert [number for number, _ in passed] == list(range(50))
    assert gate.stats().in_use == 0


@pytest.mark.parametrize("shedding", [None, Shedding(target=0.001, interval=0.004)])
def test_50_threads_lose_no_permit(shedding: Shedding | None) -> None:
    """Random permits, deadlines and sheddings: never more in use than there are, all back."""
    gate = SyncGate(7, shedding=shedding)
    lock = threading.Lock()
    holding = 0
    outcomes: dict[str, int] = {"granted": 0, "not granted": 0}
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        nonlocal holding
        dice = random.Random(seed)
        try:
            for _ in range(60):
                permits = dice.randint(1, 7)
                deadline = time.monotonic() + dice.choice((0, 0.0005, 0.005, 30))
                try:
                    gate.acquire(permits, deadline=deadline)
                except (GateTimeout, GateRefused):
                    with lock:
                        outcomes["not granted"] += 1
                    continue
                with lock:
                    holding += permits
                    assert holding <= 7
                    outcomes["granted"] += 1
                time.sleep(dice.choice((0, 0, 0.0005)))
                with lock:
                    holding -= permits
                gate.release(permits)
        except BaseException as error:
            errors.append(error)

    join(*[start(work, seed) for seed in range(50)])
    stats = gate.stats()
    assert errors == []
    assert (stats.in_use, stats.waiting) == (0, 0)
    assert outcomes["granted"] == stats.granted
    assert outcomes["not granted"] == stats.timeouts + stats.shed
    assert min(outcomes.values()) > 100, outcomes
    assert gate.try_acquire(7)


@contextmanager
def interrupts_in_the_wait() -> Iterator[Callable[[], None]]:
    """SIGINT raises `KeyboardInterrupt` while the main thread waits at a gate, else nothing.

    Python may raise it anywhere, also between the return of `acquire` and the first line of the
    caller, where nobody could keep the permit. The promise is about the wait.
    """

    def handler(signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is SyncGate._wait.__code__:
                raise KeyboardInterrupt
            frame = frame.f_back

    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_in_the_wait_leaves_the_line() -> None:
    """Ctrl-C in the main thread: it ends the wait, and who is behind comes next."""
    gate, passed = SyncGate(1), []

    def pass_through() -> None:
        gate.acquire()
        passed.append(True)
        gate.release()

    def interrupt() -> None:
        wait_until(lambda: gate.stats().waiting == 1)
        behind.append(start_in_line(gate, pass_through))
        send()

    gate.acquire()
    behind: list[threading.Thread] = []
    with interrupts_in_the_wait() as send:
        helper = start(interrupt)
        with pytest.raises(KeyboardInterrupt):
            gate.acquire(deadline=time.monotonic() + 30)
        join(helper)
    assert not passed
    gate.release()
    join(*behind)
    assert gate.stats().in_use == 0


def test_an_interrupt_at_the_moment_of_the_grant_loses_no_permit() -> None:
    """Whether the interrupt or the grant comes first: no permit is lost, and none is made."""
    gate, dice = SyncGate(1), random.Random(5)
    outcomes = {"granted": 0, "granted, then interrupted": 0, "interrupted": 0}

    def race() -> None:
        wait_until(lambda: gate.stats().waiting == 1)
        first, second = dice.sample([gate.release, send], 2)
        first()
        if dice.random() < 0.5:
            time.sleep(0.001)
        second()

    with interrupts_in_the_wait() as send:
        for _ in range(300):
            gate.acquire()
            before = gate.stats().granted
            helper = start(race)
            try:
                gate.acquire()
            except KeyboardInterrupt:
                granted = gate.stats().granted > before
                outcomes["granted, then interrupted" if granted else "interrupted"] += 1
            else:
                outcomes["granted"] += 1
                gate.release()
            join(helper)
            assert gate.stats().in_use == 0
    assert min(outcomes.values()) > 0, outcomes


def test_the_deadline_ends_the_wait_and_says_what_it_was() -> None:
    """`GateTimeout` has the wait and the counts; the place in line is given up."""
    gate = SyncGate(2)
    gate.acquire(2)
    started = time.monotonic()
    with pytest.raises(GateTimeout, match=r"2 of 2 permits: timed out after 0\.\d+ s") as caught:
        gate.acquire(2, deadline=started + 0.05)
    assert 0.04 < caught.value.waited <= time.monotonic() - started < 5
    stats = caught.value.stats
    assert (stats.capacity, stats.in_use, stats.waiting) == (2, 2, 0)
    assert (stats.granted, stats.timeouts, stats.shed, stats.refused) == (1, 1, 0, 0)
    assert stats.wait_seconds == stats.max_wait == caught.value.waited
    with pytest.raises(GateTimeout):
        gate.acquire(deadline=0)


def test_a_big_head_that_times_out_unblocks_those_behind_it() -> None:
    """At its deadline what it had been holding up passes, without a release."""
    gate = SyncGate(3)
    gate.acquire(2)

    def ask_for_all() -> None:
        with pytest.raises(GateTimeout):
            gate.acquire(3, deadline=time.monotonic() + 0.05)

    big = start_in_line(gate, ask_for_all)
    gate.acquire(1, deadline=time.monotonic() + 30)
    join(big)
    assert gate.stats().in_use == 3


def test_what_can_never_be_granted_and_a_long_line_are_refused_at_once() -> None:
    """`GateRefused`, with the reason; and nobody in line is passed by `try_acquire`."""
    gate = SyncGate(2, max_waiting=1)
    with pytest.raises(GateRefused) as caught:
        gate.acquire(3)
    assert caught.value.reason is Admission.TOO_MANY
    gate.acquire()
    waiter = start_in_line(gate, gate.acquire, 2)
    assert not gate.try_acquire()
    with pytest.raises(GateRefused) as caught:
        gate.acquire()
    assert caught.value.reason is Admission.REFUSED
    gate.release()
    join(waiter)


def test_shed_waiters_are_told_though_nothing_comes_back() -> None:
    """All connections stuck: after the interval the late ones go, and later ones when late."""
    gate = SyncGate(1, shedding=Shedding(target=0.05, interval=0.2))
    gate.acquire()
    reasons = []

    def wait() -> None:
        try:
            gate.acquire(deadline=time.monotonic() + 30)
        except GateRefused as refused:
            reasons.append((refused.reason, refused.waited > 0.1))

    started = time.monotonic()
    threads = [start_in_line(gate, wait) for _ in range(5)]
    time.sleep(max(0, started + 0.2 - time.monotonic()))
    threads += [start(wait) for _ in range(5)]
    join(*threads)
    assert reasons == [(Admission.SHED, True)] * 10
    assert 0.25 <= time.monotonic() - started < 5
    assert (gate.stats().shed, gate.stats().waiting) == (10, 0)


def test_a_release_never_waits_for_the_lock() -> None:
    """While another thread is in the middle of a step: it takes the permits when it leaves."""
    inside, go_on, calls = threading.Event(), threading.Event(), itertools.count()

    def clock() -> float:
        if next(calls) == 1:
            inside.set()
            assert go_on.wait(30)
        return time.monotonic()

    gate = SyncGate(1, clock=clock)
    gate.acquire()
    waiter = start(gate.acquire)
    assert inside.wait(30)
    join(start(gate.release))
    assert gate.stats().in_use == 1
    go_on.set()
    join(waiter)
    assert (gate.stats().granted, gate.stats().in_use) == (2, 1)


def test_giving_back_too_much_is_an_error_and_changes_nothing() -> None:
    """`ValueError`; the gate goes on as before."""
    gate = SyncGate(2)
    gate.acquire()
    for permits in (0, 2):
        with pytest.raises(ValueError):
            gate.release(permits)
    with pytest.raises(ValueError):
        gate.try_acquire(0)
    gate.release()
    assert gate.try_acquire(2)

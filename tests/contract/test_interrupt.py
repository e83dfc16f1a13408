"""Ctrl-C in a sync unit: wherever it strikes, nothing is left out, open, or half done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select, text

from unitofwork import NoUnitError, Outcome, current

from .face import Face, checked_out, sync_engine
from .model import Item

MAIN = threading.main_thread()


class InterruptAt:
    """Sends SIGINT at the k-th time that one of these engine events comes."""

    def __init__(self, face: Face, k: int, *names: str) -> None:
        self.left = k
        for name in names:
            event.listen(sync_engine(face.uow), name, self._strike(name))

    def _strike(self, name: str) -> Callable[..., Any]:
        def strike(*args: Any) -> None:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)

        return strike


def work(face: Face) -> Any:
    """A unit that does a bit of everything."""
    with face.uow() as tx:
        seen.append(tx)
        tx.add(Item(id=1, name="one"))
        tx.flush()
        with tx.savepoint():
            tx.add(Item(id=2, name="two"))
        tx.scalars(select(Item)).all()
        tx.add(Item(id=3, name="at the end"))
    return tx


seen: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    seen.clear()


def assert_sound(face: Face) -> None:
    """Nothing of the unit is left, and the next one works."""
    with pytest.raises(NoUnitError):
        current()
    assert checked_out(face.uow) == 0
    assert face.uow._home.running == set()
    if face.probe is not None:
        face.probe.wait_until_quiet()
    with face.uow() as tx:
        tx.add(Item(id=9, name="next"))
        tx.flush()
        tx.set_rollback_only()


def interrupted(face: Face, k: int, *names: str) -> bool:
    """Run `work` with an interrupt at the k-th event; whether there were so many."""
    strike = InterruptAt(face, k, *names)
    try:
        work(face)
    except KeyboardInterrupt:
        assert strike.left <= 0
        return True
    assert strike.left > 0, "the interrupt was swallowed"
    return False


def test_before_each_statement(threads: Face) -> None:
    """At the k-th statement for every k, those of the savepoint and the last flush included."""
    warm_up(threads)
    k = 1
    while interrupted(threads, k, "before_cursor_execute"):
        assert seen[-1].outcome is Outcome.ROLLED_BACK
        assert threads.names() == []
        assert_sound(threads)
        k += 1
    assert k > 5
    assert threads.names() == ["one", "two", "at the end"]


def test_after_each_statement(threads: Face) -> None:
    """When the database has answered, and nobody has taken note of it yet."""
    warm_up(threads)
    k = 1
    while interrupted(threads, k, "after_cursor_execute"):
        assert seen[-1].outcome is Outcome.ROLLED_BACK
        assert threads.names() == []
        assert_sound(threads)
        k += 1
    assert k > 5


@pytest.mark.parametrize("moment", ["connect", "checkout", "begin", "commit"])
def test_at_each_step_of_its_life(threads: Face, moment: str) -> None:
    """Whatever the outcome is said to be, the rows agree with it."""
    if moment != "connect":
        warm_up(threads)
    assert interrupted(threads, 1, moment)
    assert seen[-1].outcome is not Outcome.PENDING
    kept = threads.names()
    match seen[-1].outcome:
        case Outcome.COMMITTED:
            assert kept == ["one", "two", "at the end"]
        case Outcome.ROLLED_BACK:
            assert kept == []
        case Outcome.UNKNOWN:
            assert moment == "commit"
    assert_sound(threads)


def test_while_it_rolls_back(threads: Face) -> None:
    """An interrupt on the way out of a failed block leaves no connection behind either."""
    warm_up(threads)
    strike = InterruptAt(threads, 1, "rollback")
    with pytest.raises(KeyboardInterrupt):
        with threads.uow() as tx:
            tx.add(Item(id=1, name="one"))
            tx.flush()
            raise LookupError
    assert strike.left == 0
    assert tx.outcome is Outcome.ROLLED_BACK
    assert threads.names() == []
    assert_sound(threads)


def test_in_the_middle_of_a_statement(postgres_threads: Face) -> None:
    """The server stops the query; the caller does not wait for its end. (SQLite would.)"""
    threads = postgres_threads
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with threads.uow() as tx:
            tx.add(Item(id=1, name="one"))
            tx.flush()
            timer = threading.Timer(0.3, signal.pthread_kill, (MAIN.ident, signal.SIGINT))
            timer.start()
            tx.execute(threads.slow(20))
    timer.join()
    assert time.monotonic() - began < 10
    assert tx.outcome is Outcome.ROLLED_BACK
    assert threads.names() == []
    assert_sound(threads)


def test_in_a_callback(threads: Face) -> None:
    """The commit stands, and the interrupt arrives."""

    def callback() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        with threads.uow() as tx:
            tx.add(Item(id=1, name="one"))
            tx.on_commit(callback)
    assert tx.outcome is Outcome.COMMITTED
    assert threads.names() == ["one"]
    assert_sound(threads)


def warm_up(face: Face) -> None:
    """Connect, so that the first event is one of the unit's own."""
    with face.uow() as tx:
        tx.execute(text("SELECT 1"))

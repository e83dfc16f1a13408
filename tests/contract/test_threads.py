"""The sync face in threads without an event loop: the same promises, many units at once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from unitofwork import ConcurrentUseError, NoUnitError, Outcome, current

from .face import Face, checked_out, statements
from .model import Item


def test_units_of_many_threads_keep_apart(threads: Face) -> None:
    """More threads than connections: each commits or fails by itself, every row is accounted."""
    uow = threads.make(pool_size=3)
    kept: list[int] = []

    def work(worker: int) -> None:
        chance = random.Random(worker)
        for step in range(10):
            number = worker * 100 + step
            fails = chance.random() < 0.3
            try:
                with uow() as tx:
                    assert current() is tx
                    tx.add(Item(id=number, name=f"{number}"))
                    tx.flush()
                    assert tx.get(Item, number) is not None
                    if fails:
                        raise LookupError
                kept.append(number)
            except LookupError:
                assert fails
            with pytest.raises(NoUnitError):
                current()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, worker) for worker in range(8)]:
            future.result(60)
    assert sorted(map(int, threads.names())) == sorted(kept)
    assert 0 < len(kept) < 80
    assert checked_out(uow) == 0


def test_a_new_thread_is_in_no_unit(threads: Face) -> None:
    """A plain thread, with a context of its own, has nothing to join."""
    seen: list[Any] = []

    def work() -> None:
        with pytest.raises(NoUnitError):
            current()
        with threads.uow() as own:
            seen.append(own)

    with threads.uow() as tx:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    assert len(seen) == 1
    assert seen[0] is not tx


def test_a_thread_that_uses_a_busy_transaction_is_refused(threads: Face) -> None:
    """Both threads are named; the one that was first is not disturbed."""
    answers: list[Any] = []

    def first_query(tx: Any) -> None:
        answers.append(tx.execute(threads.slow(0.5)).scalar())

    sent = statements(threads.uow)
    with threads.uow() as tx:
        thread = threading.Thread(target=first_query, args=(tx,), name="first")
        thread.start()
        drive_until(lambda: any("slow" in statement for statement in sent))
        with pytest.raises(ConcurrentUseError) as caught:
            tx.execute(text("SELECT 1"))
        thread.join(30)
    assert tx.outcome is Outcome.COMMITTED
    assert len(answers) == 1
    assert caught.value.there.function.endswith("first_query")
    assert "thread 'first'" in str(caught.value)
    assert "thread 'MainThread'" in str(caught.value)


def drive_until(condition: Any) -> None:
    deadline = threading.Event()
    for _ in range(1000):
        if condition():
            deadline.wait(0.05)
            return
        deadline.wait(0.005)
    raise AssertionError("what the test waits for did not come")

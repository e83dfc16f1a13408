"""Classes 12, 13 and 19: locks of tables, of names, and of the application."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.util import await_only
from tests.locks.steering import Body, Party, Stage

from .model import Row, Word

ADVISORY = text("SELECT pg_advisory_xact_lock(7)")


async def test_12_truncate(stage: Stage) -> None:
    """Both have read the table, both want it alone: lock_timeout ends that before the detector.

    No order covers locks of tables: a restart does.
    """

    def body(tx: Any, party: Party) -> None:
        if party.attempts == 1:
            assert tx.scalar(select(func.count()).select_from(Word)) is not None
        party.meet()
        tx.execute(text("TRUNCATE class_word"))
        party.meet()

    (await stage.plain(body, body)).check_deadlock()
    ended = await stage.units(body, body)
    ended.check_well()
    assert stage.probe.execute("SELECT count(*) FROM class_word") == [(0,)]


async def test_13_a_name_and_a_row(stage: Stage) -> None:
    """An advisory lock and a row, in opposite orders."""

    def name_first(tx: Any, party: Party) -> None:
        tx.execute(ADVISORY)
        party.meet()
        tx.get_one(Row, 1).v += 1

    def row_first(tx: Any, party: Party) -> None:
        tx.get_one(Row, 1, with_for_update=True).v += 1
        tx.flush()
        party.meet()
        tx.execute(ADVISORY)

    def ours(*steps: str) -> Body:
        def body(tx: Any, party: Party) -> None:
            for step in steps:
                if step == "name":
                    tx.lock_name("seven")
                else:
                    tx.lock(Row, 1).v += 1
                    tx.flush()
                party.meet()

        return body

    (await stage.plain(name_first, row_first)).check_deadlock()
    stage.probe.execute("UPDATE class_row SET v = 0 WHERE id = 1")
    ended = await stage.units(ours("name", "row"), ours("row", "name"))
    ended.check_well()
    assert ended.attempts == [1, 2]
    assert stage.probe.execute("SELECT v FROM class_row WHERE id = 1") == [(2,)]


async def test_19_a_lock_of_the_application(stage: Stage) -> None:
    """`asyncio.Lock` and a row: neither side sees the other, so nothing ever ends that.

    A name in its place is one of the locks that have an order.
    """
    lock: Any = asyncio.Lock() if stage.face.is_async else threading.Lock()

    def acquire() -> None:
        if stage.face.is_async:
            await_only(asyncio.wait_for(lock.acquire(), 1))
        elif not lock.acquire(timeout=1):
            raise TimeoutError

    def row_first(tx: Any, party: Party) -> None:
        tx.get_one(Row, 1, with_for_update=True).v += 1
        tx.flush()
        party.meet()
        acquire()
        lock.release()

    def lock_first(tx: Any, party: Party) -> None:
        acquire()
        try:
            party.meet()
            tx.get_one(Row, 1, with_for_update=True).v += 1
            tx.flush()
        finally:
            lock.release()

    def ours(*steps: str) -> Body:
        def body(tx: Any, party: Party) -> None:
            for step in steps:
                if step == "lock":
                    tx.lock_name("the application's")
                else:
                    tx.lock(Row, 1).v += 1
                    tx.flush()
                party.meet()

        return body

    # Only the end of our patience lets them go.
    plain = await stage.plain(row_first, lock_first)
    assert plain.deadlocks == 0
    assert [type(error) for error in plain.errors] == [TimeoutError]
    stage.probe.execute("UPDATE class_row SET v = 0 WHERE id = 1")
    ended = await stage.units(ours("row", "lock"), ours("lock", "row"))
    ended.check_well()
    assert stage.probe.execute("SELECT v FROM class_row WHERE id = 1") == [(2,)]

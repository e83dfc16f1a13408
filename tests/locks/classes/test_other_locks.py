"""Classes 12, 13 and 19: locks of tables, of names, and of the application."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.util import await_only
from tests.locks.steering import Body, Party, Stage

from .model import RESET, Row, Word

ADVISORY = text("SELECT pg_advisory_xact_lock(7)")


async def test_12_a_table_that_both_have_read(stage: Stage) -> None:
    """Then both want it alone. No order covers tables: who knows, takes the strongest lock first.

    The server sees this circle at once, without its timer: so nothing can be faster, and the
    retry carries it.
    """

    def body(tx: Any, party: Party) -> None:
        tx.scalar(select(func.count()).select_from(Word))
        party.meet()
        tx.execute(text("TRUNCATE class_word"))

    def strongest_first(tx: Any, party: Party) -> None:
        tx.execute(text("LOCK TABLE class_word IN ACCESS EXCLUSIVE MODE"))
        body(tx, party)

    (await stage.plain(body, body)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(body, body)
    assert not ended.errors, ended
    assert stage.probe.execute("SELECT count(*) FROM class_word") == [(0,)]
    (await stage.units(strongest_first, strongest_first)).check_well()


async def test_12_two_tables(stage: Stage) -> None:
    """U row; SELECT word beside TRUNCATE word; TRUNCATE row: a wait of SQL text is a short one."""

    def writes(tx: Any, party: Party) -> None:
        tx.get_one(Row, 1).v += 1
        tx.flush()
        party.meet()
        tx.scalar(select(func.count()).select_from(Word))

    def truncates(tx: Any, party: Party) -> None:
        tx.execute(text("TRUNCATE class_word"))
        party.meet()
        tx.execute(text("TRUNCATE class_row"))

    (await stage.plain(writes, truncates)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(writes, truncates)
    ended.check_well(uncovered=True)
    assert ended.attempts[1] > 1
    assert stage.probe.execute("SELECT count(*) FROM class_row, class_word") == [(0,)]


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

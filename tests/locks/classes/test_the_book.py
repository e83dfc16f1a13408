"""Class 23: rows that are believed to be held, and are not."""

from __future__ import annotations

from typing import Any

from tests.locks.steering import Party, Stage

from unitofwork import RowNotFoundError

from .model import RESET, Row, Word


async def test_23_a_row_that_was_not_there(stage: Stage) -> None:
    """What was asked for and did not exist is not locked: written later, it comes late."""

    def absent(tx: Any, party: Party, lock: Any) -> None:
        if party.attempts == 1:
            assert lock(tx, 0) is None
        lock(tx, 1).v += 1
        tx.flush()
        party.meet()  # the other one inserts row 0
        party.meet()  # and has locked it
        tx.get_one(Row, 0).v = Row.v + 1
        tx.flush()

    def inserted(tx: Any, party: Party, lock: Any) -> None:
        party.meet()
        stage.probe.execute("INSERT INTO class_row VALUES (0, 0, 0) ON CONFLICT DO NOTHING")
        lock(tx, 0).v += 1
        tx.flush()
        party.meet()
        lock(tx, 1).v += 1

    await clash(stage, absent, inserted)
    assert stage.probe.execute("SELECT v FROM class_row WHERE id < 2") == [(2,), (2,)]


async def test_23_a_savepoint_gives_locks_back(stage: Stage) -> None:
    """ROLLBACK TO SAVEPOINT has released the row: asked for again, it comes late."""

    def undone(tx: Any, party: Party, lock: Any) -> None:
        try:
            with tx.begin_nested():
                lock(tx, 1)
                raise LookupError
        except LookupError:
            pass
        lock(tx, 2).v += 1
        tx.flush()
        party.meet()
        party.meet()
        lock(tx, 1).v += 1

    def taken(tx: Any, party: Party, lock: Any) -> None:
        party.meet()
        lock(tx, 1).v += 1
        tx.flush()
        party.meet()
        lock(tx, 2).v += 1

    await clash(stage, undone, taken)
    found = stage.probe.execute("SELECT v FROM class_row WHERE id IN (1, 2)")
    assert found == [(2,), (2,)]


async def clash(stage: Stage, one: Any, other: Any) -> None:
    """Plain sessions deadlock; of two units the first is refused once."""

    def naive(tx: Any, key: int) -> Any:
        return tx.get(Row, key, with_for_update=True)

    def ours(tx: Any, key: int) -> Any:
        try:
            return tx.lock(Row, key)
        except RowNotFoundError:
            return None

    def across(tx: Any, key: int) -> Any:
        # By the way of several tables.
        try:
            return tx.lock_across({Word: ["a"], Row: [key]})[Row][0]
        except RowNotFoundError:
            return None

    def bodies(lock: Any) -> Any:
        return (
            lambda tx, party: one(tx, party, lock),
            lambda tx, party: other(tx, party, lock),
        )

    (await stage.plain(*bodies(naive))).check_deadlock()
    for lock in (across, ours):
        stage.probe.execute(RESET)
        ended = await stage.units(*bodies(lock))
        ended.check_well()
        assert ended.attempts == [2, 1]

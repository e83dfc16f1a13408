"""Classes 1, 3, 4 and 14: rows that are asked for in opposite orders."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, update
from tests.locks.steering import Body, Party, Stage

from .model import RESET, Row, Word

ASC, BY_SCAN = Row.id.between(1, 3), Row.grp == 1
MIDDLE = "SELECT 1 FROM class_row WHERE id = 2 FOR UPDATE"


def values(stage: Stage) -> list[int]:
    return [v for (v,) in stage.probe.execute("SELECT v FROM class_row WHERE id <= 3 ORDER BY id")]


def write(first: int, then: int) -> Body:
    """Two rows, each in a flush of its own; a value of the server's, so that nothing is lost."""

    def body(tx: Any, party: Party) -> None:
        tx.get_one(Row, first).v = Row.v + 1
        tx.flush()
        party.meet()
        tx.get_one(Row, then).v = Row.v + 1
        tx.flush()

    return body


async def test_01_updates_in_opposite_orders(stage: Stage) -> None:
    """U r1; U r2 beside U r2; U r1: the one that is out of order does not wait, and starts anew."""
    (await stage.plain(write(1, 2), write(2, 1))).check_deadlock()
    assert values(stage)[:2] == [1, 1]
    ended = await stage.units(write(1, 2), write(2, 1))
    ended.check_well()
    assert ended.attempts == [1, 2]
    assert values(stage)[:2] == [3, 3]


async def test_01_declared(stage: Stage) -> None:
    """Locked together, in whatever order they are named: nobody starts anew."""

    def move(source: int, target: int) -> Body:
        def body(tx: Any, party: Party) -> None:
            one, other = tx.lock_many(Row, [source, target])
            assert (one.id, other.id) == (source, target)
            party.meet()
            one.v -= 5
            other.v += 5

        return body

    ended = await stage.units(move(1, 2), move(2, 1), move(3, 1))
    ended.check_well()
    assert ended.attempts == [1, 1, 1]
    assert values(stage) == [5, 0, -5]


async def test_03_selects_for_update(stage: Stage) -> None:
    """By the index, and by a scan that finds them the other way round."""

    def naive(condition: Any) -> Body:
        def body(tx: Any, party: Party) -> None:
            for row in tx.scalars(select(Row).where(condition).with_for_update()).all():
                row.v += 1

        return body

    def ours(condition: Any) -> Body:
        def body(tx: Any, party: Party) -> None:
            for row in tx.lock_where(select(Row).where(condition)):
                row.v += 1

        return body

    (await stage.plain(naive(ASC), naive(BY_SCAN), gate=MIDDLE)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(ours(ASC), ours(BY_SCAN), gate=MIDDLE)
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert values(stage) == [2, 2, 2]


async def test_04_sorted_by_what_changes(stage: Stage) -> None:
    """ORDER BY a column of the snapshot: the second sorts by a value that the first didn't see."""
    found = select(Row).where(ASC).order_by(Row.v, Row.id)

    def naive(tx: Any, party: Party) -> None:
        for row in tx.scalars(found.with_for_update()).all():
            row.grp += 1

    def ours(tx: Any, party: Party) -> None:
        for row in tx.lock_where(found):
            row.grp += 1

    def after_a_change(body: Body) -> Body:
        def changed(tx: Any, party: Party) -> None:
            party.when_other_waits()
            if party.attempts == 1:
                stage.probe.execute("UPDATE class_row SET v = -1 WHERE id = 3")
            body(tx, party)

        return changed

    (await stage.plain(naive, after_a_change(naive), gate=MIDDLE)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(ours, after_a_change(ours), gate=MIDDLE)
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert stage.probe.execute("SELECT grp FROM class_row WHERE id <= 3") == [(3,)] * 3


async def test_04_two_comparators(stage: Stage) -> None:
    """Python sorts 'B' before 'a'; who lets the server sort by another rule has it behind."""

    def by_python(tx: Any, party: Party) -> None:
        for word in sorted(["a", "B"]):
            tx.get_one(Word, word, with_for_update=True).v += 1
            party.meet()

    def by_the_server(tx: Any, party: Party) -> None:
        words = tx.scalars(select(Word.text).order_by(func.lower(Word.text))).all()
        for word in words:
            tx.get_one(Word, word, with_for_update=True).v += 1
            party.meet()

    def ours(tx: Any, party: Party) -> None:
        words = tx.scalars(select(Word.text).order_by(func.lower(Word.text))).all()
        for row in tx.lock_many(Word, words):
            row.v += 1
        party.meet()

    (await stage.plain(by_python, by_the_server)).check_deadlock()
    ended = await stage.units(ours, ours)
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert stage.probe.execute("SELECT v FROM class_word") == [(3,), (3,)]


async def test_04_two_spellings(stage: Stage) -> None:
    """ "10" comes before "2", and 2 before 10: who has the keys as text asks in the same order."""

    def sorted_as_given(*keys: Any) -> Body:
        def body(tx: Any, party: Party) -> None:
            for key in sorted(keys):
                tx.execute(update(Row).where(Row.id == int(key)).values(v=Row.v + 1))
                party.meet()

        return body

    def ours(*keys: Any) -> Body:
        def body(tx: Any, party: Party) -> None:
            for row in tx.lock_many(Row, keys):
                row.v += 1

        return body

    (await stage.plain(sorted_as_given(2, 10), sorted_as_given("2", "10"))).check_deadlock()
    ended = await stage.units(ours(2, 10), ours("2", "10"), gate=MIDDLE)
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert stage.probe.execute("SELECT v FROM class_row WHERE id IN (2, 10)") == [(3,), (3,)]


@pytest.mark.parametrize("autoflush", [False, True])
async def test_14_autoflush(stage: Stage, autoflush: bool) -> None:
    """One commit, no flush call: a query in between sends what was changed so far."""

    def body(first: int, then: int) -> Body:
        def body(tx: Any, party: Party) -> None:
            tx.autoflush = autoflush or tx.autoflush
            tx.get_one(Row, first).v = Row.v + 1
            tx.scalar(select(func.count()).select_from(Row))
            party.meet()
            tx.get_one(Row, then).v = Row.v + 1

        return body

    (await stage.plain(body(2, 1), body(1, 2), autoflush=True)).check_deadlock()
    ended = await stage.units(body(2, 1), body(1, 2))
    ended.check_well()
    # Without autoflush, which is how a unit begins, all is written at the end, in order.
    assert ended.attempts == ([2, 1] if autoflush else [1, 1])
    assert values(stage)[:2] == [3, 3]

"""Class 15: the statements of one flush come out of order, seen over the whole flush."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import joinedload
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.exc import StaleDataError
from tests.locks.steering import Body, Party, Stage

from unitofwork import RetryPolicy

from .model import RESET, Aaa, Bbb, Ccc, Node, Player, Reader, Row, Team, Title

Change = Callable[[Any], None]


def flushed(change: Change, first: int = 1) -> Body:
    """Changes that one flush sends, of which the first are sent when the parties meet."""

    def body(tx: Any, party: Party) -> None:
        change(tx)
        party.meet_after_write(first)
        tx.flush()

    return body


def delete_1_update_2(tx: Any) -> None:
    one, two = (tx.get(Row, key) for key in (1, 2))
    if one is not None:
        tx.delete(one)
    two.v = Row.v + 1


def update_both(tx: Any) -> None:
    one, two = (tx.get(Row, key) for key in (1, 2))
    if one is not None:
        one.v = Row.v + 1
    # Another column: another statement, after the first.
    two.grp = Row.grp + 1


def two_mappers(tx: Any) -> None:
    tx.get_one(Aaa, 1).v = Aaa.v + 1
    tx.get_one(Bbb, 1).v = Bbb.v + 1


def and_a_third(tx: Any) -> None:
    two_mappers(tx)
    tx.get_one(Ccc, 1).v = Ccc.v + 1


def one_eagerly_loaded(tx: Any) -> None:
    one = tx.get_one(Aaa, 1, options=[joinedload(Aaa.c)])
    two_mappers(tx)
    assert one.c is None


def by_key(tx: Any) -> None:
    one, two = (tx.get_one(Node, key) for key in (1, 2))
    one.v = Node.v + 1
    two.v = Node.v + 1


def by_depth(tx: Any) -> None:
    """Node 1 is below node 2: as soon as the session knows that, node 2 is written first."""
    one = tx.get_one(Node, 1, options=[joinedload(Node.parent)])
    by_key(tx)
    assert one.parent is tx.get_one(Node, 2)


def both_teams(tx: Any) -> None:
    one, two = (tx.get_one(Team, key) for key in (1, 2))
    one.v = Team.v + 1
    two.v = Team.v + 1


def and_a_new_captain(tx: Any) -> None:
    """A row comes between that has to be there before the one team, and not before the other."""
    both_teams(tx)
    tx.get_one(Team, 1).captain = Player(id=9)


async def clash(stage: Stage, one: Change, other: Change, **options: Any) -> None:
    """Plain sessions deadlock, units don't, and none of them starts anew."""
    plain = await stage.plain(flushed(one), flushed(other), autoflush=False)
    plain.check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(flushed(one), flushed(other), **options)
    ended.check_well()
    if not options:
        assert ended.attempts == [1, 1]


async def test_15_deletes_come_after_updates(stage: Stage) -> None:
    """{delete 1, update 2} beside {update 1, update 2}."""
    # Who comes second finds that row 1 is gone: an error of its own, not one of locks.
    gone = RetryPolicy(wait_initial=0.001, on=lambda error: isinstance(error, StaleDataError))
    await clash(stage, delete_1_update_2, update_both, retry=gone)
    found = stage.probe.execute("SELECT id, v, grp FROM class_row WHERE id < 3 ORDER BY id")
    assert found == [(2, 1, 2)]


async def test_15_a_third_mapper_turns_two_others_round(stage: Stage) -> None:
    """{Aaa, Bbb} beside {Aaa, Bbb, Ccc}, where Ccc is the parent of Aaa."""
    await clash(stage, two_mappers, and_a_third)
    assert stage.probe.execute(
        "SELECT a.v, b.v, c.v FROM class_aaa a, class_bbb b, class_ccc c"
    ) == [(2, 2, 1)]


async def test_15_a_loaded_relationship_turns_two_mappers_round(stage: Stage) -> None:
    """The same two updates, in one session with `Aaa.c` eagerly loaded."""
    await clash(stage, two_mappers, one_eagerly_loaded)
    assert stage.probe.execute("SELECT a.v, b.v FROM class_aaa a, class_bbb b") == [(2, 2)]


async def test_15_rows_of_a_tree_go_by_depth(stage: Stage) -> None:
    """Two nodes, by key in one session; parent first in the other, which has loaded that."""
    await clash(stage, by_key, by_depth)
    assert stage.probe.execute("SELECT v FROM class_node WHERE id < 3") == [(2,), (2,)]


async def test_15_rows_of_classes_that_refer_to_each_other(stage: Stage) -> None:
    """Two teams, by key in one session; with a new captain in the other, where each is updated
    as soon as what it refers to is there."""
    bodies = flushed(both_teams), flushed(and_a_new_captain, 2)
    (await stage.plain(*bodies, autoflush=False)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(*bodies)
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert stage.probe.execute("SELECT v, captain_id FROM class_team ORDER BY id") == [
        (2, 9),
        (2, None),
    ]


async def test_15_many_to_many_rows_go_by_the_collection(stage: Stage) -> None:
    """The titles of a reader are checked in the order of the list, not of their keys."""

    def assign(tx: Any, party: Party) -> None:
        three, one = (tx.get_one(Title, key) for key in (3, 1))
        tx.add(Reader(id=2, titles=[three, one]))
        party.meet()
        tx.flush()

    def naive(tx: Any, party: Party) -> None:
        tx.get_one(Title, 1, with_for_update=True)
        party.meet()
        party.when_other_waits()
        tx.get_one(Title, 3, with_for_update=True)

    def ours(tx: Any, party: Party) -> None:
        tx.lock(Title, 1, strength="update")
        party.meet()
        party.when_other_waits()
        tx.lock(Title, 3, strength="update")

    (await stage.plain(assign, naive)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(assign, ours)
    ended.check_well()
    assert ended.attempts == [1, 1]
    found = stage.probe.execute("SELECT title_id FROM class_reads WHERE reader_id = 2 ORDER BY 1")
    assert found == [(1,), (3,)]


async def test_15_many_to_many_rows_are_deleted_by_the_collection(stage: Stage) -> None:
    """Each session has loaded the same collection in another order, and empties it."""
    stage.probe.execute("INSERT INTO class_reads VALUES (1, 3)")

    def emptied(descending: bool) -> Body:
        def body(tx: Any, party: Party) -> None:
            reader = tx.get_one(Reader, 1)
            titles = sorted(reader.titles, key=lambda title: title.id, reverse=descending)
            set_committed_value(reader, "titles", titles)
            reader.titles = []
            tx.flush()

        return body

    gate = "SELECT 1 FROM class_reads WHERE title_id = 2 FOR UPDATE"
    gone = RetryPolicy(wait_initial=0.001, on=lambda error: isinstance(error, StaleDataError))
    bodies = emptied(False), emptied(True)
    (await stage.plain(*bodies, gate=gate)).check_deadlock()
    stage.probe.execute(RESET)
    stage.probe.execute("INSERT INTO class_reads VALUES (1, 3)")
    (await stage.units(*bodies, gate=gate, retry=gone)).check_well()
    assert stage.probe.execute("SELECT count(*) FROM class_reads") == [(0,)]

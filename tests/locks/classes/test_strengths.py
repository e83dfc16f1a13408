"""Classes 7 and 25: locks that are made stronger, and a NOWAIT that waits."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text, update
from tests.locks.steering import Body, Party, Stage

from .model import Child, Parent, Row

ALSO_ON_16 = True


@pytest.mark.parametrize(
    ("strength", "naive", "then"),
    [
        ("share", {"read": True}, "no_key_update"),
        ("key_share", {"read": True, "key_share": True}, "update"),
    ],
)
async def test_07_upgrades(stage: Stage, strength: str, naive: Any, then: str) -> None:
    """Both share a row, then both want it alone: an upgrade never waits."""

    def plain(tx: Any, party: Party) -> None:
        tx.scalars(select(Row).where(Row.id == 1).with_for_update(**naive)).one()
        party.meet()
        tx.get_one(Row, 1, with_for_update=True).v = Row.v + 1

    def ours(tx: Any, party: Party) -> None:
        row = tx.lock(Row, 1, strength=strength)
        party.meet()
        if then == "update":
            tx.lock(Row, 1, strength=then)
        row.v += 1

    (await stage.plain(plain, plain)).check_deadlock()
    ended = await stage.units(ours, ours)
    ended.check_well()
    assert 2 <= max(ended.attempts) <= 3
    assert stage.probe.execute("SELECT v FROM class_row WHERE id = 1") == [(3,)]


async def test_07_what_is_not_an_upgrade(stage: Stage) -> None:
    """KEY SHARE, then NO KEY UPDATE: the key, then the rest of the row. That may wait."""

    def ours(tx: Any, party: Party) -> None:
        tx.lock(Row, 1, strength="key_share")
        party.meet()
        tx.lock(Row, 1).v += 1

    ended = await stage.units(ours, ours, ours)
    ended.check_well()
    assert ended.attempts == [1, 1, 1]
    assert stage.probe.execute("SELECT v FROM class_row WHERE id = 1") == [(3,)]


async def test_07_nobody_queues_behind_who_waits_for_him(stage: Stage) -> None:
    """One has the key and wants the rest, while another waits for the whole row.

    PostgreSQL has one line for a row, but who has a lock on the row already need not stand in it:
    the protocol relies on that.
    """

    def key_then_rest(tx: Any, party: Party) -> None:
        tx.lock(Row, 1, strength="key_share")
        party.meet()
        party.when_other_waits()
        tx.lock(Row, 1).v += 1

    def whole(tx: Any, party: Party) -> None:
        party.meet()
        tx.lock(Row, 1, strength="update").v += 1

    def rest(tx: Any, party: Party) -> None:
        tx.lock(Row, 1).v += 1
        party.meet()
        # One waits for the whole row, then one for the rest of it.
        stage.until(lambda: stage.blocked() == 2)

    ended = await stage.units(key_then_rest, whole, rest)
    ended.check_well()
    assert ended.attempts == [1, 1, 1]
    assert stage.probe.execute("SELECT v FROM class_row WHERE id = 1") == [(3,)]


@pytest.mark.parametrize("how", ["flush", "update"])
async def test_07_a_key_that_was_set_to_what_it_is(stage: Stage, how: str) -> None:
    """Of a copy that is out of date nothing tells whether an UPDATE has locked the key, too.

    The server takes it only for a new value: a later change of the key is an upgrade then.
    """

    def renames(tx: Any, party: Party) -> None:
        parent = tx.get_one(Parent, 1)
        if party.attempts == 1:
            stage.probe.execute("UPDATE class_parent SET slug = 'x' WHERE id = 1")
        if how == "flush":
            parent.slug = "x"
            tx.flush()
        else:
            tx.execute(update(Parent).where(Parent.id == 1).values(slug="x"))
        party.meet()
        party.meet()
        parent.slug = "y"
        tx.flush()

    def key_then_rest(tx: Any, party: Party) -> None:
        party.meet()
        tx.lock(Parent, 1, strength="key_share")
        party.meet()
        tx.lock(Parent, 1).v += 1

    ended = await stage.units(renames, key_then_rest)
    ended.check_well()
    assert max(ended.attempts) <= 3
    assert stage.probe.execute("SELECT slug FROM class_parent WHERE id = 1") == [("y",)]


async def test_25_a_nowait_that_waits(stage: Stage) -> None:
    """FOR KEY SHARE NOWAIT of a row that was updated, then locked by the same transaction."""

    def holder(tx: Any, party: Party) -> None:
        tx.get_one(Parent, 1).v = Parent.v + 1
        tx.flush()
        tx.execute(select(Parent.id).where(Parent.id == 1).with_for_update())
        party.meet()
        party.when_other_waits()
        tx.get_one(Row, 1).v = Row.v + 1
        tx.flush()

    def naive(tx: Any, party: Party) -> None:
        tx.get_one(Row, 1, with_for_update=True)
        party.meet()
        tx.execute(text("SELECT 1 FROM class_parent WHERE id = 1 FOR KEY SHARE NOWAIT"))

    def holding(strength: str) -> Body:
        def body(tx: Any, party: Party) -> None:
            parent = tx.get_one(Parent, 1)
            parent.v = Parent.v + 1
            tx.flush()
            tx.lock(Parent, 1, strength=strength)
            party.meet()
            tx.lock(Row, 1).v += 1

        return body

    def ours(tx: Any, party: Party) -> None:
        # The class of parents ranks before that of rows: the child's parent comes late.
        tx.lock(Row, 1).v += 1
        party.meet()
        tx.add(Child(id=11, parent_id=1))
        tx.flush()

    (await stage.plain(holder, naive)).check_deadlock()
    stage.probe.execute("UPDATE class_row SET v = 0 WHERE id = 1")
    ended = await stage.units(holding("update"), ours)
    ended.check_well()
    assert ended.attempts == [1, 2]
    assert stage.probe.execute("SELECT v FROM class_row WHERE id = 1") == [(2,)]
    assert stage.probe.execute("SELECT parent_id FROM class_child WHERE id = 11") == [(1,)]

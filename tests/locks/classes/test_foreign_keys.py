"""Classes 5, 6, 20 and 21: the checks of foreign keys lock the parents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from tests.locks.steering import Body, Party, Stage

from .model import Child, District, Late, Order, Parent, Row, Warehouse

ALSO_ON_16 = True


async def test_05_an_order_of_tpc_c(stage: Stage) -> None:
    """FOR UPDATE of a parent conflicts with the check of a child: with FOR NO KEY UPDATE not."""

    def order(lock: Callable[[Any, type, int], Any]) -> Body:
        def body(tx: Any, party: Party) -> None:
            lock(tx, District, 1).v += 1
            party.meet()
            tx.add(Order(id=1, warehouse_id=1))
            tx.flush()

        return body

    def payment(lock: Callable[[Any, type, int], Any]) -> Body:
        def body(tx: Any, party: Party) -> None:
            lock(tx, Warehouse, 1).v += 1
            party.meet()
            lock(tx, District, 1).v += 1

        return body

    def naive(tx: Any, entity: type, key: int) -> Any:
        return tx.get_one(entity, key, with_for_update=True)

    def ours(tx: Any, entity: type, key: int) -> Any:
        return tx.lock(entity, key)

    (await stage.plain(order(naive), payment(naive))).check_deadlock()
    stage.probe.execute("TRUNCATE class_order; UPDATE class_district SET v = 0")
    ended = await stage.units(order(ours), payment(ours))
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert stage.probe.execute("SELECT v FROM class_district") == [(2,)]
    assert stage.probe.execute("SELECT count(*) FROM class_order") == [(1,)]


def for_update(tx: Any) -> None:
    tx.scalars(select(Parent).where(Parent.id == 1).with_for_update()).one()


def lock(tx: Any) -> None:
    tx.lock(Parent, 1).v += 1
    tx.flush()


def lock_update(tx: Any) -> None:
    tx.lock(Parent, 1, strength="update").v += 1
    tx.flush()


def new_slug(tx: Any) -> None:
    parent = tx.get_one(Parent, 1)
    parent.slug = f"{parent.slug}!"
    tx.flush()


@pytest.mark.parametrize(
    ("naive", "ours"),
    [(for_update, lock), (for_update, lock_update), (new_slug, new_slug)],
)
async def test_06_insert_a_child_then_touch_its_parent(stage: Stage, naive: Any, ours: Any) -> None:
    """Both have the parent's key in common, then each wants it alone."""

    def body(child: int, touch: Callable[[Any], None]) -> Body:
        def body(tx: Any, party: Party) -> None:
            tx.add(Child(id=child, parent_id=1))
            tx.flush()
            party.meet()
            touch(tx)

        return body

    (await stage.plain(body(11, naive), body(12, naive))).check_deadlock()
    stage.probe.execute("DELETE FROM class_child WHERE id > 10")
    stage.probe.execute("UPDATE class_parent SET v = 0, slug = 'a' WHERE id = 1")
    ended = await stage.units(body(11, ours), body(12, ours))
    ended.check_well()
    assert max(ended.attempts) <= 2
    assert stage.probe.execute("SELECT count(*) FROM class_child WHERE id > 10") == [(2,)]
    (found,) = stage.probe.execute("SELECT v, slug FROM class_parent WHERE id = 1")
    assert found == ((0, "a!!") if ours is new_slug else (2, "a"))


async def test_20_a_check_that_comes_with_commit(stage: Stage) -> None:
    """The parent of a deferred foreign key is waited for by COMMIT, or by our flush."""

    def insert(tx: Any, party: Party) -> None:
        tx.add(Late(id=1, parent_id=1))
        tx.get_one(Row, 1).v = Row.v + 1
        tx.flush()
        party.meet()

    def naive(tx: Any, party: Party) -> None:
        tx.get_one(Parent, 1, with_for_update=True)
        party.meet()
        tx.get_one(Row, 1).v = Row.v + 1

    def ours(tx: Any, party: Party) -> None:
        tx.lock(Parent, 1, strength="update")
        party.meet()
        tx.get_one(Row, 1).v = Row.v + 1

    (await stage.plain(insert, naive)).check_deadlock()
    stage.probe.execute("TRUNCATE class_late; UPDATE class_row SET v = 0 WHERE id = 1")
    ended = await stage.units(insert, ours)
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert stage.probe.execute("SELECT v FROM class_row WHERE id = 1") == [(2,)]
    assert stage.probe.execute("SELECT count(*) FROM class_late") == [(1,)]


async def test_21_a_second_update_of_the_same_child(stage: Stage) -> None:
    """PostgreSQL then checks the foreign key anew, though it has not changed."""

    def twice(tx: Any, party: Party) -> None:
        child = tx.get_one(Child, 1)
        child.v = Child.v + 1
        tx.flush()
        party.meet()
        child.v = Child.v + 1
        tx.flush()

    def naive(tx: Any, party: Party) -> None:
        tx.get_one(Parent, 1, with_for_update=True)
        party.meet()
        tx.get_one(Child, 1).v = Child.v + 1

    def ours(tx: Any, party: Party) -> None:
        tx.lock(Parent, 1, strength="update")
        party.meet()
        tx.get_one(Child, 1).v = Child.v + 1

    (await stage.plain(twice, naive)).check_deadlock()
    stage.probe.execute("UPDATE class_child SET v = 0 WHERE id = 1")
    ended = await stage.units(twice, ours)
    ended.check_well()
    assert ended.attempts == [2, 1]
    assert stage.probe.execute("SELECT v FROM class_child WHERE id = 1") == [(3,)]

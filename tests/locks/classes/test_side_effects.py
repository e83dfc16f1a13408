"""Classes 10 and 11: rows that the database writes by itself, by cascades and triggers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import delete
from tests.locks.steering import Body, Party, Stage

from .model import RESET, File, Folder, Item, Shed, Stat, Tool


def child_then_parent(child: type, parent: type) -> Body:
    def body(tx: Any, party: Party) -> None:
        if (found := tx.get(child, 3)) is not None:
            found.v += 1
            tx.flush()
        party.meet()
        party.when_other_waits()
        if (found := tx.get(parent, 1)) is not None:
            found.v += 1
            tx.flush()

    return body


def delete_object(parent: type) -> Body:
    def body(tx: Any, party: Party) -> None:
        party.meet()
        found = tx.get(parent, 1)
        tx.delete(found)
        tx.flush()

    return body


def delete_where(parent: type) -> Body:
    def body(tx: Any, party: Party) -> None:
        party.meet()
        tx.execute(delete(parent).where(parent.id == 1))

    return body


@pytest.mark.parametrize("deletes", [delete_object, delete_where])
async def test_10_a_cascade_that_the_model_declares(stage: Stage, deletes: Any) -> None:
    """U file 3; U folder 1 beside DELETE folder 1, which deletes the files, too."""
    bodies = child_then_parent(File, Folder), deletes(Folder)
    (await stage.plain(*bodies)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(*bodies)
    ended.check_well()
    assert ended.attempts == [2, 1]
    assert stage.probe.execute("SELECT count(*) FROM class_folder, class_file") == [(0,)]


async def test_10_a_cascade_that_only_the_database_knows(stage: Stage) -> None:
    """The tripwire ends the wait that nobody could see coming, or the other side's late request
    is refused first; the retry carries it.
    """

    def bodies() -> tuple[Body, Body]:
        return child_then_parent(Tool, Shed), delete_where(Shed)

    (await stage.plain(*bodies())).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(*bodies())
    ended.check_well(uncovered=None)
    assert max(ended.attempts) > 1
    assert stage.probe.execute("SELECT count(*) FROM class_shed") == [(0,)]


def items(first: int, then: int) -> Body:
    """Two items, by their keys; a trigger counts them in the rows of `Stat`."""

    def body(tx: Any, party: Party) -> None:
        for key in (first, then):
            tx.get_one(Item, key).v += 1
            tx.flush()
            party.meet()

    return body


def stat_of(item: Item) -> Iterable[tuple[type, Any]]:
    return [(Stat, item.category)]


async def test_11_a_trigger(stage: Stage) -> None:
    """Nobody writes the same item, yet both write both rows of `Stat`, in opposite orders.

    Undeclared, the detector or the tripwire ends that and the retry carries it.
    """
    bodies = items(1, 2), items(3, 4)
    (await stage.plain(*bodies)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(*bodies)
    assert not ended.errors
    assert max(ended.attempts) > 1
    check_stat(stage)


async def test_11_a_declared_trigger(stage: Stage) -> None:
    """`writes_also` says which rows it writes: they are locked in order."""
    ended = await stage.units(
        items(1, 2), items(3, 4), prepare=lambda uow: uow.writes_also(Item, stat_of)
    )
    ended.check_well()
    assert ended.attempts == [1, 2]
    check_stat(stage)


def check_stat(stage: Stage) -> None:
    assert stage.probe.execute("SELECT sum(v) FROM class_item") == [(4,)]
    assert stage.probe.execute("SELECT bumps FROM class_stat") == [(2,), (2,)]

"""Classes 8 and 22: who inserts, changes or only touches a unique value makes others wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from tests.locks.steering import Body, Party, Stage

from unitofwork import RetryPolicy

from .model import RESET, Code, Parent

#: Unique values are locked by name before they are written.
NAMES = {"unique_names": True}


def codes(stage: Stage) -> list[str]:
    return [
        code
        for (code,) in stage.probe.execute(
            "SELECT code FROM class_code WHERE code < 'old' ORDER BY code"
        )
    ]


def ensure(first: str, then: str, *, name: bool = False) -> Body:
    """Two codes that must be there afterwards, whoever inserts them."""

    def body(tx: Any, party: Party) -> int:
        made = 0
        for code in (first, then):
            if name:
                tx.lock_name("code", code)
            if tx.scalar(select(Code).where(Code.code == code)) is None:
                tx.add(Code(code=code))
                made += 1
                tx.flush()
            party.meet()
        return made

    return body


def on_conflict_do_nothing(first: str, then: str, *, name: bool = False) -> Body:
    def body(tx: Any, party: Party) -> None:
        for code in (first, then):
            if name:
                tx.lock_name("code", code)
            tx.execute(insert(Code).values(code=code, v=0).on_conflict_do_nothing())
            party.meet()

    return body


def one_flush(*wanted: str) -> Body:
    def body(tx: Any, party: Party) -> None:
        there = set(tx.scalars(select(Code.code)).all())
        tx.add_all([Code(code=code) for code in wanted if code not in there])
        tx.flush()

    return body


@pytest.mark.parametrize("name", [False, True], ids=["unique_names", "lock_name"])
async def test_08_inserts_in_opposite_orders(stage: Stage, name: bool) -> None:
    """The library names the values, or the application does."""
    (await stage.plain(ensure("a", "b"), ensure("b", "a"))).check_deadlock()
    stage.probe.execute(RESET)
    bodies = ensure("a", "b", name=name), ensure("b", "a", name=name)
    ended = await stage.units(*bodies, of_uow={} if name else NAMES)
    ended.check_well()
    assert sorted(ended.results) == [0, 2]
    # A name comes before all rows: with one written, the second name is late for both.
    assert max(ended.attempts) == 2, ended
    assert codes(stage) == ["a", "b"]


async def test_08_on_conflict_do_nothing(stage: Stage) -> None:
    """It waits, too, for whoever has inserted the value and not yet committed."""
    plain = on_conflict_do_nothing("a", "b"), on_conflict_do_nothing("b", "a")
    (await stage.plain(*plain)).check_deadlock()
    stage.probe.execute(RESET)
    named = (
        on_conflict_do_nothing("a", "b", name=True),
        on_conflict_do_nothing("b", "a", name=True),
    )
    (await stage.units(*named)).check_well()
    assert codes(stage) == ["a", "b"]


async def test_08_one_flush(stage: Stage) -> None:
    """INSERTs go in the order of `add`."""
    bodies = one_flush("a", "b", "c"), one_flush("c", "b", "a")
    gate = "INSERT INTO class_code (code, v) VALUES ('b', 0)"
    (await stage.plain(*bodies, gate=gate)).check_deadlock()
    stage.probe.execute(RESET)
    # Who comes second had looked too early: an error of its own, not one of locks.
    taken = RetryPolicy(wait_initial=0.001, on=lambda error: isinstance(error, IntegrityError))
    ended = await stage.units(*bodies, gate=gate, of_uow=NAMES, retry=taken)
    # The gate is a writer that takes no names.
    ended.check_well(uncovered=None)
    assert codes(stage) == ["a", "b", "c"]


async def test_22_a_value_that_is_given_up(stage: Stage) -> None:
    """One gives up 'a' and goes on to the row of the other, which claims 'a'."""

    def gives_up(tx: Any, party: Party) -> None:
        tx.get_one(Parent, 1).slug = "x"
        tx.flush()
        party.meet()
        party.when_other_waits()
        tx.get_one(Parent, 2).v = Parent.v + 1
        tx.flush()

    def claims(tx: Any, party: Party) -> None:
        party.meet()
        tx.get_one(Parent, 2).slug = "a"
        tx.flush()

    (await stage.plain(gives_up, claims)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(gives_up, claims, of_uow=NAMES)
    ended.check_well()
    assert ended.attempts == [1, 1]
    found = stage.probe.execute("SELECT slug, v FROM class_parent WHERE id < 3 ORDER BY id")
    assert found == [("x", 0), ("a", 1)]


NO_CHILDREN = "TRUNCATE class_child CASCADE;"
SET: dict[str, Callable[[int, str | None], tuple[Any, ...]]] = {
    "update": lambda key, slug: (update(Parent).where(Parent.id == key).values(slug=slug),),
    "update in core": lambda key, slug: (
        update(Parent.__table__).where(Parent.__table__.c.id == key),
        {"slug": slug},
    ),
    "computed": lambda key, slug: (
        update(Parent).where(Parent.id == key).values(slug=func.coalesce(null(), slug)),
    ),
    "by key": lambda key, slug: (update(Parent), [{"id": key, "slug": slug}]),
    "delete": lambda key, slug: (
        (delete(Parent).where(Parent.id == key),)
        if slug == "x"
        else (update(Parent).where(Parent.id == key).values(slug=slug),)
    ),
}


@pytest.mark.parametrize("how", SET)
async def test_22_a_value_that_a_statement_gives_up(stage: Stage, how: str) -> None:
    """What bulk statements give up and take is named as well."""

    def gives_up(tx: Any, party: Party) -> None:
        tx.execute(*SET[how](1, "x"))
        party.meet()
        party.when_other_waits()
        tx.execute(update(Parent).where(Parent.id == 2).values(v=Parent.v + 1))

    def claims(tx: Any, party: Party) -> None:
        party.meet()
        tx.execute(*SET[how](2, "a"))

    stage.probe.execute(NO_CHILDREN)
    (await stage.plain(gives_up, claims)).check_deadlock()
    stage.probe.execute(RESET + NO_CHILDREN)
    ended = await stage.units(gives_up, claims, of_uow=NAMES)
    ended.check_well()
    assert ended.attempts == [1, 1]
    found = stage.probe.execute("SELECT slug, v FROM class_parent WHERE id < 3 ORDER BY id")
    assert found[-1] == ("a", 1)


async def test_22_a_value_whose_row_is_written(stage: Stage) -> None:
    """'a' is not given up: but its row is being written, and so the claim waits, not fails."""

    def writes(tx: Any, party: Party) -> None:
        tx.get_one(Parent, 1).v = Parent.v + 1
        tx.flush()
        party.meet()
        party.when_other_waits()
        tx.get_one(Parent, 2).v = Parent.v + 1
        tx.flush()

    def claims(tx: Any, party: Party) -> None:
        party.meet()
        tx.get_one(Parent, 2).slug = "a"
        tx.flush()

    (await stage.plain(writes, claims)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(writes, claims, of_uow=NAMES)
    assert (ended.deadlocks, ended.uncovered) == (0, 0)
    assert ended.attempts[0] == 1
    # Its owner is locked first, so the claim fails at once when it is sent.
    assert isinstance(ended.results[1], IntegrityError)
    found = stage.probe.execute("SELECT slug, v FROM class_parent WHERE id < 3 ORDER BY id")
    assert found == [("a", 1), ("b", 1)]

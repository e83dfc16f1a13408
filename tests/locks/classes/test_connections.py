"""Classes 18 and 24: waits that the database does not see: for the pool, and for another engine."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import exc, text, update
from tests.locks.steering import Body, Party, Stage, sqlstate
from tests.pool.pool_face import both, result

from unitofwork import NestedUnitError

from .model import RESET, Row, Word

SMALL = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 0.4}
#: Three times as long as the detector takes: what lasts that long would last for ever.
FOR_EVER = text("SET LOCAL lock_timeout = '600ms'")


def add(key: int) -> Any:
    return update(Row).where(Row.id == key).values(v=Row.v + 1)


def second_connection(key: int) -> Body:
    """Holds one connection and a row, and asks the pool for another one."""

    def body(tx: Any, party: Party) -> None:
        tx.execute(add(key))
        party.meet()
        with tx.get_bind().connect() as second:
            second.execute(text("SELECT 1"))

    return body


def same_row(tx: Any, party: Party) -> None:
    """Has the other connection, and waits for the row."""
    tx.execute(text("SELECT 1"))
    party.meet()
    tx.execute(add(1))


@pytest.mark.parametrize("mixed", [False, True], ids=["pool", "pool and row"])
async def test_18_a_second_connection(stage: Stage, mixed: bool) -> None:
    """Nobody can go on, and the database knows nothing of it; a nested unit takes no second one."""
    bodies = second_connection(1), same_row if mixed else second_connection(2)
    plain = await stage.plain(*bodies, pool=SMALL)
    assert plain.deadlocks == 0
    assert {type(error) for error in plain.errors} == {exc.TimeoutError}
    stage.probe.execute(RESET)
    uow = stage.unit_of_work(stage.engine(**SMALL))

    def nested(key: int) -> Any:
        async def work(party: Party) -> None:
            async def attempt(tx: Any) -> None:
                await result(tx.execute(add(key)))
                await party.meeting()
                async with both(uow()) as inner:
                    assert inner is tx
                    await result(inner.execute(text("SELECT 1")))

            await stage.unit(uow, party, attempt)

        return work

    ended = await stage.run(nested(1), nested(1 if mixed else 2))
    ended.check_well()
    assert stage.probe.execute("SELECT sum(v) FROM class_row") == [(2,)]


def across(stage: Stage, outer: tuple[Any, Any], inner: tuple[Any, Any]) -> Any:
    """Two sessions on two engines, a statement on each."""

    async def work(party: Party) -> None:
        party.attempts += 1
        async with both(stage.session(outer[0])) as one, both(stage.session(inner[0])) as other:
            await result(one.execute(outer[1]))
            await party.meeting()
            await result(other.execute(FOR_EVER))
            await result(other.execute(inner[1]))
            await result(other.commit())
            await result(one.commit())

    return work


async def test_24_two_engines(stage: Stage) -> None:
    """A row on each, in opposite orders: each server sees half of the circle."""
    word = update(Word).where(Word.text == "a").values(v=Word.v + 1)
    a, b = stage.engine(), stage.engine()
    plain = await stage.run(
        across(stage, (a, add(1)), (b, word)), across(stage, (b, word), (a, add(1)))
    )
    assert plain.deadlocks == 0
    assert {sqlstate(error) for error in plain.errors} == {"55P03"}

    stage.probe.execute(RESET)
    first, second = (stage.unit_of_work(stage.engine(pool_size=4)) for _ in range(2))

    def tree(outer: tuple[Any, Any], inner: tuple[Any, Any]) -> Any:
        async def work(party: Party) -> None:
            async def attempt(tx: Any) -> None:
                await result(tx.execute(outer[1]))
                await party.meeting()
                async with both(inner[0]()) as other:
                    await result(other.execute(inner[1]))

            await stage.unit(outer[0], party, attempt)

        return work

    ended = await stage.run(
        tree((first, add(1)), (second, word)), tree((second, word), (first, add(1)))
    )
    ended.check_well()
    assert ended.attempts[0] == 1
    assert ended.attempts[1] > 1
    assert stage.probe.execute("SELECT sum(v) FROM class_row") == [(2,)]
    assert stage.probe.execute("SELECT v FROM class_word WHERE text = 'a'") == [(2,)]


async def test_24_a_second_session_of_the_same_task(stage: Stage) -> None:
    """It waits for a row that its own task holds; nested units are one transaction."""
    engine = stage.engine()
    plain = await stage.run(across(stage, (engine, add(1)), (engine, add(1))))
    assert plain.deadlocks == 0
    assert [sqlstate(error) for error in plain.errors] == ["55P03"]

    stage.probe.execute(RESET)
    uow = stage.unit_of_work(stage.engine(pool_size=2))

    def nested(**options: Any) -> Any:
        async def work(party: Party) -> None:
            async def attempt(tx: Any) -> None:
                await result(tx.execute(add(1)))
                async with both(uow(**options)) as inner:
                    await result(inner.execute(add(1)))

            await stage.unit(uow, party, attempt)

        return work

    (await stage.run(nested())).check_well()
    assert stage.probe.execute("SELECT sum(v) FROM class_row") == [(2,)]
    uow = stage.unit_of_work(stage.engine(pool_size=2))
    refused = await stage.run(nested(propagation="requires_new"))
    assert [type(error) for error in refused.errors] == [NestedUnitError]

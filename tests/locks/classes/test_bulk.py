"""Classes 2, 4b, 9 and 16: statements that write many rows at once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from tests.locks.steering import Body, Party, Stage

from .model import RESET, Code, Row

ASC, BY_SCAN = Row.id.between(1, 3), Row.grp == 1
MIDDLE = "SELECT 1 FROM class_row WHERE id = 2 FOR UPDATE"
MORE = {Row.v: Row.v + 1}


def values(stage: Stage) -> list[int]:
    return [v for (v,) in stage.probe.execute("SELECT v FROM class_row WHERE id <= 3 ORDER BY id")]


def run(statement: Any) -> Body:
    def body(tx: Any, party: Party) -> int:
        return int(tx.execute(statement).rowcount)

    return body


async def test_02_one_update_each(stage: Stage) -> None:
    """Two UPDATEs of the same rows, which their plans find in opposite orders."""
    bodies = run(update(Row).where(ASC).values(MORE)), run(update(Row).where(BY_SCAN).values(MORE))
    (await stage.plain(*bodies, gate=MIDDLE)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(*bodies, gate=MIDDLE)
    ended.check_well()
    assert (ended.results, ended.attempts) == ([3, 3], [1, 1])
    assert values(stage) == [2, 2, 2]


async def test_02_a_delete_and_an_update(stage: Stage) -> None:
    """Whoever comes first: the rowcount of the other says what is left."""
    bodies = run(delete(Row).where(ASC)), run(update(Row).where(BY_SCAN).values(MORE))
    (await stage.plain(*bodies, gate=MIDDLE)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(*bodies, gate=MIDDLE)
    ended.check_well()
    assert ended.results[0] == 3
    assert ended.results[1] in (0, 3)
    assert values(stage) == []


async def test_02_by_core_statements(stage: Stage) -> None:
    """The same with `Table` instead of the mapped class."""
    table = Row.__table__
    more = {"v": table.c.v + 1}
    bodies = (
        run(update(table).where(table.c.id.between(1, 3)).values(more)),
        run(update(table).where(table.c.grp == 1).values(more)),
    )
    ended = await stage.units(*bodies, gate=MIDDLE)
    ended.check_well()
    assert (ended.results, ended.attempts) == ([3, 3], [1, 1])
    assert values(stage) == [2, 2, 2]


async def test_04_order_by_in_a_subquery(stage: Stage) -> None:
    """An ORDER BY below a join orders nothing: a hash join scans the table."""
    ordered = select(Row.id).where(ASC).order_by(Row.id).limit(3).subquery()

    def hashed(tx: Any, party: Party) -> None:
        tx.execute(text("SET LOCAL enable_nestloop = off"))
        tx.execute(text("SET LOCAL enable_mergejoin = off"))
        tx.execute(update(Row).where(Row.id == ordered.c.id).values(MORE))

    by_key = run(update(Row).where(ASC).values(MORE))
    (await stage.plain(hashed, by_key, gate=MIDDLE)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(hashed, by_key, gate=MIDDLE)
    ended.check_well()
    assert ended.attempts == [1, 1]
    assert values(stage) == [2, 2, 2]


def upsert(*codes: str) -> Body:
    statement = insert(Code).values([{"code": code, "v": 1} for code in codes])
    return run(
        statement.on_conflict_do_update(
            index_elements=[Code.code], set_={"v": Code.v + statement.excluded.v}
        )
    )


@pytest.mark.parametrize(
    ("kind", "gate"),
    [
        ("old", "SELECT 1 FROM class_code WHERE code = 'old2' FOR UPDATE"),
        ("new", "INSERT INTO class_code (code, v) VALUES ('new2', 0)"),
    ],
)
async def test_09_upserts_in_opposite_orders(stage: Stage, kind: str, gate: str) -> None:
    """Of rows that are there, and of rows that are not."""
    codes = [f"{kind}{n}" for n in (1, 2, 3)]
    bodies = upsert(*codes), upsert(*reversed(codes))
    (await stage.plain(*bodies, gate=gate)).check_deadlock()
    stage.probe.execute(RESET)
    ended = await stage.units(*bodies, gate=gate)
    ended.check_well()
    assert ended.attempts == [1, 1]
    found = stage.probe.execute(
        "SELECT code, v FROM class_code WHERE code = ANY(%s) ORDER BY code", (codes,)
    )
    assert found == [(codes[0], 2), (codes[1], 2), (codes[2], 2)]


async def test_16_bulk_updates_one_after_the_other(stage: Stage) -> None:
    """`execute(update())` passes by the flush: two of them, in opposite orders."""

    def body(first: int, then: int) -> Body:
        def body(tx: Any, party: Party) -> None:
            tx.execute(update(Row).where(Row.id == first).values(MORE))
            party.meet()
            tx.execute(update(Row).where(Row.id == then).values(MORE))

        return body

    (await stage.plain(body(1, 2), body(2, 1))).check_deadlock()
    ended = await stage.units(body(1, 2), body(2, 1))
    ended.check_well()
    assert ended.attempts == [1, 2]
    assert values(stage)[:2] == [3, 3]

"""update() and delete(): exactly the rows that are locked in order are changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Integer,
    bindparam,
    column,
    delete,
    event,
    exc,
    func,
    select,
    text,
    tuple_,
    update,
    values,
)
from sqlalchemy.orm import Session, aliased, with_loader_criteria
from tests.pool.pool_face import PoolFace, both, result

from unitofwork import ConfigurationError, LateLockError, UnorderedWriteError
from unitofwork.policies.locks.order import NAMES

from .audit import check_book
from .model import TABLES, Boss, House, Lamp, Owned, Part, Room, Sign, Worker

rooms, houses, lamps = Room.__table__, House.__table__, Lamp.__table__
big = aliased(Room)


def values_of(*rows: tuple[int, int]) -> Any:
    return values(column("id", Integer), column("size", Integer), name="new").data(list(rows))


FORMS: dict[str, Callable[[], Any]] = {
    "by a predicate": lambda: update(Room).where(Room.size > 30).values(size=Room.size + 1),
    "all rows": lambda: update(Room).values(size=7),
    "in core": lambda: update(rooms).where(rooms.c.size > 30).values(size=7),
    "in core, by an attribute": lambda: update(rooms).where(Room.size > 30).values(size=7),
    "delete in core, by an attribute": lambda: delete(lamps).where(Lamp.id > 5),
    "one key": lambda: update(Room).where(Room.id == 3).values(size=7),
    "one key, in core": lambda: (
        update(rooms).where(bindparam("key", 3) == rooms.c.id).values(size=7)
    ),
    "one key and more": lambda: update(Room).where(Room.id == 3, Room.size == 30).values(size=7),
    "one key that does not match": lambda: (
        update(Room).where(Room.id == 3, Room.size == 31).values(size=7)
    ),
    "keys": lambda: update(Room).where(Room.id.in_([7, 3, 99])).values(size=7),
    "no keys": lambda: update(Room).where(Room.id.in_([])).values(size=7),
    "a key that is not there": lambda: update(Room).where(Room.id == 99).values(size=7),
    "keys of two columns": lambda: (
        update(Part)
        .where(tuple_(Part.maker, Part.number).in_([("b", 2), ("B", 1)]))
        .values(stock=Part.stock + 1)
    ),
    "a predicate on two columns": lambda: update(Part).where(Part.number == 2).values(stock=1),
    "an alias": lambda: update(big).where(big.size > 30).values(size=7),
    "a subquery": lambda: (
        update(Room).where(Room.id.in_(select(Lamp.room_id).where(Lamp.watts == 40))).values(size=7)
    ),
    "from another table": lambda: (
        update(Room)
        .where(Room.house_id == House.id, House.name == "a")
        .values(size=func.length(House.name))
    ),
    "from values": lambda: (
        update(Room)
        .where(Room.id == (new := values_of((7, 70), (3, 30), (99, 0))).c.id)
        .values(size=new.c.size)
    ),
    "from a common table expression": lambda: (
        update(Room)
        .where(Room.id == (small := select(Room.id).where(Room.size < 50).cte()).c.id)
        .values(size=small.c.id)
    ),
    "single inheritance": lambda: update(Boss).values(name="new"),
    "joined inheritance": lambda: update(Worker).values(pay=Worker.pay + 1),
    "loader criteria": lambda: (
        update(Room).values(size=7).options(with_loader_criteria(Room, Room.size > 50))
    ),
    "another attribute name": lambda: update(Lamp).where(Lamp.watts == 40).values(watts=60),
    "returning": lambda: update(Room).where(Room.size > 30).values(size=7).returning(Room.id),
    "a unique column": lambda: update(House).where(House.code == "x").values(code="z"),
    "a key": lambda: update(House).where(House.id == 3).values(id=33),
    "a foreign key": lambda: update(Room).where(Room.size > 80).values(house_id=3),
    "a foreign key that is computed": lambda: (
        update(Room).where(Room.size > 80).values(house_id=4 - Room.house_id)
    ),
    "a foreign key of one row": lambda: update(Room).where(Room.id == 3).values(house_id=3),
    "a foreign key by its column's name": lambda: (
        update(Owned)
        .where(Owned.id == 3)
        .values({"house": 3})
        .execution_options(synchronize_session=False)
    ),
    "no foreign key": lambda: update(Lamp).where(Lamp.id == 3).values(room_id=None),
    "delete": lambda: delete(Lamp).where(Lamp.id > 5),
    "delete one": lambda: delete(Lamp).where(Lamp.id == 5),
    "delete in core": lambda: delete(lamps).where(lamps.c.room_id == rooms.c.id, rooms.c.size > 30),
    "delete with what hangs on it": lambda: delete(House).where(House.name == "b"),
    "delete one with what hangs on it": lambda: delete(House).where(House.id == 1),
    "delete returning": lambda: delete(Lamp).where(Lamp.watts == 40).returning(Lamp),
}


def content(connection: Any) -> dict[str, list[Any]]:
    return {
        table.name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
        for table in TABLES
    }


def by_plain_sqlalchemy(holder: Connection, statement: Any) -> tuple[Any, dict[str, list[Any]]]:
    """What the statement says and does in a plain session; undone at once."""
    with Session(holder) as session:
        answer = told(statement, session.execute(statement))
        found = content(session.connection())
        session.rollback()
    return answer, found


def told(statement: Any, found: Any) -> Any:
    if statement.exported_columns:
        return sorted(getattr(row[0], "id", row[0]) for row in found)
    return found.rowcount


@pytest.mark.parametrize("form", FORMS)
async def test_any_form(face: PoolFace, holder: Connection, form: str) -> None:
    """It does what it does in a plain session, and the book has exactly the locks of the server.

    With `strict_locks`, which none of them gives a reason to raise.
    """
    statement = FORMS[form]()
    expected = by_plain_sqlalchemy(holder, statement)
    async with both(face.uow(strict_locks=True)) as tx:
        answer = told(statement, await result(tx.execute(statement)))
        inside = await on_connection(face, tx, content)
        check_book(tx, holder)
    assert (answer, inside) == expected
    assert content(holder) == expected[1]


async def test_parameters_go_by_the_names_of_columns(face: PoolFace, holder: Connection) -> None:
    """Those of one set do, where the attribute has another name; what they refer to is locked."""
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(update(Owned).where(Owned.id == 1), {"house": 2}))
        check_book(tx, holder)
    assert face.aside("SELECT house FROM write_owned WHERE id = 1") == [(2,)]


async def on_connection(face: PoolFace, tx: Any, read: Callable[[Any], Any]) -> Any:
    if face.is_async:
        return await tx.run_sync(lambda session: read(session))
    return read(tx)


@pytest.mark.parametrize("late", [False, True])
async def test_rows_are_taken_in_order(
    face: PoolFace, holder: Connection, sent: list[str], late: bool
) -> None:
    """Waiting for the first row, a statement holds none of the others, whatever its plan."""
    holder.execute(update(rooms).where(rooms.c.id == 2).values(size=0))

    async def work() -> None:
        async with both(face.uow()) as tx:
            if late:
                await result(tx.lock(Lamp, 1))
            await result(tx.execute(update(Room).where(Room.size >= 10).values(size=7)))

    running = face.start(work)
    if late:  # below a lock that is held nothing is waited for
        with pytest.raises(LateLockError, match="write_room 1"):
            await face.join(running)
        return
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    free = face.aside("SELECT id FROM write_room FOR UPDATE SKIP LOCKED")
    assert {number for (number,) in free} == {3, 4, 5, 6, 7, 8, 9}
    holder.commit()
    await face.join(running)


@pytest.mark.parametrize(
    ("statement", "phantom"),
    [
        (update(Room).where(Room.size > 30).values(size=7), 100),
        (update(Room).where(Room.id.in_([1, 100])).values(size=7), 50),
        (delete(Room).where(Room.size > 30), 100),
    ],
)
async def test_what_matches_later_is_left_alone(
    face: PoolFace, sent: list[str], statement: Any, phantom: int
) -> None:
    """A row that comes to match after the rows were locked was not locked: it is not touched.

    And one that does not match any more is not either; the rowcount says so.
    """
    engine = getattr(face.uow.engine, "sync_engine", face.uow.engine)

    def meanwhile(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        if text.startswith("SELECT write_room"):
            face.aside("UPDATE write_room SET size = 0 WHERE id = 4")
        if text.startswith(("UPDATE", "DELETE")):
            face.aside(f"INSERT INTO write_room VALUES (100, 1, {phantom})")

    event.listen(engine, "before_cursor_execute", meanwhile)
    before = len(face.aside("SELECT 1 FROM write_room WHERE size > 30"))
    async with both(face.uow()) as tx:
        count = (await result(tx.execute(statement))).rowcount
    assert count == (1 if "IN" in str(statement) else before - 1)
    assert face.aside("SELECT size FROM write_room WHERE id = 100") == [(phantom,)]


ALONE = {
    "update": update(Room).where(Room.id == 3).values(size=7),
    "delete": delete(Lamp).where(Lamp.id == 3),
    "core": update(rooms).where(rooms.c.id == 3).values(size=7),
}


@pytest.mark.parametrize("form", ALONE)
async def test_one_row_costs_nothing_more(face: PoolFace, sent: list[str], form: str) -> None:
    """One row by its key, above everything held, is in order by itself: one statement."""
    async with both(face.uow()) as tx:
        await result(tx.execute(select(House)))
        sent.clear()
        await result(tx.execute(ALONE[form]))
        assert len(sent) == 1


async def test_a_row_that_stopped_matching_is_in_the_book(
    face: PoolFace, holder: Connection
) -> None:
    """The server has locked it to look again, though the rowcount is 0."""
    holder.execute(update(rooms).where(rooms.c.id == 3).values(size=0))

    async def work() -> None:
        async with both(face.uow()) as tx:
            statement = update(Room).where(Room.id == 3, Room.size == 30).values(size=7)
            assert (await result(tx.execute(statement))).rowcount == 0
            check_book(tx, holder)
            assert {str(one) for one in tx.unit.book.held} == {"write_room 3"}

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    holder.commit()
    await face.join(running)


async def test_what_is_in_order_is_waited_for(face: PoolFace, holder: Connection) -> None:
    """Also after a lock query, which leaves a lock_timeout of 10 ms behind: one attempt."""
    holder.execute(update(rooms).where(rooms.c.id == 3).values(size=0))
    attempts: list[int] = []

    async def body(tx: Any) -> None:
        attempts.append(tx.attempt)
        await result(tx.lock(House, 1))
        await result(tx.execute(update(Room).where(Room.id == 3).values(size=7)))

    async def work() -> None:
        await result(face.uow.run(face.function(body)))

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    await face.pause(0.1)
    holder.commit()
    await face.join(running)
    assert attempts == [1]


async def test_what_an_earlier_attempt_has_learnt_is_locked_first(
    face: PoolFace, holder: Connection
) -> None:
    """A statement that comes first in the next attempt is late to it: it is not waited for."""
    holder.execute(update(rooms).where(rooms.c.id == 2).values(size=0))
    found: list[str] = []

    async def body(tx: Any) -> None:
        if tx.attempt == 1:
            await result(tx.lock(Room, 9))
            raise LateLockError("refused")
        try:
            await result(tx.execute(update(Room).where(Room.id.in_([2, 3])).values(size=7)))
        except LateLockError as error:
            found.extend(error.held)
            holder.rollback()
            raise

    await result(face.uow.run(face.function(body), lock_timeout=2))
    assert found == ["write_room 9"]


async def test_what_is_held_costs_nothing_more(face: PoolFace, sent: list[str]) -> None:
    """Rows that were locked before are not locked again."""
    async with both(face.uow()) as tx:
        await result(tx.lock_many(Room, [1, 2, 3]))
        sent.clear()
        await result(tx.execute(update(Room).where(Room.id.in_([3, 1])).values(size=7)))
        assert len(sent) == 1


async def test_nothing_is_compiled_twice(face: PoolFace) -> None:
    """Three statements for one; sent again, all of them come out of SQLAlchemy's cache."""
    hits: list[bool] = []
    engine = getattr(face.uow.engine, "sync_engine", face.uow.engine)

    def note(_c: Any, _cursor: Any, _s: str, _p: Any, context: Any, _many: bool) -> None:
        hits.append(context.cache_hit.name == "CACHE_HIT")

    event.listen(engine, "before_cursor_execute", note)
    for size in (10, 20, 60):
        hits.clear()
        async with both(face.uow()) as tx:
            statement = update(Room).where(Room.size > size).values(size=Room.size + size)
            await result(tx.execute(statement))
    assert hits == [True, True, True]


MOVED: dict[str, tuple[Any, str, set[str]]] = {
    "the value that others refer to": (
        delete(Sign).where(Sign.id < 3),
        "UPDATE write_sign SET code = 'new' WHERE id = 2",
        {"write_arrow 1", "write_arrow 2"},
    ),
    "the value that SET computes from": (
        update(Room).where(Room.id == 3).values(house_id=Room.house_id + 1),
        "UPDATE write_room SET house_id = 1 WHERE id = 3",
        {"write_house 2"},
    ),
}


@pytest.mark.parametrize("form", MOVED)
async def test_what_changes_while_its_row_is_waited_for(
    face: PoolFace, holder: Connection, form: str
) -> None:
    """The locks follow from what is in the row when it is locked, not from what was read before."""
    statement, meanwhile, expected = MOVED[form]
    holder.execute(text(meanwhile))

    async def work() -> None:
        async with both(face.uow()) as tx:
            await result(tx.execute(statement))
            assert expected <= {str(one) for one in tx.unit.book.held}
            check_book(tx, holder)

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    holder.commit()
    await face.join(running)


async def test_a_unique_value_that_changes_while_its_row_is_waited_for(
    face: PoolFace, holder: Connection
) -> None:
    """The name of the value that is given up at last is taken, with `unique_names`."""
    uow = face.make(unique_names=True)
    holder.execute(text("UPDATE write_house SET code = 'moved' WHERE id = 2"))

    async def work() -> None:
        async with both(uow()) as tx:
            await result(tx.execute(update(House).where(House.id == 2).values(code="z")))
            names = {one.key for one in tx.unit.book.held if one.rank is NAMES}
            assert ("write_house", "code", "moved") in names

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    holder.commit()
    await face.join(running)


@pytest.mark.parametrize("how", ["auto", "evaluate", "fetch", False])
@pytest.mark.parametrize("is_delete", [False, True])
async def test_objects_are_synchronized(face: PoolFace, how: Any, is_delete: bool) -> None:
    """As SQLAlchemy does it: what is in the session is what the database has."""
    statement: Any = update(Lamp).values(watts=Lamp.watts + 1)
    if is_delete:
        statement = delete(Lamp)
    statement = statement.where(Lamp.id >= 8).execution_options(synchronize_session=how)
    async with both(face.uow()) as tx:
        kept, changed = await result(tx.get(Lamp, 1)), await result(tx.get(Lamp, 8))
        await result(tx.execute(statement))
        assert kept in tx
        assert kept.watts == 40
        if is_delete:
            assert (changed in tx) is (how is False)
        else:
            await result(tx.refresh(changed, ["watts"])) if "watts" not in vars(changed) else None
            assert changed.watts == (40 if how is False else 41)


@pytest.mark.parametrize("how", ["auto", "evaluate"])
async def test_objects_whose_key_is_changed(face: PoolFace, how: Any) -> None:
    """They have the new key, by which the next flush finds their rows."""
    one = update(Lamp).where(Lamp.watts == 40).values(id=Lamp.id + 100)
    two = update(Part).where(Part.stock == 5).values(number=Part.number + 100)
    async with both(face.uow()) as tx:
        lamp = await result(tx.get(Lamp, 8))
        part = await result(tx.get(Part, ("b", 2)))
        for statement in (one, two):
            options = {"synchronize_session": how}
            await result(tx.execute(statement, execution_options=options))
        assert (lamp.id, part.number) == (108, 102)
        lamp.watts = part.stock = 6
    assert face.aside("SELECT power FROM write_lamp WHERE id = 108") == [(6,)]
    assert face.aside("SELECT stock FROM write_part WHERE maker = 'b' AND number = 102") == [(6,)]


async def test_a_schema_map_of_the_statement(face: PoolFace) -> None:
    """Lock queries don't follow it: the statement counts as raw, and writes where it says."""
    options = {"schema_translate_map": {None: "write_tenant"}}
    face.aside("CREATE SCHEMA write_tenant")
    face.aside("CREATE TABLE write_tenant.write_part AS SELECT * FROM write_part")
    statement = update(Part).where(Part.stock == 5).values(stock=6)
    try:
        async with both(face.uow()) as tx:
            found = await result(tx.execute(statement, execution_options=options))
            assert found.rowcount == 4
            assert not tx.unit.book
        assert face.aside("SELECT DISTINCT stock FROM write_part") == [(5,)]
        assert face.aside("SELECT DISTINCT stock FROM write_tenant.write_part") == [(6,)]
        async with both(face.uow(strict_locks=True)) as tx:
            with pytest.raises(UnorderedWriteError, match="schema_translate_map of its own"):
                await result(tx.execute(statement.execution_options(**options)))
            with pytest.raises(ConfigurationError, match="schema_translate_map"):
                await result(tx.lock_where(select(Part).execution_options(**options)))
        async with both(face.uow(strict_locks=True)) as tx:
            # That of the connection holds for lock queries too.
            await result(tx.connection(execution_options=options))
            await result(tx.execute(statement.values(stock=7).where(Part.stock < 7)))
    finally:
        face.aside("DROP SCHEMA write_tenant CASCADE")


async def test_what_was_written_before_is_checked_again(face: PoolFace, holder: Connection) -> None:
    """PostgreSQL locks the parents of a row that is written to twice: they are in the book."""
    async with both(face.uow()) as tx:
        await result(tx.execute(update(Room).where(Room.id == 3).values(size=1)))
        assert {str(one) for one in tx.unit.book.held} == {"write_room 3"}
        await result(tx.execute(update(Room).where(Room.id == 3).values(size=2)))
        assert {str(one) for one in tx.unit.book.held} == {"write_house 2", "write_room 3"}
        check_book(tx, holder)


async def test_the_flush_comes_first_where_it_is_automatic(face: PoolFace) -> None:
    """With autoflush on, what the session adds is among the rows of the statement."""
    async with both(face.uow()) as tx:
        session = tx.sync_session if face.is_async else tx
        session.autoflush = True
        tx.add(Room(id=50, house_id=1, size=500))
        found = await result(tx.execute(update(Room).where(Room.size > 80).values(size=7)))
        assert found.rowcount == 2


SETS = [{"id": 7, "size": 1}, {"id": 2, "size": 2}, {"id": 5, "size": 3}]
BY_KEY: dict[str, Any] = {
    "orm": (update(Room), SETS),
    "core": (
        update(rooms).where(rooms.c.id == bindparam("key")).values(size=bindparam("new")),
        [{"key": one["id"], "new": one["size"]} for one in SETS],
    ),
    "delete": (delete(lamps).where(lamps.c.id == bindparam("key")), [{"key": 7}, {"key": 2}]),
    "delete with what hangs on it": (
        delete(houses).where(houses.c.id == bindparam("key")),
        [{"key": 2}, {"key": 1}],
    ),
    "with a foreign key": (update(Room), [{**one, "house_id": 3} for one in SETS]),
    "joined inheritance": (update(Worker), [{"id": 3, "pay": 1, "name": "n"}]),
    "some with a foreign key": (update(Room), [SETS[0], {"id": 2, "house_id": 3}]),
    "two columns": (
        update(Part),
        [{"maker": maker, "number": 2, "stock": 9} for maker in ("b", "B")],
    ),
}


@pytest.mark.parametrize("form", BY_KEY)
async def test_many_by_key(face: PoolFace, holder: Connection, form: str) -> None:
    """A list of parameters is sent in the order of the keys, and its rows are in the book."""
    statement, sets = BY_KEY[form]
    with Session(holder) as session:
        session.execute(statement, sets)
        expected = content(session)
        session.rollback()
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement, sets))
        check_book(tx, holder)
    assert content(holder) == expected


async def test_many_by_key_with_a_parent_that_is_computed(face: PoolFace) -> None:
    """Which one the foreign key's check will lock, nobody can tell: it counts as raw SQL."""
    move = update(rooms).where(rooms.c.id == bindparam("key")).values(house_id=rooms.c.house_id + 1)
    with pytest.raises(UnorderedWriteError):
        async with both(face.uow(strict_locks=True)) as tx:
            await result(tx.execute(move, [{"key": 2}, {"key": 4}]))
    async with both(face.uow()) as tx:
        await result(tx.execute(move, [{"key": 2}, {"key": 4}]))
    assert face.aside("SELECT house_id FROM write_room WHERE id IN (2, 4)") == [(2,), (2,)]


async def test_many_by_key_wait_in_order(face: PoolFace, holder: Connection) -> None:
    """Whatever order the parameters are in; and without a statement more."""
    holder.execute(update(rooms).where(rooms.c.id == 5).values(size=0))

    async def work() -> None:
        async with both(face.uow()) as tx:
            await result(tx.execute(update(Room), SETS))

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    free = face.aside("SELECT id FROM write_room FOR UPDATE SKIP LOCKED")
    assert set(range(1, 10)) - {number for (number,) in free} == {2, 5}
    holder.rollback()
    await face.join(running)


async def test_a_failure_is_the_databases_own(face: PoolFace) -> None:
    """What the statement itself does wrong is raised as SQLAlchemy raises it."""
    with pytest.raises(exc.IntegrityError):
        async with both(face.uow()) as tx:
            await result(tx.execute(update(Room).where(Room.size > 30).values(house_id=77)))


async def test_an_applications_own_listener_comes_first(face: PoolFace) -> None:
    """What it adds to a statement holds for the locks, too: no row of another tenant is locked."""

    def restrict(state: Any) -> None:
        if state.is_update:
            state.statement = state.statement.where(Room.house_id == 1)

    event.listen(Session, "do_orm_execute", restrict)
    try:
        async with both(face.uow()) as tx:
            await result(tx.execute(update(Room).values(size=7)))
            locked = {each.key[0] for each in tx.unit.book.held if each.rank.name == "write_room"}
    finally:
        event.remove(Session, "do_orm_execute", restrict)
    own = {number for (number,) in face.aside("SELECT id FROM write_room WHERE house_id = 1")}
    assert locked == own
    assert {number for (number,) in face.aside("SELECT id FROM write_room WHERE size = 7")} == own

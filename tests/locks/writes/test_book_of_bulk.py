"""What bulk statements lock that their own text does not say: it is in the book all the same."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from tests.pool.pool_face import PoolFace, both, result

from unitofwork import UnorderedWriteError
from unitofwork.policies.locks.book import Strength

from .audit import check_book
from .conftest import face_fixture
from .model import (
    Album,
    Arrow,
    Boss,
    Copy,
    Guest,
    House,
    Label,
    Lamp,
    Mail,
    Node,
    Owned,
    Person,
    Room,
    Shop,
    Stall,
    Track,
    Word,
    Worker,
)

rooms, shops, words = Room.__table__, Shop.__table__, Word.__table__
face, by_asyncpg = face_fixture("psycopg-sync"), face_fixture("asyncpg")


def held(tx: Any) -> set[str]:
    return {str(one) for one in tx.unit.book.held}


async def test_a_parent_that_is_checked_at_commit(face: PoolFace, holder: Connection) -> None:
    """A foreign key that is deferred locks nothing before; a lock query does, in order."""
    async with both(face.uow()) as tx:
        await result(tx.execute(insert(Guest).values(id=50, house_id=2)))
        check_book(tx, holder)
        assert held(tx) == {"write_house 2"}


async def test_a_parent_that_is_not_there_yet(face: PoolFace, holder: Connection) -> None:
    """It is nobody's, until somebody inserts it; whoever does has it alone."""
    async with both(face.uow()) as tx:
        sets = [{"id": 50, "house_id": 77}, {"id": 51, "house_id": 2}]
        await result(tx.execute(insert(Guest), sets))
        assert face.probe is not None
        face.probe.execute("INSERT INTO write_house VALUES (77, 'new', NULL)")
        check_book(tx, holder)
        assert held(tx) == {"write_house 2"}


@pytest.mark.parametrize("is_upsert", [False, True])
async def test_a_parent_that_is_among_the_rows(
    face: PoolFace, holder: Connection, is_upsert: bool
) -> None:
    """Left alone it would be locked with its child, before rows that come first."""
    holder.execute(update(Node).where(Node.id == 2).values(size=1))
    sets = [{"id": one, "parent_id": parent} for one, parent in ((1, 3), (2, None), (3, None))]
    new = upsert(Node)
    statement: Any = update(Node)
    if is_upsert:
        statement = new.on_conflict_do_update(
            index_elements=[Node.id], set_={"parent_id": new.excluded.parent_id}
        )

    async def work() -> None:
        async with both(face.uow()) as tx:
            await result(tx.execute(statement, sets))
            check_book(tx, holder)

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    assert (3,) in face.aside("SELECT id FROM write_node FOR UPDATE SKIP LOCKED")
    holder.rollback()
    await face.join(running)


LISTS: dict[str, tuple[Any, list[dict[str, Any]], set[str]]] = {
    "a part of a foreign key": (
        update(Shop),
        [{"id": 2, "row": 4}, {"id": 1, "row": 3}],
        {"write_area (3, 1)", "write_area (4, 1)"},
    ),
    "the part of a foreign key that is no key": (
        update(Stall),
        [{"row": 1, "number": 1, "place": 2}],
        {"write_area (1, 2)"},
    ),
    "a row twice": (
        update(Room),
        [{"id": 3, "size": 1}, {"id": 4, "house_id": 3}, {"id": 3, "size": 2}],
        {"write_house 2", "write_house 3"},
    ),
    "a row twice, in parts": (
        update(Shop),
        [{"id": 1, "row": 3}, {"id": 1, "place": 2}, {"id": 2, "size": 1}],
        {"write_area (3, 1)", "write_area (3, 2)"},
    ),
    "a row twice, in core": (
        update(shops).where(shops.c.id == bindparam("one")).values(row=bindparam("new")),
        [{"one": 1, "new": 3}, {"one": 1, "new": 4}],
        {"write_area (3, 1)", "write_area (4, 1)"},
    ),
}


@pytest.mark.parametrize("form", LISTS)
async def test_parents_of_rows_in_a_list(face: PoolFace, holder: Connection, form: str) -> None:
    """What stays of a foreign key that is set in part; all of a row that is written twice."""
    statement, sets, parents = LISTS[form]
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement, sets))
        check_book(tx, holder)
        assert parents == {one for one in held(tx) if one.startswith(("write_area", "write_house"))}


async def test_a_list_that_comes_after_another_write(face: PoolFace, holder: Connection) -> None:
    """All foreign keys of the row are checked, also those that only other sets set."""
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(update(Room).where(Room.id == 3).values(size=1)))
        await result(tx.execute(update(Room), [{"id": 3, "size": 2}, {"id": 4, "house_id": 3}]))
        check_book(tx, holder)


async def test_what_is_read_of_a_row_in_a_list(face: PoolFace, holder: Connection) -> None:
    """The part that stays is what the row has when it is locked."""
    holder.execute(update(Shop).where(Shop.id == 1).values(place=4))

    async def work() -> None:
        async with both(face.uow()) as tx:
            await result(tx.execute(update(Shop), [{"id": 1, "row": 3}]))
            assert "write_area (3, 4)" in held(tx)
            check_book(tx, holder)

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    holder.commit()
    await face.join(running)


async def test_a_list_that_sets_no_foreign_key_costs_nothing_more(
    face: PoolFace, sent: list[str]
) -> None:
    """Though a column of the key belongs to one."""
    async with both(face.uow()) as tx:
        await result(tx.execute(select(House)))
        sent.clear()
        await result(tx.execute(update(Stall), [{"row": 1, "number": 1, "size": 2}]))
        assert len(sent) == 1
        assert held(tx) == {"write_stall (1, 1)"}


def by_key(entity: Any, sets: Any, **row: Any) -> Any:
    new = upsert(entity)
    key = list(entity.__table__.primary_key)
    values = sets(new.excluded)
    return (new.values(**row) if row else new).on_conflict_do_update(
        index_elements=key, set_=values
    )


def by_code(sets: Any, **row: Any) -> Any:
    new = upsert(Shop)
    return new.values(**row).on_conflict_do_update(
        index_elements=[Shop.code], set_=sets(new.excluded)
    )


#: Statement, parameters, and parents that are locked.
UPSERTS: dict[str, tuple[Any, Any, set[str]]] = {
    "a part of a foreign key": (
        by_key(Shop, lambda new: {"row": new.row}, id=1, row=2, place=4),
        None,
        {"write_area (2, 1)", "write_area (2, 4)"},
    ),
    "a part of a foreign key, to a value": (
        by_key(Shop, lambda new: {"row": 4}, id=1),
        None,
        {"write_area (4, 1)"},
    ),
    "a part to a value, a part as inserted": (
        by_key(Shop, lambda new: {"row": 4, "place": new.place}, id=1, row=2, place=3),
        None,
        {"write_area (4, 3)", "write_area (2, 3)"},
    ),
    "the part of a foreign key that is no key": (
        by_key(Stall, lambda new: {"place": new.place}, row=1, number=1, place=2),
        None,
        {"write_area (1, 2)"},
    ),
    "the part that is no key, to a value": (
        by_key(Stall, lambda new: {"place": 3}, row=1, number=1),
        None,
        {"write_area (1, 3)"},
    ),
    "a part that is not there": (
        by_key(Shop, lambda new: {"row": new.row}, id=60, row=2, place=4),
        None,
        {"write_area (2, 4)"},
    ),
    "a row twice": (
        by_key(Room, lambda new: {"size": new.size}),
        [{"id": 3, "house_id": 3, "size": 1}, {"id": 3, "house_id": 3, "size": 2}],
        {"write_house 2", "write_house 3"},
    ),
    "a new row twice": (
        by_key(Room, lambda new: {"size": new.size}),
        [{"id": 30, "house_id": 3, "size": 1}, {"id": 30, "house_id": 2, "size": 2}],
        {"write_house 2", "write_house 3"},
    ),
    "a row twice, to other parents": (
        by_key(Room, lambda new: {"house_id": new.house_id}),
        [{"id": 3, "house_id": 3}, {"id": 3, "house_id": 1}],
        {"write_house 1", "write_house 3"},
    ),
    "as inserted, by code": (
        by_code(
            lambda new: {"row": new.row, "place": new.place, "code": new.code},
            id=50,
            row=2,
            place=4,
            code="s1",
        ),
        None,
        {"write_area (2, 4)"},
    ),
    "a generated unique column": (
        by_key(Mail, lambda new: {"address": new.address}, id=1, address="N"),
        None,
        set(),
    ),
}


@pytest.mark.parametrize("form", UPSERTS)
async def test_parents_of_rows_that_conflict(face: PoolFace, holder: Connection, form: str) -> None:
    """Those that the row refers to afterwards, wherever the parts of that come from."""
    statement, sets, parents = UPSERTS[form]
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement, sets))
        check_book(tx, holder)
        assert parents == {one for one in held(tx) if one.startswith(("write_area", "write_house"))}


RAW: dict[str, tuple[Any, Any]] = {
    "a part that only the row tells, which has no known key": (
        by_code(lambda new: {"row": 3}, id=50, code="s1"),
        None,
    ),
    "twice by another key": (
        upsert(Shop).on_conflict_do_update(index_elements=[Shop.code], set_={"size": 1}),
        [{"id": 50, "code": "s1"}, {"id": 51, "code": "s1"}],
    ),
    "a foreign key that is generated": (
        by_key(Copy, lambda new: {"base": 3}, id=1, base=2),
        None,
    ),
    "a foreign key that is generated, insert": (insert(Copy).values(id=2, base=2), None),
    "a foreign key that is generated, update": (
        update(Copy).where(Copy.id == 1).values(base=3),
        None,
    ),
    "a foreign key that is generated, update of many": (update(Copy), [{"id": 1, "base": 3}]),
}


@pytest.mark.parametrize("form", RAW)
async def test_parents_that_can_t_be_told(face: PoolFace, form: str) -> None:
    """Then the statement counts as raw SQL."""
    statement, sets = RAW[form]
    assert face.probe is not None
    face.probe.execute("INSERT INTO write_copy (id, base, size) VALUES (1, 1, 0)")
    async with both(face.uow()) as tx:
        await result(tx.execute(statement, sets))
    with pytest.raises(UnorderedWriteError):
        async with both(face.uow(strict_locks=True)) as tx:
            await result(tx.execute(statement, sets))


@pytest.mark.parametrize(
    "statement",
    [
        update(Copy).where(Copy.id == 1).values(size=3),
        update(Mail).where(Mail.id == 1).values(size=3),
        by_key(Mail, lambda new: {"size": new.size}, id=1, address="N"),
    ],
)
async def test_what_leaves_a_generated_column_alone(
    face: PoolFace, holder: Connection, statement: Any
) -> None:
    """It is sent as it is, and locks no more than it has to."""
    assert face.probe is not None
    face.probe.execute("INSERT INTO write_copy (id, base, size) VALUES (1, 1, 0)")
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement))
        assert {one.strength for one in tx.unit.book.held.values()} == {Strength.NO_KEY_UPDATE}
        check_book(tx, holder)


async def test_a_partial_index_has_not_all_rows(face: PoolFace, holder: Connection) -> None:
    """What lies outside of it is no conflict: a new row is inserted beside it."""
    new = upsert(Label).values(word="a", in_use=True)
    statement = new.on_conflict_do_update(
        index_elements=[Label.word], index_where=Label.in_use, set_={"count": 1}
    )
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement))
        check_book(tx, holder)
        assert "write_label 1" not in held(tx)


async def test_a_new_row_beside_a_partial_index(face: PoolFace, holder: Connection) -> None:
    """It conflicts with none; and what was locked for it is in the book."""
    new = upsert(Label).values(word="b", in_use=False)
    statement = new.on_conflict_do_update(
        index_elements=[Label.word], index_where=Label.in_use, set_={"count": 1}
    )
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement))
        check_book(tx, holder)


#: What the owner of a value does while it is waited for, and how the value is asked for.
MOVES: dict[str, tuple[list[str], Any, set[str]]] = {
    "given up": (
        ["UPDATE write_word SET text = 'moved' WHERE id = 1"],
        ["sun"],
        set(),
    ),
    "given to another": (
        [
            "UPDATE write_word SET text = 'moved' WHERE id = 1",
            "UPDATE write_word SET text = 'sun' WHERE id = 3",
        ],
        ["sun"],
        {"write_word 3"},
    ),
    "one of two given to another": (
        [
            "UPDATE write_word SET text = 'moved' WHERE id = 1",
            "UPDATE write_word SET text = 'sun' WHERE id = 3",
        ],
        ["sun", "moon"],
        {"write_word 2", "write_word 3"},
    ),
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("form", MOVES)
async def test_a_value_that_moves_while_it_is_waited_for(
    face: PoolFace, holder: Connection, form: str, is_first: bool
) -> None:
    """The book has the row that the upsert has met in the end."""
    meanwhile, texts, expected = MOVES[form]
    for one in meanwhile:
        holder.execute(text(one))
    new = upsert(words).values([{"text": one, "lang": "en", "count": 1} for one in texts])
    statement = new.on_conflict_do_update(index_elements=["text", "lang"], set_={"count": 7})

    async def work() -> None:
        async with both(face.uow()) as tx:
            if not is_first:
                await result(tx.lock(House, 1))
            await result(tx.execute(statement))
            check_book(tx, holder)
            assert expected <= held(tx)

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    holder.commit()
    await face.join(running)


async def test_an_upsert_by_another_key_that_comes_first(
    face: PoolFace, holder: Connection, sent: list[str]
) -> None:
    """One statement, and one that tells which row it was; a new one is known then, too."""
    for one, number in (("sun", 1), ("dust", 5)):
        new = upsert(words).values(text=one, lang="en")
        statement = new.on_conflict_do_update(index_elements=["text", "lang"], set_={"count": 7})
        async with both(face.uow()) as tx:
            await result(tx.execute(select(House)))
            sent.clear()
            await result(tx.execute(statement))
            assert len(sent) == 2
            check_book(tx, holder)
            assert held(tx) == {f"write_word {number}"}


#: Room 9, of house 2, becomes room 90.
KEY_CHANGES: dict[str, tuple[Any, Any]] = {
    "to a value": (update(Room).where(Room.id == 9).values(id=90), None),
    "computed": (update(Room).where(Room.id == 9).values(id=Room.id * 10), None),
    "where it matches": (update(Room).where(Room.size == 90).values(id=90), None),
    "in a list": (
        update(rooms).where(rooms.c.id == bindparam("one")).values(id=bindparam("new")),
        [{"one": 9, "new": 90}],
    ),
}


@pytest.mark.parametrize("form", KEY_CHANGES)
async def test_a_row_whose_key_has_changed(face: PoolFace, holder: Connection, form: str) -> None:
    """It is a row written to, of which all foreign keys are checked the next time."""
    assert face.probe is not None
    face.probe.execute("DELETE FROM write_lamp WHERE id = 9")
    statement, sets = KEY_CHANGES[form]
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement, sets))
        assert "write_house 2" not in held(tx)
        await result(tx.execute(update(Room).where(Room.id == 90).values(size=1)))
        check_book(tx, holder)
        assert "write_house 2" in held(tx)


async def test_a_row_of_a_list_that_is_gone(by_asyncpg: PoolFace, holder: Connection) -> None:
    """asyncpg does not count the rows of many, so nobody notices: it may be held, or not."""
    face = by_asyncpg
    async with both(face.uow()) as tx:
        await result(tx.execute(update(House), [{"id": 1, "name": "z"}, {"id": 88, "name": "z"}]))
        assert face.probe is not None
        face.probe.execute("INSERT INTO write_house VALUES (88, 'new', NULL)")
        check_book(tx, holder)
        await result(tx.lock(House, 88))
        await result(tx.lock(House, 1))
        check_book(tx, holder)
        assert {"write_house 1", "write_house 88"} <= held(tx)


DECLARED: dict[str, tuple[Any, Any, Any]] = {
    "update": (Room, update(Room).where(Room.id == 3).values(size=1), None),
    "update of a table": (Room, update(rooms).where(rooms.c.id == 3).values(size=1), None),
    "update with a list": (Room, update(Room), [{"id": 3, "size": 1}]),
    "delete": (Lamp, delete(Lamp).where(Lamp.id == 3), None),
    "insert": (Room, insert(Room).values(id=50, house_id=1), None),
    "upsert": (Room, by_key(Room, lambda new: {"size": 1}, id=3, house_id=1), None),
    "a sub-class": (Person, update(Worker).where(Worker.id == 3).values(pay=1), None),
    "a base": (Worker, update(Person).where(Person.id == 3).values(name="n"), None),
    "another class in the table": (
        Boss,
        update(Person).where(Person.id == 3).values(name="n"),
        None,
    ),
}


@pytest.mark.parametrize("form", DECLARED)
async def test_a_class_with_a_trigger(face: PoolFace, form: str) -> None:
    """What its trigger writes was declared for objects, so a statement counts as raw SQL."""
    entity, statement, sets = DECLARED[form]
    uow = face.make()
    uow.writes_also(entity, lambda one: [(House, 1)])
    async with both(uow()) as tx:
        await result(tx.execute(update(Arrow).where(Arrow.id == 1).values(id=11)))
        assert not tx.unit.sent_unordered
        await result(tx.execute(statement, sets))
        assert tx.unit.sent_unordered
        assert tx.unit.waits_are_limited
        tx.set_rollback_only()
    with pytest.raises(UnorderedWriteError):
        async with both(uow(strict_locks=True)) as tx:
            await result(tx.execute(statement, sets))


async def test_an_insert_by_the_names_of_columns(face: PoolFace, holder: Connection) -> None:
    """The attribute has another name; what the column refers to is locked all the same."""
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(insert(Owned).values(id=50, house=2)))
        check_book(tx, holder)
        assert held(tx) == {"write_house 2"}


@pytest.mark.parametrize(
    ("statement", "album"),
    [
        (update(Album).where(Album.id == 1).values(id=10), 10),
        (update(Album).where(Album.id < 3).values(id=Album.id + 10), 11),
    ],
)
async def test_rows_whose_key_has_changed_with_that_of_another(
    face: PoolFace, holder: Connection, statement: Any, album: int
) -> None:
    """By ON UPDATE CASCADE: they are rows written to, too."""
    assert face.probe is not None
    face.probe.execute("UPDATE write_track SET house_id = 2")
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement))
        check_book(tx, holder)
        track = update(Track).where(Track.album_id == album, Track.number == 1)
        await result(tx.execute(track.values(size=1)))
        check_book(tx, holder)
        assert "write_house 2" in held(tx)

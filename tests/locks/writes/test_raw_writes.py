"""Writes that can't be read: a short wait, a report that names the table, or a refusal."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import (
    Connection,
    TableClause,
    column,
    event,
    exc,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.dml import UpdateBase
from tests.pool.pool_face import PoolFace, both, result

from unitofwork import UnorderedWriteError
from unitofwork.sql.waits import place_of_wait, processes_in, telling_of, waits_for_value

from .conftest import face_fixture
from .model import House, Room, Tag, Word

face = face_fixture("asyncpg", "psycopg-sync")
#: The server's deadlock_timeout is 200 ms.
DETECTOR = 0.2
WRITE = text("UPDATE write_room SET size = 7 WHERE id = 2")


async def driver_sql(face: PoolFace, tx: Any, statement: str) -> Any:
    connection = await result(tx.connection())
    return await result(connection.exec_driver_sql(statement))


async def setting(tx: Any) -> str:
    return str(await result(tx.scalar(text("SHOW lock_timeout"))))


def hold(holder: Connection, key: int = 2) -> None:
    holder.execute(text(f"UPDATE write_room SET size = 0 WHERE id = {key}"))


@pytest.mark.parametrize("how", ["text", "driver", "core on the connection", "select for update"])
async def test_it_waits_for_less_than_the_detector(
    face: PoolFace, holder: Connection, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """So a circle through it ends here; the report names the table."""
    hold(holder)
    began = 0.0
    with pytest.raises(exc.DBAPIError) as caught:
        async with both(face.uow()) as tx:
            await result(tx.execute(select(House)))
            began = time.monotonic()
            if how == "text":
                await result(tx.execute(WRITE))
            elif how == "driver":
                await driver_sql(face, tx, "UPDATE write_room SET size = 7 WHERE id = 2")
            elif how == "core on the connection":
                connection = await result(tx.connection())
                await result(connection.execute(update(Room).where(Room.id == 2).values(size=7)))
            else:
                await result(tx.execute(select(House).limit(1).with_for_update()))
                began = time.monotonic()
                await result(tx.execute(select(Room).where(Room.id == 2).with_for_update()))
    took = time.monotonic() - began
    assert "lock timeout" in str(caught.value)
    assert DETECTOR * 0.7 < took < DETECTOR + 1.0
    assert place_of_wait(caught.value) == "write_room"
    (record,) = [one for one in caplog.records if one.name == "unitofwork.locks"]
    assert record.levelno == logging.WARNING
    assert "write_room" in record.getMessage()


@pytest.mark.parametrize("is_released", [False, True])
async def test_the_first_select_for_update_waits_as_usual(
    face: PoolFace, holder: Connection, is_released: bool
) -> None:
    """Nothing is held yet, so the patience is the session's, not the detector's.

    After a release too: what was sent before has been committed.
    """
    hold(holder)

    async def lock() -> int:
        async with both(face.uow()) as tx:
            if is_released:
                await result(tx.execute(text("UPDATE write_lamp SET power = 1 WHERE id = 1")))
                async with both(tx.released(commit=True)):
                    pass
            found = await result(tx.scalars(select(Room.id).where(Room.id == 2).with_for_update()))
            locked: int = found.one()
        return locked

    child = face.start(lock)
    await face.pause(DETECTOR * 4)
    holder.rollback()
    assert await face.join(child) == 2


async def test_one_statement_more_and_only_once(face: PoolFace, sent: list[str]) -> None:
    """The limit is set with the first write of the transaction; reading sets none."""
    async with both(face.uow()) as tx:
        await result(tx.execute(text("SELECT 1")))
        assert len(sent) == 1
        await result(tx.execute(WRITE))
        await result(tx.execute(WRITE))
        assert len(sent) == 4
        assert await setting(tx) == "160ms"


async def test_a_lower_limit_of_the_units_own_stays(face: PoolFace) -> None:
    """The limit is never raised."""
    async with both(face.uow(lock_timeout=0.05)) as tx:
        await result(tx.execute(WRITE))
        assert await setting(tx) == "50ms"
    async with both(face.uow(lock_timeout=5)) as tx:
        await result(tx.execute(WRITE))
        assert await setting(tx) == "160ms"


async def test_it_is_set_again_after_a_savepoint_was_rolled_back(face: PoolFace) -> None:
    """With which the setting is undone."""
    async with both(face.uow()) as tx:
        with pytest.raises(ZeroDivisionError):
            async with both(tx.savepoint()):
                await result(tx.execute(WRITE))
                raise ZeroDivisionError
        assert await setting(tx) != "160ms"
        await result(tx.execute(WRITE))
        assert await setting(tx) == "160ms"


async def test_a_unit_that_holds_locks_and_can_run_again_hardly_waits(
    face: PoolFace, holder: Connection
) -> None:
    """The tripwire of 10 ms; and the unit is run again until the way is free."""
    hold(holder)
    limits: list[str] = []

    async def body(tx: Any) -> None:
        # One statement by key, so no lock query has set a limit yet.
        await result(tx.execute(update(Room).where(Room.id == 1).values(size=1)))
        if limits:
            holder.rollback()
        limits.append("")
        await result(tx.execute(WRITE))
        limits.append(await setting(tx))

    await result(face.uow.run(face.function(body)))
    assert limits == ["", "", "10ms"]
    assert face.aside("SELECT size FROM write_room WHERE id = 2") == [(7,)]


async def test_flushes_and_ordered_statements_are_not_raw(face: PoolFace, sent: list[str]) -> None:
    """What is locked in order is sent without a limit of its own."""
    async with both(face.uow(strict_locks=True)) as tx:
        tx.add(House(id=77))
        await result(tx.flush())
        await result(tx.execute(update(Room).where(Room.id == 2).values(size=7)))
        assert not [one for one in sent if "set_config" in one]


REFUSED = {
    "text": WRITE,
    "truncate": text("TRUNCATE write_lamp"),
    "a write in a WITH": text("WITH x AS (DELETE FROM write_lamp RETURNING 1) SELECT * FROM x"),
    "select for update": select(Room).with_for_update(),
    "a queue's update": update(Room)
    .where(Room.id == select(Room.id).limit(1).with_for_update().scalar_subquery())
    .values(size=1),
    "insert from select": insert(Word).from_select(["text"], select(House.name)),
}


@pytest.mark.parametrize("form", [*REFUSED, "driver", "on the connection"])
async def test_strict_locks_refuse_it_before_it_is_sent(face: PoolFace, form: str) -> None:
    """Nothing was sent, so the unit is sound and can go on."""
    async with both(face.uow(strict_locks=True)) as tx:
        with pytest.raises(UnorderedWriteError) as caught:
            if form == "driver":
                await driver_sql(face, tx, "DELETE FROM write_lamp")
            elif form == "on the connection":
                connection = await result(tx.connection())
                await result(connection.execute(update(Room).values(size=7)))
            else:
                await result(tx.execute(REFUSED[form]))
        assert "tests" in Path(caught.value.place.file).parts
        assert "write_" in caught.value.statement
        await result(tx.execute(text("SELECT count(*) FROM write_lamp")))
        tx.add(House(id=77))
    assert face.aside("SELECT count(*) FROM write_lamp") == [(9,)]
    assert face.aside("SELECT count(*) FROM write_house") == [(4,)]


WHY: dict[str, tuple[Any, str, str]] = {
    "text": (WRITE, "does not tell which rows", "update(), delete() and insert() to tx.execute()"),
    "select for update": (REFUSED["select for update"], "comes upon them", "tx.lock_where()"),
    "advisory": (text("SELECT pg_advisory_xact_lock(1)"), "no place", "tx.lock_name()"),
    "lock table": (text("LOCK TABLE write_lamp"), "tables as a whole", "first statement of a unit"),
    "truncate": (text("TRUNCATE write_lamp"), "tables as a whole", "delete(Account) goes row"),
    "ddl": (text("ALTER TABLE write_lamp ADD x int"), "tables as a whole", "a unit of its own"),
    "a queue's update": (REFUSED["a queue's update"], "a part of it", "tx.lock_where()"),
    "volatile": (
        update(Room).where(func.random() > 0).values(size=7),
        "find others the next time",
        "tx.lock_many(), and name them in WHERE",
    ),
    "no primary key": (
        update(TableClause("write_lamp_log", column("x"))).values(x=1),
        "no primary key",
        "tx.lock_name()",
    ),
    "insert from select": (REFUSED["insert from select"], "makes them of a query", "as values"),
    "upsert": (
        upsert(Tag)
        .values([{"label": "a"}, {"label": "b"}])
        .on_conflict_do_nothing(index_elements=[func.lower(Tag.label)]),
        "is an expression",
        "columns of a unique constraint",
    ),
    "computed": (
        insert(Room).values(id=70, house_id=select(func.max(House.id)).scalar_subquery()),
        "computes a key",
        "read the value first",
    ),
}


@pytest.mark.parametrize("form", WHY)
async def test_a_refusal_says_why_and_what_to_send_instead(face: PoolFace, form: str) -> None:
    """Whoever has given an update() to the session already is not told to do just that."""
    statement, why, remedy = WHY[form]
    async with both(face.uow(strict_locks=True)) as tx:
        with pytest.raises(UnorderedWriteError) as caught:
            await result(tx.execute(statement))
    assert why in caught.value.what
    assert remedy in caught.value.remedy
    is_compiled = isinstance(statement, UpdateBase)
    assert ("'Bulk statements'" in caught.value.what) is is_compiled
    assert ("give update(), delete() and insert()" in caught.value.remedy) is (form == "text")


async def test_a_refusal_of_what_was_sent_on_the_connection(face: PoolFace) -> None:
    """There the session would have looked for its rows."""
    async with both(face.uow(strict_locks=True)) as tx:
        connection = await result(tx.connection())
        with pytest.raises(UnorderedWriteError, match="past the session") as caught:
            await result(connection.execute(update(Room).values(size=7)))
    assert "to tx.execute()" in caught.value.remedy


async def lock_row(tx: Any) -> None:
    await result(tx.lock(Room, 2))


async def change_row(tx: Any) -> None:
    (await result(tx.get(Room, 2))).size = 1
    await result(tx.flush())


async def lock_in_savepoint(tx: Any) -> None:
    async with both(tx.savepoint()):
        await lock_row(tx)


async def lock_key_of_row(tx: Any) -> None:
    await result(tx.lock(Room, 2, strength="update"))


@pytest.mark.parametrize("second", [lock_row, change_row, lock_in_savepoint, lock_key_of_row])
async def test_a_deadlock_tells_both_sides(
    face: PoolFace, caplog: pytest.LogCaptureFixture, second: Any
) -> None:
    """A writer outside of units: what the server said, what the unit held and asked for, who the
    other is; and, where the strengths are such, that it may be the server's own."""
    assert face.probe is not None
    with psycopg.connect(face.probe.dsn, application_name="billing") as outside:
        number = outside.info.backend_pid
        outside.execute("SET deadlock_timeout = '20s'")
        outside.execute("UPDATE write_room SET size = 0 WHERE id = 2")
        thread = threading.Thread(
            target=lambda: outside.execute("UPDATE write_room SET size = 0 WHERE id = 1")
        )
        with pytest.raises(exc.DBAPIError) as caught:
            async with both(face.uow()) as tx:
                await result(tx.lock(Room, 1))
                thread.start()
                await face.until(lambda: face.probe is not None and face.probe.blocked())
                await second(tx)
        thread.join(20)
        outside.rollback()
    note, other = caught.value.__notes__
    assert f"process {number}: application 'billing'" in other
    assert "UPDATE write_room SET size = 0 WHERE id = 1" in other
    assert other.count("process") == 1
    assert "waits for ShareLock on transaction" in note
    assert "waited for a lock in: write_room" in note
    assert "write_room 1: NO_KEY_UPDATE, locked at " in note
    assert "wanted further:\n    write_room 2\n" in note
    assert ("'One row'" in note) is (second is lock_key_of_row)
    # To be found in the log too, where the unit is run again.
    logged = [one for one in caplog.records if one.name == "unitofwork.locks"]
    assert [one.getMessage() for one in logged if note in one.getMessage()] == [f"deadlock: {note}"]
    assert "/tests/" in note.replace(os.sep, "/")


@pytest.mark.parametrize("how", ["core", "text"])
async def test_what_a_mapper_event_sends_is_not_of_the_flush(
    face: PoolFace, holder: Connection, how: str
) -> None:
    """The flush has not locked its rows: its wait is short, and `strict_locks` refuses it."""
    statement = update(House.__table__).where(House.__table__.c.id == 3).values(name="z")

    def count(_mapper: Any, connection: Connection, _room: Room) -> None:
        by_text = text("UPDATE write_house SET name = 'z' WHERE id = 3")
        connection.execute(statement if how == "core" else by_text)

    event.listen(Room, "after_update", count)
    try:
        with pytest.raises(UnorderedWriteError, match="object_session" if how == "core" else None):
            async with both(face.uow(strict_locks=True)) as tx:
                (await result(tx.get(Room, 1))).size = 5
        holder.execute(text("SELECT 1 FROM write_house WHERE id = 3 FOR UPDATE"))
        began = time.monotonic()
        with pytest.raises(exc.DBAPIError, match="lock timeout"):
            async with both(face.uow()) as tx:
                (await result(tx.get(Room, 1))).size = 5
        assert time.monotonic() - began < 3  # the session's own lock_timeout is 5 s
        assert face.uow.stats().uncovered_waits == 1
    finally:
        event.remove(Room, "after_update", count)
    holder.rollback()


async def test_the_table_of_a_foreign_keys_check_is_named(
    face: PoolFace, holder: Connection
) -> None:
    """The innermost statement is what waits: the parent's row, not the child's."""
    holder.execute(text("SELECT 1 FROM write_house WHERE id = 1 FOR UPDATE"))
    with pytest.raises(exc.DBAPIError) as caught:
        async with both(face.uow()) as tx:
            await result(tx.execute(text("INSERT INTO write_room VALUES (70, 1, 0)")))
    assert place_of_wait(caught.value) == "write_house"


async def test_an_other_side_that_has_gone(face: PoolFace) -> None:
    """Then its number is all that there is; and the connection is as good as new."""
    uow = face.make(pool_size=1)
    async with both(uow()) as tx:
        own = await result(tx.scalar(text("SELECT pg_backend_pid()")))
    error = FakeDeadlock(f"Process {own} waits for x; blocked by process 1.")
    with pytest.raises(FakeDeadlock) as caught:
        async with both(uow()) as tx:
            await result(tx.execute(text("SELECT 1")))
            tx.unit.deadlock = error
            raise error
    assert caught.value.__notes__ == [
        "  The other side of the deadlock, as it was just after the rollback:\n    process 1: gone"
    ]
    async with both(uow()) as tx:
        assert await result(tx.scalar(text("SELECT pg_backend_pid()"))) == own


class FakeDeadlock(Exception):
    """As psycopg tells it."""

    def __init__(self, detail: str) -> None:
        super().__init__("deadlock detected")
        self.diag = Diagnosis("40P01", detail)


class Diagnosis(NamedTuple):
    sqlstate: str
    message_detail: str
    message_hint: str | None = None
    context: str | None = None


def test_processes_in_any_language() -> None:
    """The victim's first, each once."""
    french = "Le processus 7 attend ShareLock sur transaction 12 ; bloqué par le processus 9."
    german = "Prozess 9 wartet auf ShareLock-Sperre auf Transaktion 11; blockiert von Prozess 7."
    assert processes_in(FakeDeadlock(f"{french}\n{german}")) == [7, 9]


async def test_a_value_that_another_one_is_inserting_is_not_a_row_that_came(
    face: PoolFace, holder: Connection
) -> None:
    """An upsert waits for it: an uncovered wait, which repeats too often to be a refused lock."""
    holder.execute(text("INSERT INTO write_room VALUES (70, 1, 0)"))
    statement = upsert(Room).values(id=70, house_id=1, size=2)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_={"size": 2})
    with pytest.raises(exc.DBAPIError, match="lock timeout") as caught:
        async with both(face.uow()) as tx:
            await result(tx.lock(House, 1))
            await result(tx.execute(statement))
    assert waits_for_value(caught.value)
    assert (face.uow.stats().late_locks, face.uow.stats().uncovered_waits) == (0, 1)
    holder.rollback()


@pytest.mark.parametrize(
    ("context", "is_value"),
    [
        ('while inserting index tuple (0,3) in relation "word_text_key"', True),
        ('while checking exclusion constraint on tuple (0,2) in relation "room"', True),
        ("beim Einfügen von Indextupel (0,3) in Relation »x«", True),
        ("beim Überprüfen eines Exclusion-Constraints für Tupel (0,1) in Relation »x«", True),
        ('while updating tuple (0,1) in relation "index"', False),
        ('while locking tuple (0,1) in relation "room"\nSQL statement "SELECT 1 -- index"', False),
    ],
)
def test_what_a_wait_is_for(context: str, is_value: bool) -> None:
    """A value that another one inserts, or a row; the names of tables do not matter."""
    error = FakeDeadlock("")
    error.diag = Diagnosis("55P03", "", None, context)
    assert waits_for_value(error) is is_value


def test_errors_that_tell_nothing() -> None:
    """Neither drivers without details nor other errors are misread."""
    assert place_of_wait(ValueError("x")) is None
    assert processes_in(ValueError("process 7")) == []
    assert str(telling_of(psycopg.OperationalError("x"))) == ""

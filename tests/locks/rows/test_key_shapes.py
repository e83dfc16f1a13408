"""Classes whose key is not that of their tables: each of their rows is found all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Table,
    create_engine,
    join,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column
from tests.contract.face import Face, both, result

from unitofwork import ConfigurationError, RowNotFoundError
from unitofwork.testing.postgres import EmbeddedPostgres

#: The sync face of psycopg sends keys as its async face does.
pytestmark = pytest.mark.parametrize("face", ["asyncpg", "psycopg-sync"], indirect=True)


class Base(DeclarativeBase):
    pass


def key() -> Any:
    return mapped_column(Integer, primary_key=True, autoincrement=False)


class Turned(Base):
    """Its key is asked for as (y, x), its table's is (x, y)."""

    __table__ = Table(
        "ks_turned",
        Base.metadata,
        Column("x", Integer, primary_key=True, autoincrement=False),
        Column("y", Integer, primary_key=True, autoincrement=False),
        Column("n", Integer, default=0),
    )
    __mapper_args__ = {"primary_key": [__table__.c.y, __table__.c.x]}  # noqa: RUF012


class Vehicle(Base):
    __tablename__ = "ks_vehicle"

    id: Mapped[int] = key()
    kind: Mapped[str]
    n: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012


class Car(Vehicle):
    """Its rows have a key of their own."""

    __tablename__ = "ks_car"

    number: Mapped[int] = key()
    vehicle_id: Mapped[int] = mapped_column(ForeignKey("ks_vehicle.id"), unique=True)
    m: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"polymorphic_identity": "car"}  # noqa: RUF012


class Place(Base):
    __tablename__ = "ks_place"

    a: Mapped[int] = key()
    b: Mapped[int] = key()
    kind: Mapped[str]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "place"}  # noqa: RUF012


class Corner(Place):
    """Its table's key is in another order than its base's."""

    __tablename__ = "ks_corner"

    b: Mapped[int] = key()
    a: Mapped[int] = key()
    m: Mapped[int] = mapped_column(default=0)

    __table_args__ = (ForeignKeyConstraint(["a", "b"], ["ks_place.a", "ks_place.b"]),)
    __mapper_args__ = {"polymorphic_identity": "corner"}  # noqa: RUF012


class ByCode(Base):
    """Known by a unique column that is not the table's key."""

    __table__ = Table(
        "ks_by_code",
        Base.metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("code", Integer, unique=True, nullable=False),
        Column("n", Integer, default=0),
    )
    __mapper_args__ = {"primary_key": [__table__.c.code]}  # noqa: RUF012


left = Table("ks_left", Base.metadata, Column("id", Integer, primary_key=True))
right = Table(
    "ks_right",
    Base.metadata,
    Column("bid", Integer, primary_key=True),
    Column("left_id", ForeignKey("ks_left.id")),
    Column("n", Integer, default=0),
)


class Joined(Base):
    """One object of two rows, by the keys of both."""

    __table__ = join(left, right, left.c.id == right.c.left_id)

    id = column_property(left.c.id, right.c.left_id)


class Unclear(Base):
    """Of its two rows the key leads to one only."""

    __table__ = join(left, right, left.c.id == right.c.n)
    __mapper_args__ = {"primary_key": [right.c.bid], "include_properties": ["bid"]}  # noqa: RUF012


ROWS = """
    INSERT INTO ks_turned VALUES (1, 2, 0), (2, 1, 0), (3, 3, 0);
    INSERT INTO ks_vehicle SELECT n, 'car', 0 FROM generate_series(1, 3) n;
    INSERT INTO ks_car (number, vehicle_id, m) SELECT 4 - n, n, 0 FROM generate_series(1, 3) n;
    INSERT INTO ks_place VALUES (1, 5, 'corner'), (3, 4, 'corner'), (4, 3, 'corner');
    INSERT INTO ks_corner (a, b, m) VALUES (1, 5, 0), (3, 4, 0), (4, 3, 0);
    INSERT INTO ks_by_code VALUES (1, 2, 0), (2, 1, 0);
    INSERT INTO ks_left VALUES (1), (2);
    INSERT INTO ks_right VALUES (2, 1, 0), (1, 2, 0);
"""


@pytest.fixture(scope="module", autouse=True)
def rows(lock_tables: EmbeddedPostgres) -> Iterator[None]:
    engine = create_engine(lock_tables.url("psycopg"))
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.exec_driver_sql(ROWS)
    yield
    Base.metadata.drop_all(engine)
    engine.dispose()


def locked(holder: Connection, table: str, columns: str) -> list[tuple[Any, ...]]:
    """The rows that another transaction has locked."""
    everything = holder.execute(text(f"SELECT {columns} FROM {table}")).all()
    query = text(f"SELECT {columns} FROM {table} FOR NO KEY UPDATE SKIP LOCKED")
    free = holder.execute(query).all()
    holder.rollback()
    return sorted(tuple(row) for row in set(everything) - set(free))


#: The class, a key, its attributes; and for each table the columns and the row to be locked.
SHAPES: list[tuple[type[Any], Any, dict[str, int], list[tuple[str, str, tuple[int, ...]]]]] = [
    (Turned, (2, 1), {"x": 1, "y": 2}, [("ks_turned", "x, y", (1, 2))]),
    (Car, 1, {"id": 1, "number": 3}, [("ks_vehicle", "id", (1,)), ("ks_car", "number", (3,))]),
    (
        Corner,
        (3, 4),
        {"a": 3, "b": 4},
        [("ks_place", "a, b", (3, 4)), ("ks_corner", "a, b", (3, 4))],
    ),
    (ByCode, 1, {"id": 2, "code": 1}, [("ks_by_code", "id", (2,))]),
    (Joined, (1, 2), {"id": 1, "bid": 2}, [("ks_left", "id", (1,)), ("ks_right", "bid", (2,))]),
]


@pytest.mark.parametrize(
    ("entity", "key", "values", "rows_locked"), SHAPES, ids=[one[0].__name__ for one in SHAPES]
)
@pytest.mark.parametrize("how", ["lock", "lock_across", "lock_where", "nowait", "flush"])
async def test_its_own_rows_are_locked(
    face: Face,
    holder: Connection,
    entity: type[Any],
    key: Any,
    values: dict[str, int],
    rows_locked: list[tuple[str, str, tuple[int, ...]]],
    how: str,
) -> None:
    """The object that tx.get() finds, and of each table the row that it is stored in."""
    async with both(face.uow()) as tx:
        match how:
            case "lock":
                row = await result(tx.lock(entity, key))
            case "nowait":
                row = await result(tx.lock(entity, key, nowait=True))
            case "lock_across":
                (row,) = (await result(tx.lock_across({entity: [key]})))[entity]
            case "lock_where":
                where = [getattr(entity, name) == value for name, value in values.items()]
                (row,) = await result(tx.lock_where(select(entity).where(*where)))
            case _:
                await result(tx.lock(entity, key))
                row = await result(tx.get(entity, key))
                name = "m" if hasattr(entity, "m") else "n"
                setattr(row, name, 5)
                await result(tx.flush())
        assert {name: getattr(row, name) for name in values} == values
        assert row is await result(tx.get(entity, key))
        for table, columns, expected in rows_locked:
            assert locked(holder, table, columns) == [expected]
        assert len(tx.unit.book.held) == len(rows_locked)
        tx.set_rollback_only()


@pytest.mark.parametrize(("entity", "key", "values", "_"), SHAPES)
async def test_a_key_that_is_not_there(
    face: Face, entity: type[Any], key: Any, values: dict[str, int], _: Any
) -> None:
    """It is missing, and its neighbours are not."""
    missing = (9, 9) if isinstance(key, tuple) else 9
    async with both(face.uow()) as tx:
        with pytest.raises(RowNotFoundError) as caught:
            await result(tx.lock_many(entity, [missing, key]))
        assert caught.value.missing == ((entity.__name__, missing),)


async def test_a_key_that_leads_nowhere(face: Face) -> None:
    """It is refused before any I/O, and the error says what to lock instead."""
    async with both(face.uow()) as tx:
        with pytest.raises(ConfigurationError, match=r"row in ks_left.*\n.*lock_across"):
            await result(tx.lock(Unclear, 1))
        assert tx.unit.connection is None


@pytest.mark.parametrize("entity", [Turned, Corner])
async def test_reads_are_guarded_by_the_right_row(face: Face, entity: type[Any]) -> None:
    """`guard_reads` compares each object with its own row, also beside its mirror image."""
    keys = [(2, 1), (1, 2)] if entity is Turned else [(3, 4), (4, 3)]
    async with both(face.uow(guard_reads=True)) as tx:
        found = [await result(tx.get(entity, one)) for one in keys]
        name = "n" if entity is Turned else "m"
        before = getattr(found[0], name)
        for at, one in enumerate(found):
            setattr(one, name, before + 1 + at)
        await result(tx.flush())
        await result(tx.lock_many(entity, keys))
        setattr(found[0], name, 7)
        await result(tx.flush())
        for one in found:
            await result(tx.refresh(one))
        assert [getattr(one, name) for one in found] == [7, before + 2]
        tx.set_rollback_only()


async def test_a_base_locks_the_base(face: Face, holder: Connection) -> None:
    """The rows of a sub-class are locked by the sub-class."""
    async with both(face.uow()) as tx:
        assert isinstance(await result(tx.lock(Vehicle, 1)), Car)
        assert locked(holder, "ks_vehicle", "id") == [(1,)]
        assert locked(holder, "ks_car", "number") == []

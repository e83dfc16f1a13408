"""The tables of the release tests: one row of each kind that a recheck must be able to compare."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any, ClassVar

from sqlalchemy import CHAR, JSON, ForeignKey, Numeric, Text, TypeDecorator, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Answers(list[bool]):
    """What arrays answer to `==`: one answer for each element, and none as a whole."""

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array with more than one element is ambiguous.")

    def all(self) -> bool:
        return False not in self


class Vector:
    """Compares as numpy's arrays do, and so pgvector's."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = numbers

    def _each(self, other: object, compare: Callable[[Any, Any], bool]) -> Answers:
        others = other.numbers if isinstance(other, Vector) else [other] * len(self.numbers)
        return Answers(compare(*pair) for pair in zip(self.numbers, others, strict=True))

    def __eq__(self, other: object) -> Answers:  # type: ignore[override]
        return self._each(other, lambda one, two: one == two)

    def __ne__(self, other: object) -> Answers:  # type: ignore[override]
        return self._each(other, lambda one, two: one != two)

    __hash__ = None  # type: ignore[assignment]


class VectorText(TypeDecorator[Vector]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Vector | None, dialect: Any) -> str | None:
        return None if value is None else ",".join(map(str, value.numbers))

    def process_result_value(self, value: str | None, dialect: Any) -> Vector | None:
        return None if value is None else Vector(*map(float, value.split(",")))


class Account(Base):
    __tablename__ = "pool_account"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(default=0)
    note: Mapped[str | None]
    memo: Mapped[str | None] = mapped_column("memo_text", deferred=True)
    entries: Mapped[list[Entry]] = relationship(back_populates="account")


class Entry(Base):
    __tablename__ = "pool_entry"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[int] = mapped_column(ForeignKey("pool_account.id"))
    account: Mapped[Account] = relationship(back_populates="entries")


class Versioned(Base):
    __tablename__ = "pool_versioned"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


class Seat(Base):
    """A composite key, in another order than the columns."""

    __tablename__ = "pool_seat"

    row: Mapped[str] = mapped_column("seat_row", primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    guest: Mapped[str | None]


class Person(Base):
    __tablename__ = "pool_person"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    count: Mapped[int] = mapped_column(default=0)
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Employee(Person):
    """Joined inheritance: `count` is in the parent's table, `salary` in its own."""

    __tablename__ = "pool_employee"

    id: Mapped[int] = mapped_column(ForeignKey("pool_person.id"), primary_key=True)
    salary: Mapped[int] = mapped_column(default=0)
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "employee"}


class Boss(Person):
    """Single-table inheritance."""

    car: Mapped[str | None]
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "boss"}


class Oddity(Base):
    """Values that are not simply equal or unequal."""

    __tablename__ = "pool_oddity"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[decimal.Decimal | None] = mapped_column(Numeric(10, 2))
    ratio: Mapped[float | None]
    at: Mapped[datetime.datetime | None]
    data: Mapped[dict[str, int] | None] = mapped_column(JSON)
    blob: Mapped[bytes | None]
    vector: Mapped[Any] = mapped_column(VectorText, nullable=True)
    code: Mapped[str | None] = mapped_column(CHAR(5))


ROWS = """
    TRUNCATE pool_account, pool_entry, pool_versioned, pool_seat, pool_person, pool_employee,
             pool_oddity;
    INSERT INTO pool_account (id, balance, note, memo_text)
        SELECT n, 100, 'note', 'memo' FROM generate_series(1, 3) n;
    INSERT INTO pool_entry (id, account_id) VALUES (11, 1), (12, 1);
    INSERT INTO pool_versioned (id, value, version) SELECT n, 0, 1 FROM generate_series(1, 3) n;
    INSERT INTO pool_seat (seat_row, number, guest) VALUES ('A', 1, 'ann'), ('A', 2, NULL),
        ('B', 1, 'bob');
    INSERT INTO pool_person (id, kind, count, car) VALUES (1, 'employee', 0, NULL),
        (2, 'boss', 0, 'red'), (3, 'person', 0, NULL);
    INSERT INTO pool_employee (id, salary) VALUES (1, 10);
    INSERT INTO pool_oddity (id, number, ratio, at, data, blob, vector) VALUES
        (1, 1.50, 'NaN', '2026-01-02 03:04:05.678901', '{"a": 1}', 'x', '1,2'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL);
"""
FUNCTION = """
    CREATE OR REPLACE FUNCTION pool_spend(key integer) RETURNS integer LANGUAGE sql AS
    'UPDATE pool_account SET balance = balance - 1 WHERE id = key RETURNING balance'
"""


def create_tables(url: str) -> None:
    """Make the tables anew, with a sync driver."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(FUNCTION))
    engine.dispose()

"""Tables with every kind of key."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal

from sqlalchemy import CHAR, Column, DateTime, ForeignKey, Numeric, String, Table, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    # Declared against the alphabet: the server sorts by declaration.
    RED = "r"
    BLUE = "b"


class Account(Base):
    __tablename__ = "lock_account"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(default="")
    balance: Mapped[int] = mapped_column(default=0)


class Entry(Base):
    """A child of accounts."""

    __tablename__ = "lock_entry"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[int] = mapped_column(ForeignKey("lock_account.id"))
    account: Mapped[Account] = relationship()


class Pledge(Base):
    """COMMIT checks its foreign key."""

    __tablename__ = "lock_pledge"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[int] = mapped_column(
        ForeignKey("lock_account.id", deferrable=True, initially="DEFERRED")
    )


class ByUuid(Base):
    __tablename__ = "lock_by_uuid"

    key: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class ByText(Base):
    __tablename__ = "lock_by_text"

    key: Mapped[str] = mapped_column(String(3), primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class ByChar(Base):
    __tablename__ = "lock_by_char"

    key: Mapped[str] = mapped_column(CHAR(4), primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class ByDecimal(Base):
    __tablename__ = "lock_by_decimal"

    # SQLAlchemy 2.0 would make it a SERIAL.
    key: Mapped[Decimal] = mapped_column(Numeric(8, 2), primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(default=0)


class ByTime(Base):
    __tablename__ = "lock_by_time"

    key: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class ByEnum(Base):
    __tablename__ = "lock_by_enum"

    key: Mapped[Colour] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class ByTwo(Base):
    __tablename__ = "lock_by_two"

    left: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    right: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class Person(Base):
    __tablename__ = "lock_person"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column()

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012


class Engineer(Person):
    __tablename__ = "lock_engineer"

    id: Mapped[int] = mapped_column(ForeignKey("lock_person.id"), primary_key=True)
    n: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"polymorphic_identity": "engineer"}  # noqa: RUF012


class Chief(Person):
    """In the table of persons."""

    __mapper_args__ = {"polymorphic_identity": "chief"}  # noqa: RUF012


class Beast(Base):
    """Its queries load the sub-classes' columns along."""

    __tablename__ = "lock_beast"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column()

    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "beast",
        "with_polymorphic": "*",
    }


class Cat(Beast):
    __tablename__ = "lock_cat"

    id: Mapped[int] = mapped_column(ForeignKey("lock_beast.id"), primary_key=True)
    lives: Mapped[int] = mapped_column(default=9)

    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012


class Label(Base):
    __tablename__ = "lock_label"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Shelf(Base):
    """Its boxes don't know of it as an object."""

    __tablename__ = "lock_shelf"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(default=0)
    boxes: Mapped[list[Box]] = relationship()
    labels: Mapped[list[Label]] = relationship(secondary="lock_shelf_label")


class Box(Base):
    __tablename__ = "lock_box"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("lock_shelf.id"))
    things: Mapped[list[Thing]] = relationship(cascade="all, delete-orphan")


class Thing(Base):
    __tablename__ = "lock_thing"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    box_id: Mapped[int] = mapped_column(ForeignKey("lock_box.id"))
    n: Mapped[int] = mapped_column(default=0)


Table(
    "lock_shelf_label",
    Base.metadata,
    Column("shelf_id", ForeignKey("lock_shelf.id"), primary_key=True),
    Column("label_id", ForeignKey("lock_label.id"), primary_key=True),
)

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
#: Some keys of each class, not sorted.
KEYS: dict[type[Base], list[object]] = {
    Account: [3, -7, 0, 12],
    ByUuid: [uuid.UUID(int=number << 64) for number in (9, 1, 1 << 60)],
    ByText: ["b", "A", "a", "B", "é"],
    ByChar: ["ab", "AB", "zz"],
    ByDecimal: [Decimal("1.5"), Decimal("-2"), Decimal("10.25")],
    ByTime: [
        NOON,
        NOON - dt.timedelta(days=1),
        NOON.astimezone(dt.timezone(dt.timedelta(hours=9))) + dt.timedelta(microseconds=1),
    ],
    ByEnum: [Colour.RED, Colour.BLUE],
    ByTwo: [(2, "a"), (1, "b"), (1, "B")],
    Engineer: [5, 2, 8],
}


def made(entity: type[Base], key: object) -> Base:
    """A new object with this key."""
    if entity is ByTwo:
        assert isinstance(key, tuple)
        return ByTwo(left=key[0], right=key[1])
    name = "id" if entity in (Account, Engineer) else "key"
    return entity(**{name: key})


def create_tables(url: str) -> None:
    """Make them, and rows for all keys."""
    engine = create_engine(url)
    try:
        Base.metadata.create_all(engine)
    finally:
        engine.dispose()

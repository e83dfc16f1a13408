"""Tables for bulk statements: parents, children that go or stay, unique columns, inheritance."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


def key() -> Mapped[int]:
    return mapped_column(primary_key=True, autoincrement=False)


class House(Base):
    __tablename__ = "write_house"

    id: Mapped[int] = key()
    name: Mapped[str] = mapped_column(String(20), default="")
    code: Mapped[str | None] = mapped_column(unique=True)


#: The house of whatever is inserted without one.
OWNER = 3


class Owned(Base):
    """Its house is found by a function; the column has another name than the attribute."""

    __tablename__ = "write_owned"

    id: Mapped[int] = key()
    house_id: Mapped[int] = mapped_column(
        "house", ForeignKey("write_house.id", ondelete="CASCADE"), default=lambda: OWNER
    )


class Room(Base):
    """Goes with its house."""

    __tablename__ = "write_room"

    id: Mapped[int] = key()
    house_id: Mapped[int] = mapped_column(ForeignKey("write_house.id", ondelete="CASCADE"))
    size: Mapped[int] = mapped_column(default=0)


class Lamp(Base):
    """Stays without a room."""

    __tablename__ = "write_lamp"

    id: Mapped[int] = key()
    room_id: Mapped[int | None] = mapped_column(ForeignKey("write_room.id", ondelete="SET NULL"))
    # The attribute has another name than the column.
    watts: Mapped[int] = mapped_column("power", default=0)


class Part(Base):
    """Key of two columns, one a text."""

    __tablename__ = "write_part"

    maker: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = key()
    stock: Mapped[int] = mapped_column(default=0)


class Word(Base):
    """Its key comes from the database, and it is known by something else."""

    __tablename__ = "write_word"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column()
    lang: Mapped[str] = mapped_column(default="en")
    count: Mapped[int] = mapped_column(default=0)

    __table_args__ = (
        UniqueConstraint("text", "lang", name="write_word_text"),
        Index("write_word_count", "count"),
    )


class Person(Base):
    __tablename__ = "write_person"

    id: Mapped[int] = key()
    kind: Mapped[str] = mapped_column()
    name: Mapped[str] = mapped_column(default="")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012


class Boss(Person):
    """In the table of persons."""

    __mapper_args__ = {"polymorphic_identity": "boss"}  # noqa: RUF012


class Worker(Person):
    """With a table of its own."""

    __tablename__ = "write_worker"

    id: Mapped[int] = mapped_column(ForeignKey("write_person.id"), primary_key=True)
    pay: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"polymorphic_identity": "worker"}  # noqa: RUF012


class Tag(Base):
    """Unique by an expression, and by a number that may be none."""

    __tablename__ = "write_tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column()
    weight: Mapped[float | None] = mapped_column(unique=True)

    __table_args__ = (Index("write_tag_label", func.lower(label.column), unique=True),)


class Sign(Base):
    __tablename__ = "write_sign"

    id: Mapped[int] = key()
    code: Mapped[str] = mapped_column(unique=True)


class Arrow(Base):
    """Goes with its sign, which it knows by something else than its key."""

    __tablename__ = "write_arrow"

    id: Mapped[int] = key()
    code: Mapped[str] = mapped_column(
        ForeignKey("write_sign.code", ondelete="CASCADE", onupdate="CASCADE")
    )


#: Without a primary key.
notes = Table(
    "write_note",
    Base.metadata,
    Column("word_id", Integer, ForeignKey("write_word.id")),
    Column("text", String, nullable=False),
)

TABLES = [table for table in Base.metadata.sorted_tables if table.primary_key]
# Rooms lie in the table from the last to the first.
RESET = f"""
    TRUNCATE {", ".join(Base.metadata.tables)} RESTART IDENTITY;
    INSERT INTO write_house VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', NULL);
    INSERT INTO write_room SELECT n, 1 + n % 2, n * 10 FROM generate_series(9, 1, -1) n;
    INSERT INTO write_lamp SELECT n, n, 40 FROM generate_series(9, 1, -1) n;
    INSERT INTO write_part VALUES ('b', 2, 5), ('B', 2, 5), ('b', 1, 5), ('B', 1, 5);
    INSERT INTO write_word (text, lang, count)
        VALUES ('sun', 'en', 0), ('moon', 'en', 0), ('star', 'en', 0);
    INSERT INTO write_person VALUES (1, 'person', ''), (2, 'boss', ''), (3, 'worker', '');
    INSERT INTO write_worker VALUES (3, 100);
    INSERT INTO write_tag (label, weight) VALUES ('Old', 1), ('new', NULL);
    INSERT INTO write_sign SELECT n, 'c' || n FROM generate_series(1, 3) n;
    INSERT INTO write_arrow SELECT n, 'c' || n FROM generate_series(1, 3) n;
    INSERT INTO write_owned SELECT n, 1 FROM generate_series(1, 3) n;
    INSERT INTO write_note VALUES (1, 'a'), (NULL, 'a'), (2, 'b'), (1, 'b');
"""


def create_tables(url: str) -> None:
    """Make the tables anew, with a sync driver."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()

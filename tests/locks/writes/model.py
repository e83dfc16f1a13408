"""Tables for bulk statements: parents, children that go or stay, unique columns, inheritance."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    func,
    text,
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


class Area(Base):
    __tablename__ = "write_area"

    row: Mapped[int] = key()
    place: Mapped[int] = key()


class Shop(Base):
    """In an area that two of its columns name, which may be set one by one."""

    __tablename__ = "write_shop"

    id: Mapped[int] = key()
    row: Mapped[int | None] = mapped_column()
    place: Mapped[int | None] = mapped_column()
    code: Mapped[str | None] = mapped_column(unique=True)
    size: Mapped[int] = mapped_column(default=0)

    __table_args__ = (
        ForeignKeyConstraint(["row", "place"], ["write_area.row", "write_area.place"]),
    )


class Stall(Base):
    """Its key is part of its foreign key."""

    __tablename__ = "write_stall"

    row: Mapped[int] = key()
    number: Mapped[int] = key()
    place: Mapped[int | None] = mapped_column()
    size: Mapped[int] = mapped_column(default=0)

    __table_args__ = (
        ForeignKeyConstraint(["row", "place"], ["write_area.row", "write_area.place"]),
    )


class Guest(Base):
    """Its house is checked at COMMIT."""

    __tablename__ = "write_guest"

    id: Mapped[int] = key()
    house_id: Mapped[int | None] = mapped_column(
        ForeignKey("write_house.id", deferrable=True, initially="DEFERRED")
    )


class Node(Base):
    """Refers to others of its kind."""

    __tablename__ = "write_node"

    id: Mapped[int] = key()
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("write_node.id"))
    size: Mapped[int] = mapped_column(default=0)


class Label(Base):
    """Unique among those that are in use."""

    __tablename__ = "write_label"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    word: Mapped[str] = mapped_column()
    in_use: Mapped[bool] = mapped_column()
    count: Mapped[int] = mapped_column(default=0)

    __table_args__ = (
        Index("write_label_word", "word", unique=True, postgresql_where=text("in_use")),
    )


class Mail(Base):
    """Unique by a generated column."""

    __tablename__ = "write_mail"

    id: Mapped[int] = key()
    address: Mapped[str] = mapped_column()
    plain: Mapped[str] = mapped_column(Computed("lower(address)", persisted=True), unique=True)
    size: Mapped[int] = mapped_column(default=0)


class Copy(Base):
    """Its house is a generated column."""

    __tablename__ = "write_copy"

    id: Mapped[int] = key()
    base: Mapped[int] = mapped_column()
    house_id: Mapped[int] = mapped_column(
        Computed("base + 0", persisted=True), ForeignKey("write_house.id")
    )
    size: Mapped[int] = mapped_column(default=0)


class Album(Base):
    __tablename__ = "write_album"

    id: Mapped[int] = key()


class Track(Base):
    """Its key changes with that of its album."""

    __tablename__ = "write_track"

    album_id: Mapped[int] = mapped_column(
        ForeignKey("write_album.id", onupdate="CASCADE"), primary_key=True
    )
    number: Mapped[int] = key()
    house_id: Mapped[int | None] = mapped_column(ForeignKey("write_house.id"))
    size: Mapped[int] = mapped_column(default=0)


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
    INSERT INTO write_area SELECT r, p FROM generate_series(1, 4) r, generate_series(1, 4) p;
    INSERT INTO write_shop SELECT n, n, 1, 's' || n, 0 FROM generate_series(1, 3) n;
    INSERT INTO write_stall SELECT n, n, 1, 0 FROM generate_series(1, 3) n;
    INSERT INTO write_node SELECT n, CASE n WHEN 3 THEN 1 END, 0 FROM generate_series(1, 5) n;
    INSERT INTO write_label (word, in_use, count) VALUES ('a', false, 0), ('b', true, 0);
    INSERT INTO write_album SELECT n FROM generate_series(1, 3) n;
    INSERT INTO write_track VALUES (1, 1, NULL, 0), (1, 2, NULL, 0), (2, 1, NULL, 0);
    INSERT INTO write_mail (id, address, size) SELECT n, 'M' || n, 0 FROM generate_series(1, 3) n;
"""


def create_tables(url: str) -> None:
    """Make the tables anew, with a sync driver."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()

"""The tables of the footprint tests: each way in which a flush comes to lock a row."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    Column,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Elsewhere(DeclarativeBase):
    """With a MetaData of its own."""


def key() -> Any:
    return mapped_column(primary_key=True, autoincrement=False)


class Country(Base):
    __tablename__ = "fp_country"
    id: Mapped[int] = key()
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str | None]
    nickname: Mapped[str | None]
    motto: Mapped[str | None]
    cities: Mapped[list[City]] = relationship(
        back_populates="country", foreign_keys="City.country_id"
    )
    __table_args__ = (
        Index("fp_partial", "nickname", unique=True, postgresql_where=text("nickname > 'm'")),
        Index("fp_expression", text("lower(motto)"), unique=True),
    )


class City(Base):
    __tablename__ = "fp_city"
    id: Mapped[int] = key()
    name: Mapped[str | None]
    country_id: Mapped[int | None] = mapped_column(ForeignKey("fp_country.id"))
    country_code: Mapped[str | None] = mapped_column(
        ForeignKey("fp_country.code", onupdate="CASCADE")
    )
    country: Mapped[Country | None] = relationship(
        back_populates="cities", foreign_keys=[country_id]
    )


class Node(Base):
    __tablename__ = "fp_node"
    id: Mapped[int] = key()
    name: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("fp_node.id"))
    children: Mapped[list[Node]] = relationship(back_populates="parent")
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side=[id])


class Person(Base):
    __tablename__ = "fp_person"
    id: Mapped[int] = key()
    kind: Mapped[str]
    name: Mapped[str | None]
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "person",
        "version_id_col": version,
    }


class Employee(Person):
    __tablename__ = "fp_employee"
    person_id: Mapped[int] = mapped_column(ForeignKey("fp_person.id"), primary_key=True)
    salary: Mapped[int] = mapped_column(default=0)
    city_id: Mapped[int | None] = mapped_column(ForeignKey("fp_city.id"))
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "employee"}


class Boss(Person):
    car: Mapped[str | None]
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "boss"}


class Order(Base):
    __tablename__ = "fp_order"
    id: Mapped[int] = key()
    note: Mapped[str | None]
    lines: Mapped[list[Line]] = relationship(back_populates="order", cascade="all, delete-orphan")


class Line(Base):
    __tablename__ = "fp_line"
    order_id: Mapped[int] = mapped_column(ForeignKey("fp_order.id"), primary_key=True)
    number: Mapped[int] = key()
    amount: Mapped[int] = mapped_column(default=0)
    order: Mapped[Order] = relationship(back_populates="lines")


class Album(Base):
    """Its photos are the database's affair."""

    __tablename__ = "fp_album"
    id: Mapped[int] = key()
    name: Mapped[str | None]
    photos: Mapped[list[Photo]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Photo(Base):
    __tablename__ = "fp_photo"
    id: Mapped[int] = key()
    album_id: Mapped[int] = mapped_column(ForeignKey("fp_album.id", ondelete="CASCADE"))


class Remark(Base):
    """Each may answer another one, and all end with their photo."""

    __tablename__ = "fp_remark"
    id: Mapped[int] = key()
    photo_id: Mapped[int | None] = mapped_column(ForeignKey("fp_photo.id", ondelete="CASCADE"))
    answers_id: Mapped[int | None] = mapped_column(ForeignKey("fp_remark.id", ondelete="CASCADE"))
    cover_of_id: Mapped[int | None] = mapped_column(
        ForeignKey("fp_album.id", ondelete="SET NULL"), unique=True
    )


class Widget(Base):
    __tablename__ = "fp_widget"
    id: Mapped[int] = key()
    name: Mapped[str | None]
    country_id: Mapped[int | None] = mapped_column(ForeignKey("fp_country.id"))
    favourite_id: Mapped[int | None] = mapped_column(
        ForeignKey("fp_entry.id", name="fp_favourite", use_alter=True)
    )
    entries: Mapped[list[Entry]] = relationship(foreign_keys="Entry.widget_id")
    favourite: Mapped[Entry | None] = relationship(foreign_keys=[favourite_id], post_update=True)


class Entry(Base):
    __tablename__ = "fp_entry"
    id: Mapped[int] = key()
    widget_id: Mapped[int | None] = mapped_column(ForeignKey("fp_widget.id"))


class Currency(Base):
    """Its key changes, and the database carries that on."""

    __tablename__ = "fp_currency"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    prices: Mapped[list[Price]] = relationship(back_populates="currency", passive_updates=True)


class Price(Base):
    __tablename__ = "fp_price"
    id: Mapped[int] = key()
    amount: Mapped[int] = mapped_column(default=0)
    currency_code: Mapped[str | None] = mapped_column(
        ForeignKey("fp_currency.code", onupdate="CASCADE")
    )
    currency: Mapped[Currency | None] = relationship(back_populates="prices")


class Seat(Base):
    """A composite key, and a child that refers to it in another order."""

    __tablename__ = "fp_seat"
    row: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = key()
    guest: Mapped[str | None]
    stamp: Mapped[str | None] = mapped_column(onupdate="now")


class Ticket(Base):
    __tablename__ = "fp_ticket"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None]
    row: Mapped[str | None]
    serial: Mapped[str | None] = mapped_column(unique=True, onupdate="changes")
    __table_args__ = (
        ForeignKeyConstraint(
            ["number", "row"],
            ["fp_seat.number", "fp_seat.row"],
            deferrable=True,
            initially="DEFERRED",
        ),
    )


article_tag = Table(
    "fp_article_tag",
    Base.metadata,
    Column("tag_id", ForeignKey("fp_tag.id"), primary_key=True),
    Column("article_id", ForeignKey("fp_article.id"), primary_key=True),
)
article_topic = Table(
    "fp_article_topic",
    Base.metadata,
    Column("id", ForeignKey("fp_article.id")),
    Column("topic_id", ForeignKey("fp_tag.id")),
    Column("row_id", Integer, primary_key=True),
)
related = Table(
    "fp_related",
    Base.metadata,
    Column("left_id", ForeignKey("fp_article.id"), primary_key=True),
    Column("right_id", ForeignKey("fp_article.id"), primary_key=True),
)


class Article(Base):
    __tablename__ = "fp_article"
    id: Mapped[int] = key()
    name: Mapped[str | None]
    tags: Mapped[list[Tag]] = relationship(secondary=article_tag, back_populates="articles")
    topics: Mapped[list[Tag]] = relationship(secondary=article_topic)
    related: Mapped[list[Article]] = relationship(
        secondary=related,
        primaryjoin=id == related.c.left_id,
        secondaryjoin=id == related.c.right_id,
    )


class Tag(Base):
    __tablename__ = "fp_tag"
    id: Mapped[int] = key()
    name: Mapped[str | None]
    articles: Mapped[list[Article]] = relationship(secondary=article_tag, back_populates="tags")


class Pin(Base):
    """Nobody refers to it; what it refers to is written after it, and taken back before it ends."""

    __tablename__ = "fp_pin"
    id: Mapped[int] = key()
    tag_id: Mapped[int | None] = mapped_column(ForeignKey("fp_tag.id"))
    tag: Mapped[Tag | None] = relationship(post_update=True)


class Shelf(Base):
    __tablename__ = "fp_shelf"
    id: Mapped[int] = key()
    name: Mapped[str] = mapped_column(unique=True)


class Book(Base):
    """Back to the first shelf when its own is gone."""

    __tablename__ = "fp_book"
    id: Mapped[int] = key()
    shelf_id: Mapped[int] = mapped_column(
        ForeignKey("fp_shelf.id", ondelete="SET DEFAULT"), server_default=text("1")
    )


class Globe(Base):
    """The same, by the name of the shelf."""

    __tablename__ = "fp_globe"
    id: Mapped[int] = key()
    shelf_name: Mapped[str] = mapped_column(
        ForeignKey("fp_shelf.name", onupdate="SET DEFAULT", ondelete="CASCADE"),
        server_default="it's the first",
    )


class Label(Elsewhere):
    __tablename__ = "fp_label"
    id: Mapped[int] = key()
    shelf_id: Mapped[int] = mapped_column(ForeignKey(Shelf.id, ondelete="CASCADE"))


class Coat(Base):
    """Stays in its row without the seat: of its foreign key only the number goes."""

    __tablename__ = "fp_coat"
    id: Mapped[int] = key()
    row: Mapped[str] = mapped_column(unique=True)
    number: Mapped[int | None]
    __table_args__ = (
        ForeignKeyConstraint(
            ["row", "number"], ["fp_seat.row", "fp_seat.number"], ondelete="SET NULL (number)"
        ),
    )


class Boat(Base):
    """Three classes that refer to each other in a circle."""

    __tablename__ = "fp_boat"
    id: Mapped[int] = key()
    name: Mapped[str | None]
    sailor_id: Mapped[int | None] = mapped_column(ForeignKey("fp_sailor.id"))
    sailor: Mapped[Sailor | None] = relationship()


class Sailor(Base):
    __tablename__ = "fp_sailor"
    id: Mapped[int] = key()
    port_id: Mapped[int | None] = mapped_column(ForeignKey("fp_port.id"))
    port: Mapped[Port | None] = relationship()


class Port(Base):
    __tablename__ = "fp_port"
    id: Mapped[int] = key()
    boat_id: Mapped[int | None] = mapped_column(
        ForeignKey("fp_boat.id", name="fp_port_boat", use_alter=True)
    )
    boat: Mapped[Boat | None] = relationship()


class Gauge(Base):
    """Children know it by a column that the database computes."""

    __tablename__ = "fp_gauge"
    id: Mapped[int] = key()
    email: Mapped[str]
    address: Mapped[str] = mapped_column(Computed("lower(email)", persisted=True), unique=True)


class Needle(Base):
    __tablename__ = "fp_needle"
    id: Mapped[int] = key()
    address: Mapped[str] = mapped_column(ForeignKey("fp_gauge.address", onupdate="CASCADE"))


class Plate(Base):
    """Unique columns, however their indexes are written."""

    __tablename__ = "fp_plate"
    id: Mapped[int] = key()
    front: Mapped[str]
    back: Mapped[str]
    side: Mapped[str] = mapped_column()
    shout: Mapped[str]
    __table_args__ = (
        Index("fp_plate_front", text("front DESC NULLS LAST"), unique=True),
        Index("fp_plate_back", text('"back"'), unique=True),
        Index("fp_plate_side", side.column.collate("C"), unique=True),
        Index("fp_plate_shout", text("upper(shout)"), unique=True),
    )


cards = Table(
    "fp_card",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("front", String),
    Column("back", String),
    Column("shelf_id", ForeignKey("fp_shelf.id")),
)


class Card(Base):
    """A table of two mappers."""

    __table__ = cards
    __mapper_args__ = {"include_properties": ["id", "front"]}  # noqa: RUF012


class BackOfCard(Base):
    __table__ = cards
    __mapper_args__ = {"include_properties": ["id", "back"]}  # noqa: RUF012


class Ring(Base):
    """Belongs to up to two shelves, either of which may go."""

    __tablename__ = "fp_ring"
    id: Mapped[int] = key()
    size: Mapped[int | None]
    left_id: Mapped[int | None] = mapped_column(ForeignKey("fp_shelf.id", ondelete="SET NULL"))
    right_id: Mapped[int | None] = mapped_column(ForeignKey("fp_shelf.id", ondelete="SET NULL"))
    gauge_id: Mapped[int] = mapped_column(ForeignKey("fp_gauge.id"))


TABLES = [*Base.metadata.tables.values(), *Elsewhere.metadata.tables.values()]
ROWS = """
    INSERT INTO fp_country (id, code, name) VALUES (1, 'a', 'A'), (2, 'b', 'B'), (3, 'c', 'C');
    INSERT INTO fp_city (id, country_id, country_code) VALUES (11, 1, 'a'), (12, 1, NULL),
        (13, NULL, NULL), (14, 2, 'b');
    INSERT INTO fp_node (id, parent_id) VALUES (1, NULL), (2, 1), (3, 1), (4, 2), (5, NULL);
    INSERT INTO fp_person (id, kind, version, car) VALUES (1, 'employee', 1, NULL),
        (2, 'boss', 1, 'red'), (3, 'employee', 1, NULL);
    INSERT INTO fp_employee (person_id, salary, city_id) VALUES (1, 10, 11), (3, 10, NULL);
    INSERT INTO fp_order (id) VALUES (1), (2);
    INSERT INTO fp_line (order_id, number, amount) VALUES (1, 1, 1), (1, 2, 1), (2, 1, 1);
    INSERT INTO fp_album (id) VALUES (1), (2);
    INSERT INTO fp_photo (id, album_id) VALUES (11, 1), (12, 1), (21, 2);
    INSERT INTO fp_remark (id, photo_id, answers_id, cover_of_id) VALUES (1, 11, NULL, NULL),
        (2, NULL, 1, NULL), (3, NULL, 2, NULL), (4, 21, NULL, 1), (5, NULL, NULL, 2);
    INSERT INTO fp_widget (id, country_id) VALUES (1, 1), (2, 2);
    INSERT INTO fp_entry (id, widget_id) VALUES (1, 1), (2, 1), (3, 2);
    UPDATE fp_widget SET favourite_id = 1 WHERE id = 1;
    INSERT INTO fp_currency (code) VALUES ('EUR'), ('USD');
    INSERT INTO fp_price (id, amount, currency_code) VALUES (1, 5, 'EUR'), (2, 6, 'EUR');
    INSERT INTO fp_seat (row, number) VALUES ('A', 1), ('A', 2), ('B', 1);
    INSERT INTO fp_ticket (id, number, row) VALUES (1, 1, 'A');
    INSERT INTO fp_article (id) VALUES (1), (2), (3);
    INSERT INTO fp_tag (id) VALUES (1), (2), (3);
    INSERT INTO fp_pin (id, tag_id) VALUES (1, 2);
    INSERT INTO fp_article_tag (article_id, tag_id) VALUES (1, 1), (1, 2), (2, 1);
    INSERT INTO fp_article_topic (id, topic_id, row_id) VALUES (1, 1, 71), (1, 2, 72), (2, 1, 73);
    INSERT INTO fp_related (left_id, right_id) VALUES (1, 2), (2, 1);
    INSERT INTO fp_shelf (id, name) VALUES (1, 'it''s the first'), (2, 'second'), (3, 'third');
    INSERT INTO fp_book (id, shelf_id) VALUES (1, 2), (2, 3);
    INSERT INTO fp_globe (id, shelf_name) VALUES (1, 'second'), (2, 'third');
    INSERT INTO fp_label (id, shelf_id) VALUES (1, 2), (2, 3);
    INSERT INTO fp_coat (id, row, number) VALUES (1, 'B', 1), (2, 'A', 2);
    INSERT INTO fp_boat (id) VALUES (1), (2);
    INSERT INTO fp_gauge (id, email) VALUES (1, 'A@x'), (2, 'B@x');
    INSERT INTO fp_needle (id, address) VALUES (1, 'a@x'), (2, 'b@x');
    INSERT INTO fp_plate (id, front, back, side, shout)
        SELECT n, 'f' || n, 'b' || n, 's' || n, 'x' || n FROM generate_series(1, 4) n;
    INSERT INTO fp_shelf (id, name) VALUES (4, 'fourth'), (5, 'fifth');
    INSERT INTO fp_card (id, shelf_id) VALUES (1, 1), (2, 1);
    INSERT INTO fp_ring (id, left_id, right_id, gauge_id) VALUES (1, 4, 4, 1), (2, 5, NULL, 2);
"""

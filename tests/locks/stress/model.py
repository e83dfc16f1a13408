"""The tables of the stress: every way in which one row leads to another, and few rows of each."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Column, ForeignKey, Table, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

OWNERS, ITEMS, NOTES, TAGS, ACCOUNTS, NODES, WORDS = 6, 14, 8, 4, 6, 5, "abcdef"


class Base(DeclarativeBase):
    pass


def key() -> Any:
    return mapped_column(primary_key=True, autoincrement=False)


class Account(Base):
    """The sum of all balances stays as it is."""

    __tablename__ = "stress_account"
    id: Mapped[int] = key()
    balance: Mapped[int] = mapped_column(default=100)


class Purse(Base):
    """Read, then written; its version says when that was too late."""

    __tablename__ = "stress_purse"
    id: Mapped[int] = key()
    n: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


class Word(Base):
    """Counted by upserts."""

    __tablename__ = "stress_word"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    count: Mapped[int] = mapped_column(default=0)


class Owner(Base):
    """`size` is the number of its items."""

    __tablename__ = "stress_owner"
    id: Mapped[int] = key()
    kind: Mapped[str] = mapped_column(default="owner")
    slug: Mapped[str | None] = mapped_column(unique=True)
    size: Mapped[int] = mapped_column(default=0)
    v: Mapped[int] = mapped_column(default=0)
    items: Mapped[list[Item]] = relationship(back_populates="owner", passive_deletes=True)
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "owner"}


class Firm(Owner):
    """In two tables."""

    __tablename__ = "stress_firm"
    id: Mapped[int] = mapped_column(
        ForeignKey("stress_owner.id", ondelete="CASCADE"), primary_key=True
    )
    profit: Mapped[int] = mapped_column(default=0)
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "firm"}


item_tag = Table(
    "stress_item_tag",
    Base.metadata,
    Column("item_id", ForeignKey("stress_item.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("stress_tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "stress_tag"
    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)


class Item(Base):
    """Goes with its owner, by the database."""

    __tablename__ = "stress_item"
    id: Mapped[int] = key()
    owner_id: Mapped[int] = mapped_column(ForeignKey("stress_owner.id", ondelete="CASCADE"))
    v: Mapped[int] = mapped_column(default=0)
    owner: Mapped[Owner] = relationship(back_populates="items")
    tags: Mapped[list[Tag]] = relationship(secondary=item_tag, passive_deletes=True)


class Note(Base):
    """Stays without its item."""

    __tablename__ = "stress_note"
    id: Mapped[int] = key()
    item_id: Mapped[int | None] = mapped_column(ForeignKey("stress_item.id", ondelete="SET NULL"))
    v: Mapped[int] = mapped_column(default=0)


class Node(Base):
    """A tree, which the mapper nulls and the mapper cascades."""

    __tablename__ = "stress_node"
    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("stress_node.id"))
    children: Mapped[list[Node]] = relationship(back_populates="parent")
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side=[id])


TABLES = Base.metadata.sorted_tables
RESET = f"""
    TRUNCATE {", ".join(table.name for table in TABLES)} RESTART IDENTITY;
    INSERT INTO stress_account SELECT n, 100 FROM generate_series({ACCOUNTS}, 1, -1) n;
    INSERT INTO stress_purse SELECT n, 0, 1 FROM generate_series(3, 1, -1) n;
    INSERT INTO stress_owner (id, kind, slug, size, v)
        SELECT n, CASE n % 3 WHEN 0 THEN 'firm' ELSE 'owner' END, NULL, 0, 0
        FROM generate_series({OWNERS}, 1, -1) n;
    INSERT INTO stress_firm SELECT id, 0 FROM stress_owner WHERE kind = 'firm';
    INSERT INTO stress_item SELECT n, 1 + n % {OWNERS}, 0 FROM generate_series({ITEMS}, 1, -1) n;
    UPDATE stress_owner o SET size =
        (SELECT count(*) FROM stress_item i WHERE i.owner_id = o.id);
    INSERT INTO stress_note SELECT n, n, 0 FROM generate_series({NOTES}, 1, -1) n;
    INSERT INTO stress_tag SELECT n, 0 FROM generate_series({TAGS}, 1, -1) n;
    INSERT INTO stress_node SELECT n, 0, NULL FROM generate_series({NODES}, 1, -1) n;
"""


def create_tables(url: str) -> None:
    """Make the tables anew, with a sync driver."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()

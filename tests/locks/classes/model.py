"""The tables that the classes of deadlocks are played on."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


def key() -> Mapped[int]:
    return mapped_column(primary_key=True, autoincrement=False)


class Row(Base):
    """Rows 1 to 3 lie in the table from the last to the first, among many others."""

    __tablename__ = "class_row"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)
    grp: Mapped[int] = mapped_column(default=0)


class Word(Base):
    __tablename__ = "class_word"

    text: Mapped[str] = mapped_column(primary_key=True)
    v: Mapped[int] = mapped_column(default=0)


class Parent(Base):
    __tablename__ = "class_parent"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)
    slug: Mapped[str | None] = mapped_column(unique=True)


class Child(Base):
    __tablename__ = "class_child"

    id: Mapped[int] = key()
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("class_parent.id"))
    v: Mapped[int] = mapped_column(default=0)


class Late(Base):
    """Its foreign key is checked by COMMIT."""

    __tablename__ = "class_late"

    id: Mapped[int] = key()
    parent_id: Mapped[int] = mapped_column(
        ForeignKey("class_parent.id", deferrable=True, initially="DEFERRED")
    )


class Warehouse(Base):
    __tablename__ = "class_warehouse"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)


class District(Base):
    __tablename__ = "class_district"

    id: Mapped[int] = key()
    warehouse_id: Mapped[int] = mapped_column(ForeignKey("class_warehouse.id"))
    v: Mapped[int] = mapped_column(default=0)


class Order(Base):
    __tablename__ = "class_order"

    id: Mapped[int] = key()
    warehouse_id: Mapped[int] = mapped_column(ForeignKey("class_warehouse.id"))


class Folder(Base):
    __tablename__ = "class_folder"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)
    #: The database deletes them.
    files: Mapped[list[File]] = relationship(passive_deletes="all")


class File(Base):
    __tablename__ = "class_file"

    id: Mapped[int] = key()
    folder_id: Mapped[int] = mapped_column(ForeignKey("class_folder.id", ondelete="CASCADE"))
    v: Mapped[int] = mapped_column(default=0)


class Shed(Base):
    __tablename__ = "class_shed"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)


class Tool(Base):
    """On the server its foreign key has ON DELETE CASCADE, of which the model says nothing."""

    __tablename__ = "class_tool"

    id: Mapped[int] = key()
    shed_id: Mapped[int] = mapped_column(ForeignKey("class_shed.id"))
    v: Mapped[int] = mapped_column(default=0)


class Code(Base):
    __tablename__ = "class_code"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    v: Mapped[int] = mapped_column(default=0)


class Stat(Base):
    __tablename__ = "class_stat"

    category: Mapped[str] = mapped_column(primary_key=True)
    bumps: Mapped[int] = mapped_column(default=0)


class Item(Base):
    """A trigger counts each update in `Stat`."""

    __tablename__ = "class_item"

    id: Mapped[int] = key()
    category: Mapped[str]
    v: Mapped[int] = mapped_column(default=0)


class Ccc(Base):
    __tablename__ = "class_ccc"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)


class Aaa(Base):
    __tablename__ = "class_aaa"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)
    c_id: Mapped[int | None] = mapped_column(ForeignKey("class_ccc.id"))
    c: Mapped[Ccc | None] = relationship()


class Bbb(Base):
    __tablename__ = "class_bbb"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)


class Node(Base):
    __tablename__ = "class_node"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("class_node.id"))
    parent: Mapped[Node | None] = relationship(remote_side="Node.id", back_populates="nodes")
    nodes: Mapped[list[Node]] = relationship(back_populates="parent")


reads = Table(
    "class_reads",
    Base.metadata,
    Column("reader_id", ForeignKey("class_reader.id"), primary_key=True),
    Column("title_id", ForeignKey("class_title.id"), primary_key=True),
)


class Title(Base):
    __tablename__ = "class_title"

    id: Mapped[int] = key()


class Reader(Base):
    __tablename__ = "class_reader"

    id: Mapped[int] = key()
    titles: Mapped[list[Title]] = relationship(secondary=reads)


class Team(Base):
    """Its captain is a player, and each player has a team."""

    __tablename__ = "class_team"

    id: Mapped[int] = key()
    v: Mapped[int] = mapped_column(default=0)
    captain_id: Mapped[int | None] = mapped_column(
        ForeignKey("class_player.id", name="class_captain", use_alter=True, ondelete="SET NULL")
    )
    captain: Mapped[Player | None] = relationship(foreign_keys=[captain_id])


class Player(Base):
    __tablename__ = "class_player"

    id: Mapped[int] = key()
    team_id: Mapped[int | None] = mapped_column(ForeignKey("class_team.id"))
    team: Mapped[Team | None] = relationship(foreign_keys=[team_id])


EXTRAS = """
    ALTER TABLE class_tool DROP CONSTRAINT class_tool_shed_id_fkey;
    ALTER TABLE class_tool ADD CONSTRAINT class_tool_shed_id_fkey
        FOREIGN KEY (shed_id) REFERENCES class_shed ON DELETE CASCADE;
    CREATE OR REPLACE FUNCTION class_bump() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE class_stat SET bumps = bumps + 1 WHERE category = NEW.category;
        RETURN NEW;
    END $$;
    CREATE TRIGGER class_bump BEFORE UPDATE ON class_item
        FOR EACH ROW EXECUTE FUNCTION class_bump();
"""
# Rows 1 to 3 of class_row: a scan of the table finds 3, 2, 1, the primary key 1, 2, 3.
ROWS = """
    INSERT INTO class_row (id, v, grp) SELECT n, 0, CASE WHEN n <= 3 THEN 1 ELSE 0 END
        FROM generate_series(1000, 1, -1) n;
    ANALYZE class_row;
    INSERT INTO class_word VALUES ('B', 0), ('a', 0);
    INSERT INTO class_parent VALUES (1, 0, 'a'), (2, 0, 'b'), (3, 0, NULL);
    INSERT INTO class_child VALUES (1, 1, 0), (2, 2, 0);
    INSERT INTO class_warehouse VALUES (1, 0);
    INSERT INTO class_district VALUES (1, 1, 0);
    INSERT INTO class_folder VALUES (1, 0);
    INSERT INTO class_file VALUES (1, 1, 0), (2, 1, 0), (3, 1, 0);
    INSERT INTO class_shed VALUES (1, 0);
    INSERT INTO class_tool VALUES (1, 1, 0), (2, 1, 0), (3, 1, 0);
    INSERT INTO class_code (code, v) SELECT 'old' || n, 0 FROM generate_series(3, 1, -1) n;
    INSERT INTO class_stat VALUES ('x', 0), ('y', 0);
    INSERT INTO class_item VALUES (1, 'x', 0), (2, 'y', 0), (3, 'y', 0), (4, 'x', 0);
    INSERT INTO class_ccc VALUES (1, 0);
    INSERT INTO class_aaa VALUES (1, 0, NULL);
    INSERT INTO class_bbb VALUES (1, 0);
    INSERT INTO class_node VALUES (2, 0, NULL), (1, 0, 2), (3, 0, NULL);
    INSERT INTO class_title VALUES (1), (2), (3);
    INSERT INTO class_reader VALUES (1);
    INSERT INTO class_reads VALUES (1, 1), (1, 2);
    INSERT INTO class_team VALUES (1, 0, NULL), (2, 0, NULL);
"""
# To truncate them all takes ten times as long; `Row` must lie in the order in which it is filled.
EMPTY = "; ".join(
    f"DELETE FROM {table.name}"
    for table in reversed(Base.metadata.sorted_tables)
    if table is not Row.__table__
)
RESET = f"TRUNCATE class_row; {EMPTY}; {ROWS}"


def create_tables(url: str) -> None:
    """Make the tables anew, with a sync driver."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(EXTRAS))
    engine.dispose()

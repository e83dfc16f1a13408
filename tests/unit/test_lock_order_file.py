"""The pinned lock-order file: only appended to, parents first, and a move is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from unitofwork import ConfigurationError
from unitofwork.core.locks.order_file import HEADER, missing, moved, parse, read, write
from unitofwork.core.locks.tables import Tables

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


def shop(*names: str, schema: str | None = None) -> MetaData:
    """Tables, each with a foreign key to the one before it."""
    metadata = MetaData(schema=schema)
    prefix = f"{schema}." if schema else ""
    for at, name in enumerate(names):
        parent = [ForeignKey(f"{prefix}{names[at - 1]}.id")] if at else []
        Table(name, metadata, Column("id", Integer, *parent, primary_key=True))
    return metadata


def test_a_new_file_has_parents_first(tmp_path: Path) -> None:
    """Whatever the names are: so that foreign keys lead up."""
    file = tmp_path / "locks.txt"
    assert write(file, shop("zoo", "cage", "animal")) == ["zoo", "cage", "animal"]
    assert file.read_text() == HEADER + "zoo\ncage\nanimal\n"
    assert read(file) == ("zoo", "cage", "animal")


def test_lines_that_are_there_stay_where_they_are(tmp_path: Path) -> None:
    """Comments, gaps, tables that are gone, an order of one's own; new ones come below."""
    file = tmp_path / "locks.txt"
    text = "# hot tables last\nanimal  # first of all\n\ngone\ncage"
    file.write_text(text)
    assert write(file, shop("zoo", "cage", "animal", "tooth")) == ["zoo", "tooth"]
    assert file.read_text() == text + "\nzoo\ntooth\n"
    before = file.stat().st_mtime_ns
    assert write(file, shop("zoo", "cage", "animal", "tooth")) == []
    assert file.stat().st_mtime_ns == before


def test_a_table_has_its_schema(tmp_path: Path) -> None:
    """Two schemas may have tables of one name."""
    assert missing(("a",), shop("a", "b", schema="s")) == ["s.a", "s.b"]


def test_what_is_no_comment() -> None:
    """A # inside of a name is part of it."""
    assert parse("a#1\n # b\nc #d\nmy table\n", "x") == ("a#1", "c", "my table")


def test_a_line_twice_is_refused() -> None:
    """Both places are named: the two would be two orders."""
    with pytest.raises(ConfigurationError, match=r"x lists a on line 1 and again on line 3"):
        parse("a\nb\na # again\n", "x")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error says how to make it."""
    with pytest.raises(ConfigurationError, match="locks --write"):
        read(tmp_path / "none.txt")


def test_the_file_decides_the_ranks(tmp_path: Path) -> None:
    """Pinned tables go before all others, in the order of their lines, even a child first."""
    metadata = shop("zoo", "cage", "animal")
    tables = Tables(("animal", "zoo"))
    ranked = sorted(metadata.tables.values(), key=tables.rank)
    assert [table.name for table in ranked] == ["animal", "zoo", "cage"]


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ("a b c d", []),
        ("a b c d e f", []),
        ("a c d", []),  # b is gone
        ("b a c d", ["b"]),
        ("d a b c", ["d"]),
        ("a x b c d", ["x"]),  # new, but not below the others
        ("a b c d x", []),
    ],
)
def test_what_was_moved(now: str, found: list[str]) -> None:
    """Against the version that is deployed: the tables to put back."""
    assert moved(tuple(now.split()), ("a", "b", "c", "d")) == found


@given(NAMES, NAMES)
def test_nothing_was_moved_exactly_if_both_versions_agree(now: list[str], then: list[str]) -> None:
    """Two versions agree if every pair of tables, as each ranks it, has one order."""
    both = sorted(set(now) | set(then))

    def place(version: list[str], name: str) -> tuple[int, int]:
        # What a version doesn't pin comes after what it pins.
        return (0, version.index(name)) if name in version else (1, 0)

    agree = all(
        (place(now, a) < place(now, b)) is (place(then, a) < place(then, b))
        for a in both
        for b in both
        # What the new version doesn't have, and what neither pins, it doesn't rank.
        if a in now and b in now and (a in then or b in then)
    )
    assert (moved(now, then) == []) is agree


@given(NAMES, st.randoms(use_true_random=False))
def test_growing_moves_nothing(names: list[str], choose: random.Random) -> None:
    """Whatever grows in whatever steps: each file agrees with all before it."""
    pinned: tuple[str, ...] = ()
    left = list(names)
    choose.shuffle(left)
    while left:
        present = left[: choose.randint(1, len(left))]
        del left[: len(present)]
        grown = (*pinned, *missing(pinned, shop(*pinned, *present)))
        assert moved(grown, pinned) == []
        pinned = grown

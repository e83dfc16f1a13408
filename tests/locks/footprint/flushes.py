"""Compares the footprint of a flush with the row locks that a server then has."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Engine, Select, select, text, tuple_
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from unitofwork.core.locks.covered import rows_covered
from unitofwork.core.locks.footprint import Footprint, closure, footprint, rows_of
from unitofwork.core.locks.tables import Tables, key_columns
from unitofwork.policies.locks.book import Book, Strength, stronger
from unitofwork.policies.locks.order import Resource

from .model import TABLES

Locks = dict[tuple[Any, ...], Strength]


class Flushes(Session):
    """A session that locks nothing itself, so that what its flushes lock is SQLAlchemy's doing.

    It has what the footprint asks a unit for, and keeps the book as a unit would.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, autoflush=False, expire_on_commit=False)
        self.engine = engine
        self.kept: list[object] = []
        home = SimpleNamespace(tables=Tables(), also_written=[])
        self.unit: Any = SimpleNamespace(home=home, book=Book())
        #: How many flushes were seen to be covered without a closer look.
        self.short_ways = 0

    def get_one(self, *args: Any, **kwargs: Any) -> Any:
        """As `Session.get_one`; the session keeps the object, so that a test need not."""
        self.kept.append(super().get_one(*args, **kwargs))
        return self.kept[-1]

    def foresee(self, *, names: bool = False) -> Footprint:
        """The footprint of the next flush, with all that its lookups find."""
        self.compare_the_short_way()
        found = footprint(self, names=names)
        self.lookups = len(found.lookups)
        for level in closure(self, found, self._ask):
            stronger(found.wants, level.wants)
            found.writes += level.writes
        return found

    def compare_the_short_way(self) -> None:
        """With all that was loaded locked, a flush that is seen to be covered at once is so."""
        book, self.unit.book = self.unit.book, copy.deepcopy(self.unit.book)
        for resource in rows_of(self, self.identity_map.values()):
            self.unit.book.record(resource, Strength.NO_KEY_UPDATE)
        covered = rows_covered(self)
        if covered is not None:
            self.short_ways += 1
            found = footprint(self)
            assert found.is_covered
            assert sorted(covered) == sorted(found.writes)
        self.unit.book = book

    def checked_flush(self, *, exactly: bool = True) -> Footprint:
        """Flush, and fail if the locks on the server are others than the footprint said.

        `exactly`: fail also if they are fewer.
        """
        found = self.foresee()
        self.flush()
        self.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        self.note(found)
        seen = self.locks()
        book = self.unit.book
        held = {short(one): lock.strength for one, lock in book.held.items()}
        own = {short(one) for one in book.inserted}  # which nobody else can see
        missed = {row: name(how) for row, how in seen.items() if held.get(row, 0) < how}
        surplus = {
            row: name(how) for row, how in held.items() if seen.get(row, 0) < how and row not in own
        }
        assert not missed, f"not foreseen: {missed}"
        assert not surplus or not exactly, f"not locked: {surplus}"
        return found

    def note(self, found: Footprint) -> None:
        """Keep the book."""
        book = self.unit.book
        for resource, strength in found.wants.items():
            book.record(resource, strength)
        for resource in found.writes:
            book.record_written(resource)
        for resource in (*found.inserts, *rows_of(self, found.new_objects)):
            book.record_inserted(resource)

    def start_anew(self) -> None:
        """Undo all, and forget what was loaded."""
        self.rollback()
        self.expunge_all()
        self.kept.clear()
        self.unit.book = Book()

    def locks(self) -> Locks:
        """Which rows are locked, as another connection sees it, and how strongly."""
        return locks_seen(self.engine)

    def _ask(self, statement: Any) -> Any:
        return self.execute(statement).all()


#: What a request skips, given the strength that is held.
ASKED = {
    Strength.KEY_SHARE: {"read": False, "key_share": False},  # FOR UPDATE
    Strength.SHARE: {"read": False, "key_share": True},  # FOR NO KEY UPDATE
    Strength.NO_KEY_UPDATE: {"read": True, "key_share": False},  # FOR SHARE
    Strength.UPDATE: {"read": True, "key_share": True},  # FOR KEY SHARE
}


def locks_seen(engine: Engine) -> Locks:
    """Which rows somebody else has locked: those that a request of each strength skips."""
    found: Locks = {}
    with engine.connect() as connection:
        # Requests of some strengths wait all the same, for rows that were locked in two steps.
        connection.execute(text("SET lock_timeout = '100ms'"))
        connection.commit()
        for table in TABLES:
            key = key_columns(table)
            rows = {tuple(row) for row in connection.execute(select(*key))}
            for strength, options in ASKED.items():
                free = select(*key).with_for_update(skip_locked=True, **options)
                locked = rows - _given(connection, free)
                if locked == rows:
                    one = [free.where(tuple_(*key) == row) for row in rows]
                    locked = rows.difference(*(_given(connection, each) for each in one))
                found.update({(table.name, *row): strength for row in locked})
    return found


def _given(connection: Connection, statement: Select[Any]) -> set[tuple[Any, ...]]:
    try:
        return {tuple(row) for row in connection.execute(statement)}
    except OperationalError:
        return set()
    finally:
        connection.rollback()


def name(strength: Strength) -> str:
    return strength.name


def short(resource: Resource) -> tuple[Any, ...]:
    return (resource.rank.name, *resource.key)


def wanted(found: Footprint) -> Locks:
    return {short(resource): strength for resource, strength in found.wants.items()}

"""What a transaction has locked, by the server, beside what its book says."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, text

from unitofwork.policies.locks.book import Strength

from .model import TABLES

#: A row that can't be locked so is held at least at that strength.
CONFLICTS = (
    ("UPDATE", Strength.KEY_SHARE),
    ("NO KEY UPDATE", Strength.SHARE),
    ("SHARE", Strength.NO_KEY_UPDATE),
    ("KEY SHARE", Strength.UPDATE),
)


def locked(holder: Connection) -> dict[tuple[Table, tuple[Any, ...]], Strength]:
    """The rows that other transactions have locked, with what strength."""
    found: dict[tuple[Table, tuple[Any, ...]], Strength] = {}
    for table in TABLES:
        key = ", ".join(column.name for column in table.primary_key)
        rows = {tuple(row) for row in holder.execute(text(f"SELECT {key} FROM {table.name}"))}
        for how, strength in CONFLICTS:
            query = text(f"SELECT {key} FROM {table.name} FOR {how} SKIP LOCKED")
            free = {tuple(row) for row in holder.execute(query)}
            holder.rollback()
            found.update({(table, row): strength for row in rows - free})
    return found


def check_book(tx: Any, holder: Connection) -> None:
    """The book has every lock that the server has given to the unit, and no others."""
    unit = tx.unit
    real = {
        unit.home.tables.row(table, row): strength
        for (table, row), strength in locked(holder).items()
    }
    claimed = {resource: held.strength for resource, held in unit.book.held.items()}
    unknown = {
        str(one): how
        for one, how in real.items()
        if claimed.get(one, 0) < how and not unit.book.has_passed(one, how)
    }
    assert not unknown, f"locked, and not in the book: {unknown}"
    visible = {
        unit.home.tables.row(table, tuple(row))
        for table in TABLES
        for row in holder.execute(
            text(f"SELECT {', '.join(c.name for c in table.primary_key)} FROM {table.name}")
        )
    }
    holder.rollback()
    wrong = {str(one): how for one, how in claimed.items() if one in visible and one not in real}
    assert not wrong, f"in the book, and not locked: {wrong}"

"""Before each flush: lock, in the global order, whatever it is about to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select

from ...policies.locks.book import Strength, stronger
from ...types import StaleColumn
from ..reads import ReadRow, compare, read_row, stale_read
from .acquire import acquire, connection_of, locking
from .again import locks_first
from .comparing import lock_and_compare
from .covered import rows_covered
from .declared import declared
from .footprint import Footprint, closure, footprint, rows_of
from .row_keys import row_keys

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def lock_before(tx: CoreTransaction) -> None:
    """Lock what the flush will write, and check that it is still what the unit has read.

    Raises `LateLockError`, `StaleReadError`.
    """
    unit = tx.unit
    suspects = rows_to_compare(tx)
    stale: list[StaleColumn] | None = None
    if locks_first(unit):
        # The first statement does it: what the flush may wait for is decided after it.
        connection_of(tx)
    if unit.home.rules.locks_rows:
        covered = rows_covered(tx)
        if covered is not None:
            unit.flushing = Footprint(covered)
        else:
            found = footprint(tx, names=unit.home.locking.unique_names)
            also = declared(tx)
            if also:
                stronger(found.wants, also)
                found.in_own_order = found.is_covered = False
            if suspects and not found.names:
                stale = lock_and_compare(tx, found.wants, suspects)
            # A wait that is in order may be long; after a lock query lock_timeout may be short.
            alone = found.in_own_order and not unit.waits_are_limited and not suspects
            if not alone and not found.is_covered:
                lock_footprint(tx, found)
            unit.flushing = found
    if suspects:
        if stale is None:
            stale = compare(tx, suspects)
        if stale:
            raise stale_read(tx, stale)
        checked = {id(row) for row in suspects}
        unit.rows_read = [row for row in unit.rows_read if id(row) not in checked]


def lock_footprint(tx: CoreTransaction, found: Footprint) -> None:
    """Take all of its locks; what only a query can find after the rest."""
    acquire(tx, {**found.names, **found.wants})
    # The book has those that the database returned; the others are not held.
    found.wants = {}

    def ask(statement: Select[Any]) -> list[Row[Any]]:
        with locking(tx.unit):
            return list(connection_of(tx).execute(statement))

    for level in closure(tx, found, ask):
        acquire(tx, level.wants)
        found.writes += level.writes


def note_after(tx: CoreTransaction) -> None:
    """Book what the flush has locked, written and inserted."""
    found, tx.unit.flushing = tx.unit.flushing, None
    if found is None:
        return
    book = tx.unit.book
    # flush(objects) leaves the others out.
    flushed = [one for one in found.new_objects if one not in tx.new]
    for resource, strength in found.wants.items():
        if resource in found.deletes:  # which SQLAlchemy does not insist on having found
            book.pass_by(resource, strength)
        else:
            book.record(resource, strength)
    for resource in found.writes:
        book.record_written(resource)
    for resource in (*found.inserts, *rows_of(tx, flushed)):
        book.record_inserted(resource)


def rows_to_compare(tx: CoreTransaction) -> list[ReadRow]:
    """Rows to be overwritten of which the unit holds a copy that others may have outdated.

    Those read before a release, because the comparison on return has locked nothing; with
    `guard_reads` all that were not read under a lock.
    """
    unit = tx.unit
    if not unit.rows_read and not unit.guards_reads:
        return []
    changing = {
        id(each): each for each in (*(one for one in tx.dirty if tx.is_modified(one)), *tx.deleted)
    }
    rows = [row for row in unit.rows_read if id(row.instance) in changing]
    if unit.guards_reads:
        known = {id(row.instance) for row in rows}
        others = (each for each in changing.values() if id(each) not in known)
        rows += [row for each in others if (row := read_row(each)) and not _is_held(tx, row)]
    return rows


def _is_held(tx: CoreTransaction, row: ReadRow) -> bool:
    tables, book = tx.unit.home.tables, tx.unit.book
    return all(
        one.places is not None
        and book.covers(tables.row(one.table, one.of(row.key)), Strength.SHARE)
        for one in row_keys(row.mapper)
    )

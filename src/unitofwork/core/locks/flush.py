"""Before each flush: lock, in the global order, whatever it is about to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..reads import Difference, compare, stale_read
from .acquire import connection_of, limit_waits
from .again import locks_first
from .comparing import lock_and_compare
from .covered import rows_covered
from .declared import want_declared
from .footprint import Footprint, footprint, rows_of
from .fresh import Suspects, changed_objects, note_compared, suspects_among
from .ordered import lock_found
from .raw import holds_unknown

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def lock_before(tx: CoreTransaction, is_partial: bool) -> None:
    """Lock what the flush will write, and check that it is still what the unit has read.

    `is_partial`: some objects are left for later; what is theirs is locked all the same. Raises
    `LateLockError`, `StaleReadError`.
    """
    unit = tx.unit
    compares = unit.guards_reads or bool(unit.rows_read)
    if locks_first(unit):
        # The first statement does it: what the flush may wait for is decided after it.
        connection_of(tx)
    suspects, differences = Suspects([], {}), None
    if unit.home.rules.locks_rows:
        suspects, differences = _lock(tx, compares, is_partial)
    elif compares:
        suspects = suspects_among(tx, footprint(tx).overwritten)
    if not compares:
        return
    if differences is None:
        differences = compare(tx, suspects.rows)
    stale = suspects.stale(differences)
    if stale:
        raise stale_read(tx, stale)
    note_compared(tx, suspects, differences)


def _lock(
    tx: CoreTransaction, compares: bool, is_partial: bool
) -> tuple[Suspects, list[Difference] | None]:
    """Take what is not held yet. Returns what to compare, and the answer if it came along."""
    unit = tx.unit
    covered = rows_covered(tx)
    if covered is not None:
        unit.flushing = Footprint(writes=covered)
        overwritten = changed_objects(tx) if compares else {}
        return suspects_among(tx, overwritten), None
    found = footprint(tx, names=unit.home.locking.unique_names)
    suspects = suspects_among(tx, found.overwritten if compares else {})
    differences = None
    if is_partial:
        found.inserts, found.new_objects = [], list(tx.new)
    if want_declared(tx, found) or is_partial:
        found.in_own_order = found.is_covered = False
    if suspects.rows and not found.names:
        differences = lock_and_compare(tx, found.wants, suspects.rows)
    # A wait that is in order may be long; after a lock query lock_timeout may be short.
    alone = found.in_own_order and not unit.waits_are_limited and not suspects.rows
    if not found.is_covered and not alone:
        lock_found(tx, found, found.names)
        # The book has those that the database returned; the others are in `absent`.
        found.wants = {}
    if found.is_unsure or (found.is_covered and not found.in_own_order):
        limit_waits(unit, connection_of(tx))
    unit.flushing = found
    return suspects, differences


def note_after(tx: CoreTransaction) -> None:
    """Book what the flush has locked, written and inserted."""
    found, tx.unit.flushing = tx.unit.flushing, None
    if found is None:
        return
    book = tx.unit.book
    # flush(objects) leaves the others out.
    flushed = [one for one in found.new_objects if one not in tx.new]
    place = None if found.is_covered or not found.wants else tx.unit.called_at()
    counts_rows = len(found.wants) < 2 or tx.unit.home.rules.dialect.supports_sane_multi_rowcount
    for resource, strength in found.wants.items():
        if resource in found.deletes or not counts_rows:
            # SQLAlchemy does not insist on having found it.
            book.pass_by(resource, strength)
        else:
            book.record(resource, strength, place, is_sure=False)
    for resource, strength in found.absent.items():
        book.pass_by(resource, strength)
    for resource in found.writes:
        book.record_written(resource)
    for resource in (*found.inserts, *rows_of(tx, flushed)):
        book.record_inserted(resource)
    if found.is_unsure:
        holds_unknown(tx.unit)

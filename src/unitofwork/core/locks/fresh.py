"""Objects that are as their rows are: read, compared or written under locks that still hold.

That a row is locked does not say it: it may have been read before, changed by another one, and
then locked by a statement that leaves the object alone, such as an `update()`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_state

from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from ..reads import Difference, ReadRow, learn_stored, read_row
from .intent import State
from .shapes import shape_of
from .survey import changed_attributes, stored

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def note_read(tx: CoreTransaction, instances: Iterable[Any]) -> None:
    """Objects were loaded just now: where their rows are locked, they stay as they are."""
    unit = tx.unit
    if unit.guards_reads or unit.rows_read or unit.savepoints:
        states = map(instance_state, instances)
        unit.fresh |= {state: frozenset() for state in states if _can_not_change(tx, state)}


def forget_released(tx: CoreTransaction) -> None:
    """ROLLBACK TO SAVEPOINT has let go of locks: what was read under them may be outdated.

    It is compared when it is overwritten, like what was read before a release. (Expired, it would
    be loaded by access, which async code can't await.)
    """
    fresh = tx.unit.fresh
    for state in [one for one in fresh if not _can_not_change(tx, one)]:
        del fresh[state]
        instance = state.obj()
        row = None if instance is None else read_row(tx, instance)
        if row is not None:
            tx.unit.rows_read.append(row)


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows to be overwritten of which the unit holds a copy that others may have outdated."""

    rows: list[ReadRow]
    #: Those that a statement of the unit's own has locked, and may have changed itself: with what
    #: the flush sets of them, which is all that can be lost.
    limits: dict[State, Collection[str]]

    def stale(self, differences: Iterable[Difference]) -> list[Difference]:
        """Those of the differences that the flush must not overwrite."""
        return [one for one in differences if self._matters(one)]

    def _matters(self, one: Difference) -> bool:
        limit = self.limits.get(instance_state(one.row.instance))
        is_version = one.row.mapper.version_id_col is not None  # which is all that is compared
        return limit is None or one.name is None or is_version or one.name in limit


def suspects_among(tx: CoreTransaction, overwritten: Mapping[State, Collection[str]]) -> Suspects:
    """Those read before a release, because the comparison on return has locked nothing.

    With `guard_reads` all that were not read under a lock. `overwritten`: with what is set.
    """
    unit = tx.unit
    known = {instance_state(row.instance) for row in unit.rows_read}
    rows, limits = [], {}
    for state, changed in overwritten.items():
        outdated = unit.fresh.get(state)
        if outdated is None:
            is_suspect = unit.guards_reads or state in known
        else:
            changed = outdated.intersection(changed)
            is_suspect = bool(changed)
        row = read_row(tx, state.obj()) if is_suspect else None
        if row is not None:
            rows.append(row)
            if outdated is not None or _is_locked(tx, state):
                limits[state] = changed
    return Suspects(rows, limits)


def note_compared(
    tx: CoreTransaction, suspects: Suspects, differences: Iterable[Difference]
) -> None:
    """What the flush overwrites was compared under its locks; what it inserts is one's own."""
    unit = tx.unit
    fresh: dict[State, frozenset[str]]
    fresh = {instance_state(row.instance): frozenset() for row in suspects.rows}
    for row, name, _, _ in differences:
        state = instance_state(row.instance)
        if name is not None and name in unit.fresh.get(state, row.values):
            fresh[state] |= {name}
    if unit.guards_reads:
        fresh |= {instance_state(one): frozenset() for one in tx.new}
    unit.fresh |= fresh
    unit.rows_read = [row for row in unit.rows_read if instance_state(row.instance) not in fresh]


def learn_written(tx: CoreTransaction) -> None:
    """Before a unit commits a part and goes on: what has become of the values that it wrote?"""
    unit = tx.unit
    if unit.connection is not None:
        states = (state for state in tx.identity_map.all_states() if _was_written(tx, state))
        # What was not compared with `guard_reads` on may have been outdated before it was written.
        known = (one for one in states if not unit.guards_reads or one in unit.fresh)
        rows = (read_row(tx, instance) for one in known if (instance := one.obj()) is not None)
        learn_stored(tx, [row for row in rows if row is not None])


def _was_written(tx: CoreTransaction, state: State) -> bool:
    if tx.unit.home.rules.locks_rows:
        book = tx.unit.book
        return any(map(book.has_written, _rows(tx, state)))
    transaction: Any = tx.get_transaction()  # which has no public name for it
    return state in transaction._dirty or state in transaction._new


def changed_objects(tx: CoreTransaction) -> dict[State, Collection[str]]:
    """What a flush overwrites that writes nothing but plain columns."""
    changed = {state: changed_attributes(state) for state in map(instance_state, tx.dirty)}
    return {state: attributes for state, attributes in changed.items() if attributes}


def _can_not_change(tx: CoreTransaction, state: State) -> bool:
    return tx.unit.home.rules.one_writer or _is_locked(tx, state)


def _is_locked(tx: CoreTransaction, state: State) -> bool:
    """Whether nobody else can change the row, in any of its tables."""
    book = tx.unit.book
    if not book and not book.inserted:
        return False
    rows = _rows(tx, state)
    return bool(rows) and all(book.covers(row, Strength.SHARE) for row in rows)


def _rows(tx: CoreTransaction, state: State) -> list[Resource]:
    """The row of an object in each of its tables; none if one of them can't be told."""
    if state.key is None:
        return []
    tables = tx.unit.home.tables
    parts = [(part.table, stored(state, part.key)) for part in shape_of(state.mapper).parts]
    rows = [tables.row(table, key) for table, key in parts if key is not None]
    return rows if len(rows) == len(parts) else []

"""Flushes that change nothing but rows which are locked already: they wait for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from .intent import State, has_plain_changes
from .shapes import Part, shape_of
from .survey import changed_attributes, stored

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def rows_covered(tx: CoreTransaction) -> list[Resource] | None:
    """The rows that the next flush changes, where all its locks are held; None: look closer."""
    unit = tx.unit
    if tx.new or tx.deleted or not unit.book or unit.home.also_written:
        return None
    rows: list[Resource] = []
    for state in tx._dirty_states:
        shape, changed = shape_of(state.mapper), changed_attributes(state)
        if not has_plain_changes(state) or not changed <= shape.unlinked:
            return None
        for part in shape.parts if changed else ():
            if part.has_version or not changed.isdisjoint(part.columns):
                resource = _row_covered(tx, state, part)
                if resource is None:
                    return None
                rows.append(resource)
    # Objects of two mappers may stand for one row, which then gets two UPDATEs.
    is_one_class = len({state.mapper.base_mapper for state in tx._dirty_states}) < 2
    return rows if is_one_class or len(set(rows)) == len(rows) else None


def _row_covered(tx: CoreTransaction, state: State, part: Part) -> Resource | None:
    key = stored(state, part.key)
    if key is None or part.following:
        return None
    book = tx.unit.book
    resource = tx.unit.home.tables.row(part.table, key)
    is_checked = part.outgoing and book.has_written(resource)
    return resource if not is_checked and book.covers(resource, Strength.NO_KEY_UPDATE) else None

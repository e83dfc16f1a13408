"""insert() through the session: its rows sorted by what may conflict, what they touch locked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ColumnClause, Insert, Result, Table
from sqlalchemy.orm import ORMExecuteState

from ...policies.locks.book import Wants
from ...sql.key_types import has_other_spellings
from .acquire import connection_of, limit_waits, locking
from .dml import COMPUTED, Parameters, Target, rows_inserted, value_of
from .lookups import Effect, Found, check_parent, lookups_of
from .ordered import (
    depends_on_rows,
    is_checked_again,
    lock_found,
    lookup_of,
    record,
    run,
    waits_alone,
)
from .raw import holds_unknown
from .schema import Columns, links_from
from .sorting import (
    Conflict,
    Values,
    conflict_of,
    parameter_sets,
    sort_rows,
    updates_on_conflict,
)
from .tables import key_columns, tables_of
from .unique import Claims

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def execute_insert(
    tx: CoreTransaction, state: ORMExecuteState, statement: Insert, target: Target
) -> Result[Any] | None:
    """Run the statement, its rows in order. None: their order can't be told."""
    if statement.select is not None:
        return None
    parameters = parameter_sets(state.parameters)
    ordered = sort_rows(statement, state.parameters, target)
    rows, by, conflict = ordered.rows, ordered.by, conflict_of(statement)
    if conflict is not None and by is None and len(rows) > 1:
        return None
    found = Found()
    met = set(_tables(state, target))
    inserts = _new_rows(tx, state, statement, target, rows, parameters, found)
    if inserts is None:
        return None
    claims = Claims(tx.unit.home.locking.unique_names)
    for part in met:
        keys = claims.concern(part)
        for row in _rows_of(part, statement, target, rows, parameters) if keys else ():
            claims.take(part, keys, row)
    claims.lock(tx, found, by if updates_on_conflict(conflict) else None)
    if updates_on_conflict(conflict):
        known = by is not None and target.table.primary_key
        if by is None or not known or not _want_existing(tx, target, conflict, by, rows, found):
            return None
    written = set(found.writes)
    own = {one: strength for one, strength in found.wants.items() if one in written}
    if not _is_in_own_order(target, conflict, by, own, found) or not waits_alone(tx.unit, found):
        met |= lock_found(tx, found)
    in_another_order = conflict is not None and by != key_columns(target.table)
    if in_another_order and (len(rows) > 1 or tx.unit.unsaved or tx.unit.book):
        # It waits for whoever inserts the same, in an order of its own: not that of the keys.
        limit_waits(tx.unit, connection_of(tx))
    state.parameters = ordered.parameters
    result = run(tx, state, ordered.statement, met)
    if in_another_order and getattr(result, "rowcount", -1) != len(own):
        holds_unknown(tx.unit)  # what was inserted, or had come meanwhile
    # ON CONFLICT DO UPDATE locks what it does not change too; what was not there is one's own.
    locked = _checked_by_now(found) if conflict is None else own
    record(tx.unit, locked, ordered.statement)
    book = tx.unit.book
    for resource in inserts if conflict is None else ():
        book.record_inserted(resource)
    for resource in found.writes:
        book.record_written(resource)
    return result


def _is_in_own_order(
    target: Target,
    conflict: Conflict | None,
    by: Columns | None,
    own: Wants,
    found: Found,
) -> bool:
    """Whether the INSERT, left alone, takes what it takes in the global order."""
    if conflict is None:
        return len(found.wants) <= 1 and not found.deferred
    # Of what a row refers to that conflicts, nothing is locked: then the book would be wrong.
    if len(own) < len(found.wants) or found.upgraded:
        return False
    return len(own) <= 1 or by == key_columns(target.table)


def _checked_by_now(found: Found) -> Wants:
    """The parents of new rows that are there: the INSERT has checked it, or a lock query has."""
    return {one: strength for one, strength in found.wants.items() if one not in found.deferred}


def _new_rows(
    tx: CoreTransaction,
    state: ORMExecuteState,
    statement: Insert,
    target: Target,
    rows: Sequence[Values],
    parameters: list[Parameters],
    found: Found,
) -> list[Any] | None:
    """Add what the new rows refer to. Returns those whose key is known; None: it can't be told."""
    tables = tx.unit.home.tables
    inserts = []
    parts = _tables(state, target)
    for number, part in enumerate(parts):
        key = tuple(part.primary_key)
        for row in _rows_of(part, statement, target, rows, parameters):
            for link in links_from(part):
                values = tuple(row.get(column, COMPUTED) for column in link.columns)
                if COMPUTED not in values:
                    check_parent(tables, link, values, found)
                elif _is_computed(link.columns, row) and link.parent not in parts[:number]:
                    return None
            given = tuple(row.get(column, COMPUTED) for column in key)
            if given and COMPUTED not in given and None not in given:
                inserts.append(tables.row(part, given))
    for resource in inserts:  # the base's row of an inheritance
        if conflict_of(statement) is None:
            found.wants.pop(resource, None)
    return inserts


def _is_computed(columns: Columns, row: Values) -> bool:
    """Whether the statement has the database compute a foreign key.

    What a default computes can't be told either, but nobody has written that into the statement:
    it is left to the tripwire, as in a flush.
    """
    values = [row.get(column, NotImplemented) for column in columns]
    return None not in values and COMPUTED in values


def _tables(state: ORMExecuteState, target: Target) -> tuple[Table, ...]:
    is_bulk = target.mapper is not None and bool(state.parameters)
    return tables_of(target.mapper) if is_bulk and target.mapper else (target.table,)


def _rows_of(
    part: Table,
    statement: Insert,
    target: Target,
    rows: Sequence[Values],
    parameters: list[Parameters],
) -> Sequence[Values]:
    if part is target.table:
        return rows
    other = Target(part, part, target.entity, target.mapper)
    return rows_inserted(statement, other, parameters)


def _want_existing(
    tx: CoreTransaction,
    target: Target,
    conflict: Any,
    by: Columns,
    rows: Sequence[Values],
    found: Found,
) -> bool:
    """Add the rows that are there already, which ON CONFLICT will lock. False: it can't be told."""
    table, tables = target.table, tx.unit.home.tables
    sets = {
        column: value
        for key, value in dict(conflict.update_values_to_set).items()
        for column in target.columns(key)
    }
    lookup = lookup_of(table, Effect.CHANGED, sets)
    for link in links_from(table):
        if not sets.keys().isdisjoint(link.columns):
            values = tuple(value_of(sets.get(column, COMPUTED), {}) for column in link.columns)
            if COMPUTED not in values:
                check_parent(tables, link, values, found)
            elif not all(_is_as_inserted(sets[one], one) for one in link.columns if one in sets):
                return False
    wanted = [tuple(row[column] for column in by) for row in rows]
    if set(by) == set(key_columns(table)) and not has_other_spellings(table):
        places = [by.index(column) for column in key_columns(table)]
        resources = [tables.row(table, tuple(key[at] for at in places)) for key in wanted]
        if not depends_on_rows(lookup) and not is_checked_again(tx.unit, lookup, resources):
            for resource in resources:
                found.want(resource, lookup.strength)
            found.writes += resources
            return True
    for each in lookups_of(table, by, wanted, Effect.CHANGED, {}, sets):
        with locking(tx.unit):
            answer = connection_of(tx).execute(each.statement()).all()
        found.add(each.found(tx, answer))
    return True


def _is_as_inserted(value: Any, column: Column[Any]) -> bool:
    """Whether it is the new row's own value, "excluded", whose parents are known."""
    if value_of(value, {}) is not COMPUTED:
        return True
    source = value.table if isinstance(value, ColumnClause) else None
    return getattr(source, "name", None) == "excluded" and value.key == column.key

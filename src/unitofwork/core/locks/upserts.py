"""insert() through the session: its rows sorted by what may conflict, what they touch locked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ColumnClause, Insert, Result, Table
from sqlalchemy.orm import ORMExecuteState

from ...policies.locks.book import Wants
from ...policies.locks.order import Resource
from ...sql.key_types import has_other_spellings
from .acquire import connection_of, limit_waits, locking
from .dml import COMPUTED, STAYS, Parameters, Target, generated, rows_inserted, value_of
from .lookups import Effect, Found, check_parent, lookups_of
from .ordered import (
    depends_on_rows,
    is_checked_again,
    lock_found,
    lookup_of,
    record,
    run,
    waits_alone,
    want_parents,
)
from .raw import holds_unknown
from .schema import Columns, Link, links_from
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
    in_another_order = conflict is not None and by != key_columns(target.table)
    if not _is_in_own_order(target, conflict, by, own, found) or not waits_alone(tx.unit, found):
        met |= lock_found(tx, found)
    if in_another_order and (len(rows) > 1 or tx.unit.unsaved or tx.unit.book):
        # It waits for whoever inserts the same, in an order of its own: not that of the keys.
        limit_waits(tx.unit, connection_of(tx))
    state.parameters = ordered.parameters
    result = run(tx, state, ordered.statement, met, absent=found.absent)
    if conflict is None:
        record(tx.unit, _checked_by_now(found), ordered.statement)
    elif not in_another_order:
        # It locks what it does not change too; what was not there is one's own.
        record(tx.unit, own, ordered.statement)
    elif by is not None and _can_find_again(target, conflict, by):
        _find_again(tx, ordered.statement, target, by, rows)
    elif updates_on_conflict(conflict) or getattr(result, "rowcount", -1) != 0:
        holds_unknown(tx.unit)  # what was inserted, or had come meanwhile
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
    if by == key_columns(target.table) or not own:
        return True
    return len(own) == 1 and by is not None and _can_find_again(target, conflict, by)


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
    values = [
        COMPUTED if column.computed is not None else row.get(column, NotImplemented)
        for column in columns
    ]
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
    sets = _sets(target, conflict)
    links = [one for one in links_from(table) if not _is_of_new_row(one, sets, by)]
    is_partial = False
    for row in rows if links else ():
        kept = {column: row[column] for column in by}
        unknown = want_parents(tables, links, _changes(sets, row), kept, found)
        if unknown is COMPUTED:
            return False
        is_partial |= unknown is STAYS
    lookup = lookup_of(table, Effect.CHANGED, sets)
    key = key_columns(table)
    if set(by) == set(key) and not has_other_spellings(table):
        resources = [tables.row(table, tuple(row[column] for column in key)) for row in rows]
        for resource in resources:
            found.want(resource, lookup.strength)
        found.writes += resources
        if is_partial or depends_on_rows(lookup) or is_checked_again(tx.unit, lookup, resources):
            updates: dict[Resource, list[Values]] = {}
            for row, resource in zip(rows, resources, strict=True):
                updates.setdefault(resource, []).append(_changes(sets, row))
            keys = [resource.key for resource in resources]
            found.lookups += lookups_of(table, key, keys, Effect.CHANGED, {}, sets, updates=updates)
        return True
    is_twice = len({tuple(row[column] for column in by) for row in rows}) < len(rows)
    if is_partial or (is_twice and links_from(table)):
        return False
    is_first = tx.unit.book.top is None and not found.wants and not found.lookups
    is_in_order = is_first and len(rows) == 1 and not depends_on_rows(lookup)
    if not is_in_order or not _can_find_again(target, conflict, by):
        for each in _existing(tx, target, conflict, by, rows):
            found.add(each)
    return True


def _existing(
    tx: CoreTransaction, target: Target, conflict: Any, by: Columns, rows: Sequence[Values]
) -> Iterator[Found]:
    """Look for the rows that are there already; of a partial index those that it has."""
    sets = _sets(target, conflict)
    wanted = [tuple(row[column] for column in by) for row in rows]
    for each in lookups_of(target.table, by, wanted, Effect.CHANGED, {}, sets):
        statement = each.statement()
        if conflict.inferred_target_whereclause is not None:
            statement = statement.where(conflict.inferred_target_whereclause)
        with locking(tx.unit):
            answer = connection_of(tx).execute(statement).all()
        yield each.found(tx, answer)


def _can_find_again(target: Target, conflict: Conflict | None, by: Columns) -> bool:
    """Whether the rows are found by the same values when the statement has run."""
    if conflict is None or not updates_on_conflict(conflict):
        return False
    sets = _sets(target, conflict)
    if getattr(conflict, "inferred_target_whereclause", None) is not None:
        return False  # a new row may lie outside of the index, beside one that has its values there
    if not sets.keys().isdisjoint(key_columns(target.table)):
        return False
    return all(_is_as_inserted(sets, column) for column in by if column in sets)


def _find_again(
    tx: CoreTransaction, statement: Insert, target: Target, by: Columns, rows: Sequence[Values]
) -> None:
    """Book the rows that an upsert by another key than the primary one has met, or made.

    Only now it can be told which: while it waits, a value may go from one row to another.
    """
    count = 0
    for found in _existing(tx, target, conflict_of(statement), by, rows):
        count += len(found.writes)
        own = {resource: found.wants[resource] for resource in found.writes}
        record(tx.unit, own, statement)
        for resource in found.writes:
            tx.unit.book.record_written(resource)
    if count < len({tuple(row[column] for column in by) for row in rows}):
        holds_unknown(tx.unit)  # new rows in which a part of it is NULL


def _sets(target: Target, conflict: Any) -> dict[Column[Any], Any]:
    """The columns that DO UPDATE sets: their value, or the expression, or COMPUTED."""
    sets = {
        column: value
        for key, value in dict(conflict.update_values_to_set).items()
        for column in target.columns(key)
    }
    return sets | generated(target.table, sets)


def _changes(sets: Values, row: Values) -> Values:
    """What DO UPDATE sets where `row` was to be inserted."""
    return {
        column: row.get(column.table.c[value.key], COMPUTED)
        if _is_excluded(value)
        else value_of(value, {})
        for column, value in sets.items()
    }


def _is_of_new_row(link: Link, sets: Values, by: Columns) -> bool:
    """Whether DO UPDATE has a row refer to what the new one refers to, or leaves it as it is."""
    is_left = sets.keys().isdisjoint(link.columns)
    return is_left or all(
        _is_as_inserted(sets, column) if column in sets else column in by for column in link.columns
    )


def _is_as_inserted(sets: Values, column: Column[Any]) -> bool:
    value = sets[column]
    return _is_excluded(value) and value.key == column.key


def _is_excluded(value: Any) -> bool:
    """Whether it is a value of the row that was to be inserted."""
    source = value.table if isinstance(value, ColumnClause) else None
    return getattr(source, "name", None) == "excluded"

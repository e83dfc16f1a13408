"""UPDATE by primary key with many sets of parameters: sorted, and locked in that order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Result, Table, Update
from sqlalchemy.orm import ORMExecuteState

from ...policies.locks.order import Resource, comparable
from ...sql.row_locks import has_other_spellings
from .dml import COMPUTED, Parameters, Target, assigned, keys_in, value_of
from .lookups import Effect, Found, Lookup, check_parent, lookups_of
from .ordered import (
    depends_on_rows,
    is_checked_again,
    lock_found,
    lookup_of,
    record,
    run,
    waits_alone,
)
from .schema import links_from
from .tables import key_columns, tables_of

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


@dataclass(slots=True)
class _Rewrite:
    """One table's part in an update by primary key."""

    table: Table
    lookup: Lookup
    rows: list[Resource]


def execute_by_key(
    tx: CoreTransaction, state: ORMExecuteState, statement: Update, target: Target
) -> Result[Any] | None:
    """Run the statement with its rows locked in order. None: its rows can't be told."""
    sets = [one for one in state.parameters or () if isinstance(one, Mapping)]
    by_key = state.is_orm_statement and state.update_delete_options._dml_strategy == "bulk"
    if by_key:
        assert target.mapper is not None
        tables = tables_of(target.mapper)
    else:
        tables = [target.table]
    found, rewrites = Found(), []
    keyed: dict[int, tuple[Any, ...]] = {}
    for table in tables:
        part = Target(table, table, target.entity, target.mapper) if by_key else target
        own = key_columns(table)
        columns = assigned(statement, part, sets)
        if columns is None or not own or has_other_spellings(table):
            return None
        here = {column for column in columns if column.table is table}
        here -= set(own) if by_key else set()
        if not here:
            continue
        lookup = lookup_of(table, Effect.CHANGED, here)
        rows = []
        for one in sets:
            key = _key_of(part, one) if by_key else _key_in_where(statement, part, one)
            if key is None:
                return None
            keyed.setdefault(id(one), key)
            resource = tx.unit.home.tables.row(table, key)
            rows.append(resource)
            found.want(resource, lookup.strength)
            given = {column: one[name] for name in one for column in part.columns(name)}
            given |= {c: value_of(v, one) for c, v in columns.items() if c not in given}
            for link in links_from(table):
                if not here.isdisjoint(link.columns):
                    values = tuple(given.get(column, COMPUTED) for column in link.columns)
                    if COMPUTED not in values:
                        check_parent(tx.unit.home.tables, link, values, found)
        if depends_on_rows(lookup) or is_checked_again(tx.unit, lookup, rows):
            keys = [resource.key for resource in rows]
            found.lookups += lookups_of(table, own, keys, Effect.CHANGED, {}, here)
        rewrites.append(_Rewrite(table, lookup, rows))
    state.parameters = sorted(sets, key=lambda one: tuple(map(comparable, keyed.get(id(one), ()))))
    # Sorted, they wait in order by themselves; what is not there is an error of a plain update.
    is_plain = by_key and len(rewrites) == 1 and statement.whereclause is None
    only_rows = is_plain and len(found.wants) == len(set(rewrites[0].rows))
    if only_rows and waits_alone(tx.unit, found):
        result = run(state, statement, {})
        record(tx.unit, found.wants)
    else:
        lock_found(tx, found)
        result = run(state, statement, {})
    for rewrite in rewrites:
        for resource in rewrite.rows:
            tx.unit.book.record_written(resource)
    return result


def _key_of(target: Target, one: Parameters) -> tuple[Any, ...] | None:
    values = {column: one[name] for name in one for column in target.columns(name)}
    own = key_columns(target.table)
    return tuple(values[c] for c in own) if all(c in values for c in own) else None


def _key_in_where(statement: Update, target: Target, one: Parameters) -> tuple[Any, ...] | None:
    keys = keys_in(statement.whereclause, target, one)
    return keys.values[0] if keys is not None and len(keys.values) == 1 else None

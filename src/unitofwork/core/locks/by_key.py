"""UPDATE and DELETE by primary key with many sets of parameters: sorted, locked in that order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Delete, Result, Update, select
from sqlalchemy.orm import ORMExecuteState

from ...errors import ConfigurationError
from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from ...sql.key_types import has_other_spellings
from ...sql.row_locks import Step, among_keys, rows_parameters
from .acquire import connection_of, locking
from .dml import COMPUTED, STAYS, Parameters, Row, Target, assigned, keys_in, value_of
from .lookups import Effect, Found, lookups_of
from .ordered import (
    depends_on_rows,
    is_checked_again,
    key_set,
    lock_found,
    lookup_of,
    record,
    run,
    waits_alone,
    want_parents,
)
from .schema import links_from
from .tables import key_columns, tables_of
from .unique import Claims

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


@dataclass(frozen=True, slots=True)
class _Written:
    """What a statement writes in one table."""

    target: Target
    is_delete: bool
    sets: Sequence[Parameters]
    #: The row that each set is for.
    rows: list[Resource]
    #: With the value of each, where it is not in the sets.
    columns: Mapping[Column[Any], Any]


def execute_by_key(
    tx: CoreTransaction, state: ORMExecuteState, statement: Update | Delete, target: Target
) -> Result[Any] | None:
    """Run the statement with its rows locked in order. None: its rows can't be told."""
    sets = [one for one in state.parameters or () if isinstance(one, Mapping)]
    is_mapped = state.is_orm_statement and state.update_delete_options._dml_strategy == "bulk"
    parts = [target]
    if is_mapped and target.mapper is not None:
        tables = tables_of(target.mapper)
        parts = [Target(table, table, target.entity, target.mapper) for table in tables]
    found, claims = Found(), Claims(tx.unit.home.locking.unique_names)
    written: list[_Written] = []
    order: list[Resource] = []
    is_delete = isinstance(statement, Delete)
    for part in parts:
        rows = _rows(part, statement, sets, tx, is_mapped)
        columns = _changed(part, statement, sets, is_mapped)
        if rows is None or columns is None:
            return None
        order = order or rows
        if columns or is_delete:
            written.append(_Written(part, is_delete, sets, rows, columns))
            if not _want(tx, written[-1], found):
                return None
            _claim(tx, written[-1], claims)
    claims.lock(tx, found)
    state.parameters = [sets[place] for place in sorted(range(len(sets)), key=order.__getitem__)]
    # Sorted, they wait in order by themselves; what is not there is an error of a plain update.
    met = {part.table for part in parts}
    is_plain = is_mapped and len(written) == 1 and statement.whereclause is None
    is_alone = len(found.wants) == len(set(order)) and not found.upgraded
    if is_plain and is_alone and waits_alone(tx.unit, found):
        result = run(tx, state, statement, met, asking=found.wants)
        if len(sets) == 1 or tx.unit.home.rules.dialect.supports_sane_multi_rowcount:
            record(tx.unit, found.wants, statement)
        else:  # one that was not there is no error then
            for resource, strength in found.wants.items():
                tx.unit.book.pass_by(resource, strength)
    else:
        met |= lock_found(tx, found)
        result = run(tx, state, statement, met, absent=found.absent)
        for resource, strength in found.absent.items():
            tx.unit.book.pass_by(resource, strength)
    for resource in (*(row for one in written for row in one.rows), *found.writes):
        tx.unit.book.record_written(resource)
    return result


def _rows(
    target: Target,
    statement: Update | Delete,
    sets: Iterable[Parameters],
    tx: CoreTransaction,
    is_mapped: bool,
) -> list[Resource] | None:
    """The row that each set of parameters is for."""
    own = tuple(target.table.primary_key)
    if not own or has_other_spellings(target.table):
        return None
    rows = []
    for one in sets:
        if is_mapped:
            values = {column: one[name] for name in one for column in target.columns(name)}
            if not all(column in values for column in own):
                return None
            key = tuple(values[column] for column in own)
        else:
            keys = keys_in(statement.whereclause, target, one)
            if keys is None or len(keys) != 1:
                return None
            (key,) = keys
        try:
            rows.append(tx.unit.home.tables.row(target.table, key))
        except ConfigurationError:
            return None  # no such key; what that means is the database's to say
    return rows


def _changed(
    target: Target, statement: Update | Delete, sets: Iterable[Parameters], is_mapped: bool
) -> dict[Column[Any], Any] | None:
    if isinstance(statement, Delete):
        return {}
    columns = assigned(statement, target, sets)
    if columns is None:
        return None
    own = key_columns(target.table) if is_mapped else ()
    return {c: value for c, value in columns.items() if c.table is target.table and c not in own}


def _want(tx: CoreTransaction, written: _Written, found: Found) -> bool:
    """Add the rows of one table, and what hangs on them. False: it can't be told."""
    target, rows, columns = written.target, written.rows, written.columns
    table, tables = target.table, tx.unit.home.tables
    effect = Effect.DELETED if written.is_delete else Effect.CHANGED
    lookup = lookup_of(table, effect, columns)
    links = [link for link in links_from(table) if not columns.keys().isdisjoint(link.columns)]
    key = key_columns(table)
    is_checked = is_checked_again(tx.unit, lookup, rows)
    renamed = key_set(lookup)
    updates: dict[Resource, list[Row]] = {}
    for one, resource in zip(written.sets, rows, strict=True):
        found.want(resource, lookup.strength)
        if not links and not is_checked and not renamed:
            continue
        given = _given(target, columns, one)
        updates.setdefault(resource, []).append(given)
        kept = dict(zip(key, resource.key, strict=True))
        if renamed:
            will_be = tuple({**kept, **given}[column] for column in key)
            if COMPUTED in will_be:
                return False
            found.rename(tables, table, will_be)
        unknown = want_parents(tables, links, given, kept, found)
        if unknown is COMPUTED:
            return False
        is_checked |= unknown is STAYS
    if depends_on_rows(lookup) or is_checked:
        keys = [resource.key for resource in rows]
        found.lookups += lookups_of(table, key, keys, effect, {}, columns, updates=updates)
    return True


def _claim(tx: CoreTransaction, written: _Written, claims: Claims) -> None:
    """Name the unique values that the rows of one table give up and take."""
    target, rows, columns = written.target, written.rows, written.columns
    table = target.table
    unique = claims.concern(table, None if written.is_delete else columns)
    if not unique:
        return
    own = key_columns(table)
    selected = list(dict.fromkeys(itertools.chain(own, *unique)))
    query = select(*selected).where(among_keys(table, own))
    keys = list(dict.fromkeys(resource.key for resource in rows))
    with locking(tx.unit):
        found = connection_of(tx).execute(query, rows_parameters(0, Step(table, _ANY), keys)).all()
    before = {row[: len(own)]: dict(zip(selected, row, strict=True)) for row in map(tuple, found)}
    for one, resource in zip(written.sets, rows, strict=True):
        is_now = before.get(resource.key)
        if is_now is not None:
            claims.give_up(table, unique, is_now)
            if not written.is_delete:
                claims.take(table, unique, is_now | _given(target, columns, one))


_ANY = Strength.KEY_SHARE


def _given(
    target: Target, columns: Mapping[Column[Any], Any], one: Parameters
) -> dict[Column[Any], Any]:
    """What one set of parameters sets, of columns that any of the sets does."""
    own = {
        column: value
        for column, value in columns.items()
        if value is not COMPUTED or column.computed is not None
    }
    given = {column: value_of(value, one) for column, value in own.items()}
    named = {column: one[name] for name in one for column in target.columns(name)}
    more = {column: value for column, value in named.items() if column in columns}
    return given | {column: value_of(value, one) for column, value in more.items()}

"""What all writing statements have in common: locking what was found, running, booking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Delete, Result, Select, Table
from sqlalchemy.engine import Row as Answer
from sqlalchemy.orm import ORMExecuteState

from ...policies.locks.book import NOTHING, Wants
from ...policies.locks.order import Resource
from .acquire import acquire_known, connection_of, limit_waits, locking
from .dml import COMPUTED, STAYS, Row
from .footprint import closure
from .lookups import Effect, Found, Lookup, check_parent
from .raw import ORDERED
from .schema import Columns, Link, links_from, links_to
from .tables import Tables, key_columns

if TYPE_CHECKING:
    from ..transaction import CoreTransaction
    from ..unit import Unit


def lookup_of(table: Table, effect: Effect, changed: Iterable[Column[Any]]) -> Lookup:
    """What a statement does to rows of its table."""
    return Lookup(table, key_columns(table), (), effect, {}, frozenset(changed))


def depends_on_rows(lookup: Lookup) -> bool:
    """Whether other rows refer to what is changed, so that they are changed or locked too."""
    return any(changing_links(lookup))


def changing_links(lookup: Lookup) -> Iterator[Link]:
    """The foreign keys that refer to what is changed."""
    for link in links_to(lookup.table):
        if lookup.effect is Effect.DELETED or not lookup.changed.isdisjoint(link.referred):
            yield link


def is_checked_again(unit: Unit, lookup: Lookup, rows: Sequence[Resource]) -> bool:
    """Whether foreign keys are checked that stay as they are: at the second UPDATE of a row."""
    if lookup.effect is not Effect.CHANGED or not links_from(lookup.table):
        return False
    return len(set(rows)) < len(rows) or any(map(unit.book.has_written, rows))


def want_parents(tables: Tables, links: Iterable[Link], new: Row, kept: Row, found: Found) -> Any:
    """Add the parents of a row that is to get what is `new`. `kept`: what else is known of it.

    Returns None; STAYS: of a foreign key only the row can tell a part; COMPUTED: nobody can.
    """
    unknown = None
    for link in links:
        if new.keys().isdisjoint(link.columns):
            continue
        values = tuple(new.get(column, kept.get(column, STAYS)) for column in link.columns)
        if COMPUTED in values:
            return COMPUTED
        if STAYS not in values:
            check_parent(tables, link, values, found)
        elif None not in values:
            unknown = STAYS
    return unknown


def key_set(lookup: Lookup) -> Columns:
    """The primary key, if a statement changes a part of it."""
    key = key_columns(lookup.table)
    return () if lookup.changed.isdisjoint(key) else key


def waits_alone(unit: Unit, found: Found) -> bool:
    """Whether what the statement itself waits for is all of it in order, and may be long."""
    plan = unit.book.plan(found.wants)
    return not plan.late and not found.lookups and not unit.waits_are_limited


def lock_found(tx: CoreTransaction, found: Found, names: Wants = NOTHING) -> set[Table]:
    """Take the locks in order, then those of the rows that follow from them. Returns their tables.

    Those of which no row was found too: the server locks them as such. `found.absent` is set.
    """
    acquire_known(tx, {**names, **found.wants})
    found.absent = tx.unit.book.missing(found.wants)
    tables = {lookup.table for lookup in found.lookups}

    def ask(statement: Select[Any]) -> list[Answer[Any]]:
        with locking(tx.unit):
            return list(connection_of(tx).execute(statement))

    for level in closure(tx, found, ask):
        acquire_known(tx, level.wants)
        found.absent |= tx.unit.book.missing(level.wants)
        found.writes += level.writes
        tables.update(lookup.table for lookup in level.lookups)
    return tables


def record(unit: Unit, wants: Wants, statement: Any) -> None:
    """Book what a statement has locked by itself."""
    is_sure = isinstance(statement, Delete)
    place = unit.called_at()
    for resource, strength in wants.items():
        unit.book.record(resource, strength, place, is_sure=is_sure)


def run(
    tx: CoreTransaction,
    state: ORMExecuteState,
    statement: Any,
    tables: Iterable[Table],
    options: Mapping[str, Any] | None = None,
    asking: Wants = NOTHING,
    absent: Wants = NOTHING,
) -> Result[Any]:
    """Send a statement whose rows are locked. `tables`: where it writes, or looks for rows.

    `asking`: the locks that it takes by itself; `absent`: those of rows that were not there.
    """
    unit = tx.unit
    top = unit.book.top
    ranks = [unit.home.tables.rank(table) for table in tables]
    if top is not None and any(top.rank > one and not unit.book.is_touched(one) for one in ranks):
        # Another unit may keep all others out of the table: that wait would be out of order.
        limit_waits(unit, connection_of(tx))
    marked = statement.execution_options(**{ORDERED: True})
    unit.asking, unit.absent = asking, absent
    try:
        result = state.invoke_statement(marked, execution_options=options)
    finally:
        unit.asking = unit.absent = NOTHING
    for rank in ranks:
        unit.book.touch(rank)
    return result

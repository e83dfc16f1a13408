"""What all writing statements have in common: locking what was found, running, booking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Column, Result, Table
from sqlalchemy.engine import Row
from sqlalchemy.orm import ORMExecuteState

from ...policies.locks.book import Wants
from ...policies.locks.order import Resource
from .. import places
from .acquire import acquire, connection_of, locking
from .footprint import closure
from .lookups import Effect, Found, Lookup
from .raw import ORDERED
from .schema import links_from, links_to
from .tables import key_columns

if TYPE_CHECKING:
    from ..transaction import CoreTransaction
    from ..unit import Unit


def lookup_of(table: Table, effect: Effect, changed: Iterable[Column[Any]]) -> Lookup:
    """What a statement does to rows of its table."""
    return Lookup(table, key_columns(table), (), effect, {}, frozenset(changed))


def depends_on_rows(lookup: Lookup) -> bool:
    """Whether other rows refer to what is changed, so that they are changed or locked too."""
    return any(
        lookup.effect is Effect.DELETED or not lookup.changed.isdisjoint(link.referred)
        for link in links_to(lookup.table)
    )


def is_checked_again(unit: Unit, lookup: Lookup, rows: Iterable[Resource]) -> bool:
    """Whether foreign keys are checked that stay as they are: PostgreSQL does, after a write."""
    book = unit.book
    return (
        lookup.effect is Effect.CHANGED
        and bool(links_from(lookup.table))
        and any(resource in book.written or resource in book.inserted for resource in rows)
    )


def waits_alone(unit: Unit, found: Found) -> bool:
    """Whether what the statement itself waits for is all of it in order, and may be long."""
    plan = unit.book.plan(found.wants)
    return not plan.late and not found.lookups and not unit.waits_are_limited


def lock_found(tx: CoreTransaction, found: Found) -> None:
    """Take the locks in order, then those of the rows that follow from them."""
    acquire(tx, found.wants)

    def ask(statement: Any) -> list[Row[Any]]:
        with locking(tx.unit):
            return list(connection_of(tx).execute(statement))

    for level in closure(tx, cast(Any, found), ask):
        acquire(tx, level.wants)
        found.writes += level.writes


def record(unit: Unit, wants: Wants) -> None:
    """Book what a statement has locked by itself."""
    place = places.caller()
    for resource, strength in wants.items():
        unit.book.record(resource, strength, place)


def run(state: ORMExecuteState, statement: Any, options: Mapping[str, Any]) -> Result[Any]:
    """Send a statement whose locks are taken."""
    marked = statement.execution_options(**{ORDERED: True})
    return state.invoke_statement(marked, execution_options=options)

"""Rows that the database writes by itself when others are written: triggers and rules, declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from .dml import Target
from .lookups import Effect, Found, lookups_of
from .rows import key_of, mapper_of, resources_of
from .schema import links_from
from .tables import key_columns, tables_of

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: For an object that is about to be written: the class and key of each further row.
AlsoWritten = Callable[[Any], Iterable[tuple[type[Any], Any]]]


def is_declared(tx: CoreTransaction, written: Target) -> bool:
    """Whether something was declared for what a statement writes, of which there is no object."""
    tables = {written.table}
    if written.mapper is not None:
        tables.update(tables_of(written.mapper))
    return any(
        not tables.isdisjoint(tables_of(mapper))
        for entity, _ in tx.unit.home.also_written
        for mapper in mapper_of(entity).self_and_descendants
    )


def want_declared(tx: CoreTransaction, found: Found) -> bool:
    """Add what was declared for the objects that the flush is about to write, if anything was."""
    rows = dict.fromkeys(_rows(tx))
    for resource in rows:
        table = tx.unit.home.tables.table_of(resource)
        found.want(resource, Strength.NO_KEY_UPDATE)
        found.writes.append(resource)
        if links_from(table) and tx.unit.book.has_written(resource):
            key = key_columns(table)
            found.lookups += lookups_of(table, key, [resource.key], Effect.CHANGED, {})
    return bool(rows)


def _rows(tx: CoreTransaction) -> Iterator[Resource]:
    known = tx.unit.home.also_written
    if not known:
        return
    for instance in (*tx.new, *tx.deleted, *(one for one in tx.dirty if tx.is_modified(one))):
        for entity, function in known:
            if isinstance(instance, entity):
                for other, key in _pairs(function, instance):
                    mapper = mapper_of(other)
                    yield from resources_of(tx, mapper, [key_of(mapper, key)])


def _pairs(function: AlsoWritten, instance: Any) -> list[tuple[type[Any], Any]]:
    """What the application's function says. Raises `ConfigurationError` for what is no pairs."""
    found: object = function(instance)
    pairs: list[Any] = list(found) if isinstance(found, Iterable) else [found]
    wrong = [one for one in pairs if not (isinstance(one, (tuple, list)) and len(one) == 2)]
    if wrong:
        raise ConfigurationError(
            f"The function that writes_also() was given for {type(instance).__name__} has returned "
            f"{found!r}, which is no list of pairs.",
            "return the class and key of each further row: [(Stat, item.category_id)], and [] for "
            "none.",
        )
    return pairs

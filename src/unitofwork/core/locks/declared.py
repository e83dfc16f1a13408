"""Rows that the database writes by itself when others are written: triggers and rules, declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from .dml import Target
from .rows import key_of, mapper_of, resources_of
from .tables import tables_of

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


def declared(tx: CoreTransaction) -> dict[Resource, Strength]:
    """What was declared for the objects that the flush is about to write."""
    found: dict[Resource, Strength] = {}
    known = tx.unit.home.also_written
    if not known:
        return found
    for instance in (*tx.new, *tx.deleted, *(one for one in tx.dirty if tx.is_modified(one))):
        for entity, function in known:
            if isinstance(instance, entity):
                for other, key in function(instance):
                    mapper = mapper_of(other)
                    for resource in resources_of(tx, mapper, [key_of(mapper, key)]):
                        found[resource] = Strength.NO_KEY_UPDATE
    return found

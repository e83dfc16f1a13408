"""Rows that the database writes by itself when others are written: triggers and rules, declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError
from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from .rows import key_of, mapper_of, resources_of

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: For an object that is about to be written: the class and key of each further row.
AlsoWritten = Callable[[Any], Iterable[tuple[type[Any], Any]]]


def declared(tx: CoreTransaction) -> dict[Resource, Strength]:
    """What was declared for the objects that the flush is about to write."""
    found: dict[Resource, Strength] = {}
    known = tx.unit.home.also_written
    if not known:
        return found
    for instance in (*tx.new, *tx.deleted, *(one for one in tx.dirty if tx.is_modified(one))):
        for entity, function in known:
            if isinstance(instance, entity):
                for other, key in _pairs(function, instance):
                    mapper = mapper_of(other)
                    for resource in resources_of(tx, mapper, [key_of(mapper, key)]):
                        found[resource] = Strength.NO_KEY_UPDATE
    return found


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

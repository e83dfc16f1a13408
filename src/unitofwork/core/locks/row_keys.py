"""From the key of a mapped object to the keys of its rows, one in each of its tables."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table, select, tuple_
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.selectable import Join

from ...errors import ConfigurationError
from ...policies.locks.order import Resource
from .keys import Key
from .tables import key_columns, tables_of

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: Keys in one query.
_CHUNK = 500


@dataclass(frozen=True, slots=True, eq=False)
class RowKey:
    """How the key of the row in one table follows from the key of the object."""

    table: Table
    #: Where in the object's key the parts of the row's key stand; None: only a query can tell.
    places: tuple[int, ...] | None
    #: In that case, the table's columns that have the object's key; none if it is not there.
    columns: tuple[Column[Any], ...]
    #: The two keys are the same.
    is_same: bool
    #: They have the same parts, so that each follows from the other.
    is_whole: bool

    def of(self, key: Key) -> Key:
        """The row's key. Only where `places` are there."""
        if self.is_same or self.places is None:
            return key
        return tuple([key[place] for place in self.places])

    def back(self, key: Key) -> Key:
        """The object's key, of the row's. Only where it `is_whole`."""
        if self.is_same or self.places is None:
            return key
        return tuple([part for _, part in sorted(zip(self.places, key, strict=True), key=_place)])


def _place(pair: tuple[int, Any]) -> int:
    return pair[0]


@functools.lru_cache(maxsize=4096)
def row_keys(mapper: Mapper[Any]) -> tuple[RowKey, ...]:
    """How the keys of an object's rows follow from its own, the base of an inheritance first."""
    places, width = _places(mapper), len(mapper.primary_key)
    found = []
    for table in tables_of(mapper):
        key = key_columns(table)
        if key and all(column in places for column in key):
            own = tuple(places[column] for column in key)
            is_whole = sorted(own) == list(range(width))
            found.append(RowKey(table, own, (), own == tuple(range(width)), is_whole))
        else:
            by_place = {places[column]: column for column in table.columns if column in places}
            there = tuple(by_place[at] for at in sorted(by_place)) if key else ()
            columns = there if len(there) == width else ()
            found.append(RowKey(table, None, columns, False, False))
    return tuple(found)


def refuse_unknown_rows(mapper: Mapper[Any]) -> None:
    """Raise `ConfigurationError` for a class that has rows which its key does not lead to."""
    if not row_keys(mapper):
        raise ConfigurationError(
            f"{mapper.class_.__name__} is mapped to a query, which has no rows to lock.",
            "lock rows of the tables that it reads, by classes that are mapped to them.",
        )
    for row_key in row_keys(mapper):
        if row_key.places is None and not row_key.columns:
            raise ConfigurationError(
                f"{mapper.class_.__name__} has a row in {row_key.table.fullname}, whose key does "
                "not follow from the key of the object.",
                "lock the rows by classes that are mapped to one table each, in one call: "
                "tx.lock_across({...}); or a name that stands for them: tx.lock_name(...).",
            )


def rows_in(tx: CoreTransaction, row_key: RowKey, keys: Sequence[Key]) -> dict[Key, Resource]:
    """The rows that objects have in one table, by the objects' keys."""
    row, table = tx.unit.home.tables.row, row_key.table
    if row_key.is_same:
        return {key: row(table, key) for key in keys}
    if row_key.places is not None:
        return {key: row(table, row_key.of(key)) for key in keys}
    if not tx.unit.home.rules.locks_rows:
        return {}
    return {key: row(table, own) for key, own in _ask(tx, row_key, keys)}


def _ask(tx: CoreTransaction, row_key: RowKey, keys: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
    """The keys of rows in a table that has the object's key in other columns."""
    columns = row_key.columns
    width = len(columns)
    where = columns[0] if width == 1 else tuple_(*columns)
    statement = select(*columns, *key_columns(row_key.table))
    for start in range(0, len(keys), _CHUNK):
        chunk: list[Any] = [key if width > 1 else key[0] for key in keys[start : start + _CHUNK]]
        for row in tx.execute(statement.where(where.in_(chunk))):
            yield tuple(row[:width]), tuple(row[width:])


def _places(mapper: Mapper[Any]) -> dict[Any, int]:
    """Where in the object's key the value of a column stands, of those that have one of its."""
    places: dict[Any, int] = {column: at for at, column in enumerate(mapper.primary_key)}
    pairs = list(_equal(mapper))
    for _ in pairs:  # one may lead to the next
        for one, other in pairs:
            if one in places:
                places.setdefault(other, places[one])
            elif other in places:
                places[one] = places[other]
    return places


def _equal(mapper: Mapper[Any]) -> Iterator[tuple[Any, Any]]:
    """Columns that are joined to each other: an inheritance's, or those of a mapped join."""
    for join in visitors.iterate(mapper.persist_selectable):
        if isinstance(join, Join):
            for part in visitors.iterate(join.onclause):
                if isinstance(part, BinaryExpression) and part.operator is operators.eq:
                    yield part.left, part.right

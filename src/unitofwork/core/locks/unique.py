"""Unique values that writes take and give up: locked by name first, their owners looked up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table

from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from .acquire import acquire
from .lookups import Effect, Found, Lookup, lookups_of
from .names import name_of_value
from .schema import Columns, unique_keys
from .tables import key_columns
from .values import Unknown, all_known

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: A row's values, as far as they are known.
Row = Mapping[Column[Any], Any]
Values = tuple[Any, ...]


class Claims:
    """What a flush, or one statement, does to unique values; nothing where `unique_names` is off.

    Values that are not known yet, or NULL, are passed over.
    """

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        #: Of values that rows are to get, or have no longer: whoever is to get one waits.
        self.names: dict[Resource, Strength] = {}
        self._claimed: dict[tuple[Table, Columns], list[Values]] = {}

    def concern(self, table: Table, changed: Iterable[Column[Any]] | None = None) -> list[Columns]:
        """The unique keys of a table, the primary one among them, with one of `changed` in it.

        `changed` None: all.
        """
        if not self.is_on:
            return []
        keys = [key_columns(table), *unique_keys(table)]
        which = None if changed is None else set(changed)
        return [key for key in keys if which is None or not which.isdisjoint(key)]

    def name(self, table: Table, columns: Columns, values: Values) -> None:
        """A row has, or had, these values of a unique key."""
        if self.is_on and all_known(values):
            self.names[name_of_value(table, columns, values)] = Strength.UPDATE

    def claim(self, table: Table, columns: Columns, values: Values) -> None:
        """A row is to get them, which another one may have."""
        self.name(table, columns, values)
        if self.is_on and all_known(values):
            self._claimed.setdefault((table, columns), []).append(values)

    def give_up(self, table: Table, keys: Iterable[Columns], row: Row) -> None:
        """A row has its values no longer."""
        for columns in keys:
            self.name(table, columns, _values(columns, row))

    def take(self, table: Table, keys: Iterable[Columns], row: Row) -> None:
        """A row is to get its values."""
        for columns in keys:
            self.claim(table, columns, _values(columns, row))

    def owners(self, known_by: Columns | None = None) -> Iterator[Lookup]:
        """The rows that have the values already.

        `known_by`: those with the same values of these columns are known anyway.
        """
        for (table, columns), taken in self._claimed.items():
            if known_by is None or set(columns) != set(known_by):
                yield from lookups_of(table, columns, taken, Effect.OWNING, {})

    def lock(self, tx: CoreTransaction, found: Found, known_by: Columns | None = None) -> None:
        """Lock the names, and have the owners looked up.

        First of all: under the names nobody else adds such a row, or takes its value away.
        """
        acquire(tx, self.names)
        found.lookups += self.owners(known_by)


def _values(columns: Columns, row: Row) -> Values:
    return tuple(row.get(column, Unknown.COMPUTED) for column in columns)

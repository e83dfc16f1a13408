"""Unique values that statements take and give up: locked by name first, their owners looked up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table

from ...policies.locks.book import Strength
from .acquire import acquire
from .dml import COMPUTED
from .lookups import Effect, Found, lookups_of
from .names import name_of_value
from .schema import Columns, unique_keys
from .tables import key_columns

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: A row's values, as far as they are known.
Values = Mapping[Column[Any], Any]


class Claims:
    """What one statement does to unique values; nothing where `unique_names` is off."""

    def __init__(self, tx: CoreTransaction) -> None:
        self._tx = tx
        self._is_on = tx.unit.home.locking.unique_names
        self._names: dict[Any, Strength] = {}
        self._claimed: dict[tuple[Table, Columns], list[tuple[Any, ...]]] = {}

    def concern(self, table: Table, changed: Iterable[Column[Any]] | None = None) -> list[Columns]:
        """The unique keys of a table, the primary one among them, with one of `changed` in it.

        `changed` None: all.
        """
        if not self._is_on:
            return []
        keys = [key_columns(table), *unique_keys(table)]
        which = None if changed is None else set(changed)
        return [key for key in keys if which is None or not which.isdisjoint(key)]

    def give_up(self, table: Table, keys: Iterable[Columns], row: Values) -> None:
        """A row has these values no longer: whoever is to get one waits."""
        for columns, values in _known(keys, row):
            self._names[name_of_value(table, columns, values)] = Strength.UPDATE

    def take(self, table: Table, keys: Iterable[Columns], row: Values) -> None:
        """A row is to get these values, which another one may have."""
        self.give_up(table, keys, row)
        for columns, values in _known(keys, row):
            self._claimed.setdefault((table, columns), []).append(values)

    def lock(self, found: Found, known_by: Columns | None = None) -> None:
        """Lock the names, and have the rows looked up that have the values already.

        First of all: under the names nobody else adds such a row, or takes its value away.
        `known_by`: rows with the same values of these columns are among those found anyway.
        """
        acquire(self._tx, self._names)
        for (table, columns), taken in self._claimed.items():
            if known_by is None or set(columns) != set(known_by):
                found.lookups += lookups_of(table, columns, taken, Effect.OWNING, {})


def _known(keys: Iterable[Columns], row: Values) -> Iterator[tuple[Columns, tuple[Any, ...]]]:
    for columns in keys:
        values = tuple(row.get(column, COMPUTED) for column in columns)
        if COMPUTED not in values and None not in values:
            yield columns, values

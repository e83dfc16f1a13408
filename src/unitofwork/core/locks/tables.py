"""The tables that units lock rows of: their ranks, and how to find one by its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapper

from ...policies.locks.order import Rank, Resource, depths, numbered, row
from ...sql.key_types import key_columns
from .keys import are_integers, keys_of_table

__all__ = ["Tables", "key_columns", "tables_of", "translated"]


class Tables:
    """One per engine. `pinned`: the lock-order file's lines, the first is locked first."""

    def __init__(self, pinned: Sequence[str] = ()) -> None:
        self._places = {name: place for place, name in enumerate(pinned)}
        self._ranks: dict[Table, Rank] = {}
        self._by_name: dict[str, Table] = {}
        #: Those whose keys are whole numbers.
        self._numbered: dict[Table, Rank] = {}

    def rank(self, table: Table) -> Rank:
        """Where the table stands: parents before children, ties by name, the pinned ones first."""
        found = self._ranks.get(table)
        if found is None:
            name = table.fullname
            place = self._places.get(name)
            same = self._by_name.setdefault(name, table)
            if same is not table:  # of another MetaData, which may know less of its foreign keys
                found = self._ranks[same]
            else:
                found = Rank(2, _depth(table), name) if place is None else Rank(1, place, name)
            self._ranks[table] = found
            if keys_of_table(table).are_integers:
                self._numbered[table] = found
        return found

    def row(self, table: Table, key: tuple[Any, ...]) -> Resource:
        """The row with this primary key, its values in the order of `table.primary_key`.

        However they are spelled. Raises `ConfigurationError` for what can't be such a key.
        """
        rank = self._numbered.get(table)
        if rank is not None and are_integers(key):
            return numbered(rank, key)
        plain, own = keys_of_table(table).read(key)
        return row(self.rank(table), own, plain)

    def known(self) -> list[Table]:
        """The tables that were asked for so far."""
        return list(self._ranks)

    def up_to(self, rank: Rank) -> list[Table]:
        """The tables that were asked for so far and stand there or before, in order."""
        found = {one: table for table, one in self._ranks.items() if one <= rank}
        return [table for _, table in sorted(found.items())]

    def table_of(self, resource: Resource) -> Table:
        """The table of a row that `row` was asked for."""
        return self._by_name[resource.rank.name]


@functools.lru_cache(maxsize=4096)
def tables_of(mapper: Mapper[Any]) -> tuple[Table, ...]:
    """The tables that a mapped class is stored in, the base of an inheritance first."""
    return tuple(table for table in mapper.tables if isinstance(table, Table))


def translated(options: Mapping[str, Any]) -> Any:
    """The other schemas that execution options put tables into: lock queries don't follow those.

    Of a statement; a connection's or engine's hold for all that is sent.
    """
    return options.get("schema_translate_map") or None


def _depth(table: Table) -> int:
    parents = {
        one.fullname: {key.column.table.fullname for key in one.foreign_keys if _resolves(key)}
        for one in table.metadata.tables.values()
    }
    return depths(parents)[table.fullname]


def _resolves(key: Any) -> bool:
    # A foreign key to a table that no model has is the database's own affair.
    try:
        return key.column is not None
    except Exception:
        return False

"""What models and units tell about a table that a statement names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sqlalchemy import MetaData, SelectBase, Table
from sqlalchemy.sql import visitors

from ..policies.lock_graph import LockClass
from ..policies.locks.order import Rank
from ..sql.lock_requests import TableFacts
from .locks.schema import locking_columns

if TYPE_CHECKING:
    from .unit import Unit


def metadata_of(statement: object) -> set[MetaData]:
    """Where the tables of a compiled statement are from."""
    table = getattr(statement, "table", None)
    if isinstance(table, Table):
        return {table.metadata}
    if not isinstance(statement, SelectBase):
        return set()
    return {part.metadata for part in visitors.iterate(statement) if isinstance(part, Table)}


def facts_of(models: Iterable[MetaData], name: str, schema: str | None) -> TableFacts | None:
    """The table that is called so; `schema`: the one that names without one are in."""
    names = (name,) if "." in name else (name, f"{schema}.{name}")
    for metadata in models:
        for each in names:
            if each in metadata.tables:
                return _facts(metadata.tables[each], schema)
    return None


def _facts(table: Table, schema: str | None) -> TableFacts:
    primary = frozenset(column.name for column in table.primary_key.columns)
    keys = frozenset(column.name for column in locking_columns(table))
    parents = {}
    for key in table.foreign_key_constraints:
        targets = [element.target_fullname.rpartition(".") for element in key.elements]
        parent = targets[0][0].removeprefix(f"{schema}.")
        own = tuple(element.parent.name for element in key.elements)
        parents[own] = (parent, tuple(column for _, _, column in targets))
    columns = tuple(column.name for column in table.columns)
    return TableFacts(primary, keys, parents, columns)


def ranks_of(unit: Unit) -> dict[str, Rank]:
    """By their names, where tables stand in the order of a unit's locks."""
    schema = unit.home.rules.dialect.default_schema_name
    tables = unit.home.tables
    return {each.fullname.removeprefix(f"{schema}."): tables.rank(each) for each in tables.known()}


def is_late(held: LockClass, taken: LockClass, ranks: Mapping[str, Rank]) -> bool:
    """Whether units take a lock before another one that they hold, if they wait for it at all."""
    before, after = ranks.get(held.resource), ranks.get(taken.resource)
    return before is not None and after is not None and after < before

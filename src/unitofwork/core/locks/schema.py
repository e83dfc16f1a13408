"""What the schema says about locks: foreign keys from and to a table, and its unique keys."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.sql.elements import UnaryExpression

from .tables import key_columns

Columns = tuple[Column[Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A foreign key."""

    child: Table
    columns: Columns
    parent: Table
    #: What `columns` refer to, one by one.
    referred: Columns
    #: Where the parts of the parent's key stand in `columns`; None where another key is meant.
    key_order: tuple[int, ...] | None
    on_delete: str
    on_update: str

    def parent_key(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The parent's key, of `values` of `columns`. Only where `key_order` is there."""
        assert self.key_order is not None
        return tuple(values[place] for place in self.key_order)


def links_from(table: Table) -> tuple[Link, ...]:
    """The foreign keys of a table, as far as they lead to tables that are known."""
    return _links(table.metadata).outgoing.get(table, ())


def links_to(table: Table) -> tuple[Link, ...]:
    """The foreign keys that lead to a table."""
    return _links(table.metadata).incoming.get(table, ())


@dataclass(slots=True)
class _Links:
    tables: int
    outgoing: dict[Table, tuple[Link, ...]]
    incoming: dict[Table, tuple[Link, ...]]


_known: WeakKeyDictionary[MetaData, _Links] = WeakKeyDictionary()


def _links(metadata: MetaData) -> _Links:
    known = _known.get(metadata)
    if known is None or known.tables != len(metadata.tables):  # models may be imported late
        known = _known[metadata] = _Links(len(metadata.tables), {}, {})
        for table in metadata.tables.values():
            links = filter(None, map(_link, table.foreign_key_constraints))
            for link in sorted(links, key=_names):
                known.outgoing[table] = (*known.outgoing.get(table, ()), link)
                known.incoming[link.parent] = (*known.incoming.get(link.parent, ()), link)
    return known


@functools.lru_cache(maxsize=4096)
def locking_columns(table: Table) -> frozenset[Column[Any]]:
    """The columns whose change takes the lock that foreign keys to the row wait for.

    On PostgreSQL: those of unique indexes that a foreign key could refer to, so neither partial
    ones nor ones of expressions.
    """
    found: set[Column[Any]] = set()
    for constraint in table.constraints:
        if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)):
            found.update(constraint.columns)
    for index in table.indexes:
        if index.unique and index.dialect_options["postgresql"]["where"] is None:
            found.update(_plain_columns(index) or ())
    return frozenset(found)


@functools.lru_cache(maxsize=4096)
def unique_keys(table: Table) -> tuple[Columns, ...]:
    """The sets of columns that are unique, without the primary key."""
    found = [tuple(one.columns) for one in table.constraints if isinstance(one, UniqueConstraint)]
    found += [columns for one in table.indexes if one.unique and (columns := _plain_columns(one))]
    return tuple(sorted(found, key=lambda columns: [column.name for column in columns]))


def _plain_columns(index: Index) -> Columns | None:
    columns = []
    for expression in index.expressions:
        while isinstance(expression, UnaryExpression):  # DESC, NULLS FIRST
            expression = expression.element
        if not isinstance(expression, Column):
            return None
        columns.append(expression)
    return tuple(columns)


def _link(key: ForeignKeyConstraint) -> Link | None:
    try:
        elements = [(one.parent, one.column) for one in key.elements]
    except InvalidRequestError:  # it leads to a table that no model has
        return None
    columns = tuple(column for column, _ in elements)
    referred = tuple(column for _, column in elements)
    parent = referred[0].table
    assert isinstance(parent, Table)
    place = {column: number for number, column in enumerate(referred)}
    wanted: Iterable[Column[Any]] = key_columns(parent)
    same = set(place) == set(wanted)
    return Link(
        child=key.table,
        columns=columns,
        parent=parent,
        referred=referred,
        key_order=tuple(place[column] for column in wanted) if same else None,
        on_delete=(key.ondelete or "NO ACTION").upper(),
        on_update=(key.onupdate or "NO ACTION").upper(),
    )


def _names(link: Link) -> list[str]:
    return [link.child.fullname, *(column.name for column in link.columns), link.parent.fullname]

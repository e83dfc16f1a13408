"""What the schema says about locks: foreign keys from and to a table, and its unique keys."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
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
    event,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm.mapper import _all_registries
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, TextClause, UnaryExpression

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
    #: Of `columns`, those that ON DELETE SET NULL and SET DEFAULT change.
    given_up: Columns
    #: It may be checked at COMMIT only: SET CONSTRAINTS defers what is deferrable.
    deferred: bool

    def parent_key(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The parent's key, of `values` of `columns`. Only where `key_order` is there."""
        assert self.key_order is not None
        return tuple(values[place] for place in self.key_order)


@functools.lru_cache(maxsize=4096)
def links_from(table: Table) -> tuple[Link, ...]:
    """The foreign keys of a table, as far as they lead to tables that are known."""
    _meet(table.metadata)
    return tuple(sorted(filter(None, map(_link, table.foreign_key_constraints)), key=_names))


@functools.lru_cache(maxsize=4096)
def links_to(table: Table) -> tuple[Link, ...]:
    """The foreign keys that lead to a table, also from tables of another MetaData."""
    _meet(table.metadata)
    # There is no public way to ask for all mapped classes.
    mapped = {registry.metadata for registry in _all_registries()}
    met = {one for ref in _met.keyrefs() if (one := ref()) is not None}
    tables = [one for metadata in mapped | met for one in list(metadata.tables.values())]
    found = [link for one in tables for link in links_from(one) if link.parent is table]
    return tuple(sorted(found, key=_names))


#: Of tables that are not mapped, too.
_met: WeakKeyDictionary[MetaData, None] = WeakKeyDictionary()


def _meet(metadata: MetaData) -> None:
    if metadata not in _met:
        _met[metadata] = None
        links_to.cache_clear()


@event.listens_for(Table, "after_parent_attach")
def _forget(_table: Table, metadata: MetaData) -> None:
    # Models may be imported late.
    _met[metadata] = None
    links_from.cache_clear()
    links_to.cache_clear()


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


@functools.lru_cache(maxsize=4096)
def server_default(column: Column[Any]) -> Any:
    """The value of a default that is a literal in the schema; None: it has none, or another one."""
    default = getattr(column.server_default, "arg", None)
    if isinstance(default, TextClause):
        literal = _LITERAL.fullmatch(default.text)
        default = literal and (literal[1] or literal[2].replace("''", "'"))
    try:
        kind = column.type.python_type
        return kind(default) if isinstance(default, str) and kind in _PLAIN else None
    except (NotImplementedError, ValueError, ArithmeticError):
        return None


#: A number, or a text in quotes.
_LITERAL = re.compile(r"\s*(?:([+-]?\d+)|'((?:[^']|'')*)')\s*")
_PLAIN = (int, str, Decimal, uuid.UUID)


def _plain_columns(index: Index) -> Columns | None:
    """What PostgreSQL takes for columns; None where it is an expression."""
    columns = []
    for expression in index.expressions:
        column = _plain_column(index, expression)
        if column is None:
            return None
        columns.append(column)
    return tuple(columns)


def _plain_column(index: Index, expression: Any) -> Column[Any] | None:
    if isinstance(expression, UnaryExpression):  # DESC, NULLS FIRST
        return _plain_column(index, expression.element)
    if isinstance(expression, BinaryExpression) and expression.operator is operators.collate:
        return _plain_column(index, expression.left)
    if isinstance(expression, TextClause) and (found := _NAME.match(expression.text)):
        name = found[1] or found[2].lower()
        table = index.table
        columns = () if table is None else table.columns
        return next((column for column in columns if column.name == name), None)
    return expression if isinstance(expression, Column) else None


#: A column in the text of an index, and how it is sorted.
_NAME = re.compile(
    r'\s*(?:"([^"]+)"|(\w+))\s*(?:COLLATE\s+\S+\s*)?(?:ASC|DESC|NULLS|FIRST|LAST|\s)*\Z',
    re.IGNORECASE,
)


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
    on_delete, listed = _action(key.ondelete)
    return Link(
        child=key.table,
        columns=columns,
        parent=parent,
        referred=referred,
        key_order=tuple(place[column] for column in wanted) if same else None,
        on_delete=on_delete,
        on_update=_action(key.onupdate)[0],
        given_up=tuple(one for one in columns if one.name in listed) or columns,
        deferred=bool(key.deferrable) or (key.initially or "").upper() == "DEFERRED",
    )


def _action(clause: str | None) -> tuple[str, set[str]]:
    """What happens to the children, and the columns that PostgreSQL's clause limits it to."""
    action, _, listed = (clause or "NO ACTION").partition("(")
    names = (one.strip(" )") for one in listed.split(","))
    return " ".join(action.upper().split()), {
        one[1:-1].replace('""', '"') if one.startswith('"') else one.lower() for one in names
    }


def _names(link: Link) -> list[str]:
    return [link.child.fullname, *(column.name for column in link.columns), link.parent.fullname]

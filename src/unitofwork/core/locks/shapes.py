"""How a mapped class lies in its tables: which attribute is which column of which row."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper, RelationshipProperty

from .schema import Link, links_from, links_to, locking_columns, unique_keys
from .tables import key_columns, tables_of

#: Attribute names, one per column; None where a column is not mapped.
Attributes = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The row that an object has in one table."""

    table: Table
    #: The attributes of its primary key, in the table's order.
    key: Attributes
    columns: dict[str, Column[Any]]
    #: Those whose change takes the lock that foreign keys wait for.
    locking: frozenset[str]
    #: Those, and those of foreign keys, that every UPDATE sets by itself: by `onupdate`, or because
    #: they are generated.
    following: frozenset[str]
    outgoing: tuple[tuple[Link, Attributes], ...]
    #: Of these, the ones to the object's own row in a base's table.
    to_base: frozenset[Link]
    unique: tuple[tuple[tuple[Column[Any], ...], Attributes], ...]
    #: The row that the version counter is in.
    has_version: bool
    #: The tables of its class's inheritance.
    family: frozenset[Any]

    def incoming(self) -> tuple[tuple[Link, Attributes], ...]:
        """The foreign keys that lead to the row from elsewhere, by the attributes they refer to."""
        return _incoming(self, links_to(self.table))


@functools.lru_cache(maxsize=4096)
def _incoming(part: Part, links: tuple[Link, ...]) -> tuple[tuple[Link, Attributes], ...]:
    of = {column: attribute for attribute, column in part.columns.items()}
    return tuple(
        (link, tuple(of.get(column) for column in link.referred))
        for link in links
        if not _is_inheritance(link, part.family)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """How the objects of one mapped class lie in their tables."""

    #: The base of an inheritance first.
    parts: tuple[Part, ...]
    #: Where in the identity of an object each attribute of its primary keys stands.
    identity: dict[str, int]
    #: Whether two values of a column are the same to a flush.
    equal: dict[str, Callable[[Any, Any], Any]]
    relationships: tuple[RelationshipProperty[Any], ...]
    #: The attributes of all parts whose change takes the lock that foreign keys wait for.
    locking: frozenset[str]
    #: The attributes of the other columns: a change of these alone concerns no other object's row.
    plain: frozenset[str]
    #: Those of them that are no part of a foreign key, nor of any unique index.
    unlinked: frozenset[str]
    #: The identity of its objects sorts in Python as in the order of locks, and nothing but that,
    #: and what refers to what, sets the order of their UPDATEs.
    sorts_by_key: bool

    def column(self, attribute: str) -> Column[Any]:
        """The column of an attribute, the base's where an inheritance has several."""
        return next(part.columns[attribute] for part in self.parts if attribute in part.columns)


@functools.lru_cache(maxsize=4096)
def shape_of(mapper: Mapper[Any]) -> Shape:
    """The shape of a mapped class."""
    family = frozenset(one.local_table for one in mapper.base_mapper.self_and_descendants)
    parts = tuple(_part(mapper, table, family) for table in tables_of(mapper))
    relationships = tuple(one for one in mapper.relationships if not one.viewonly)
    manager = mapper.class_manager
    equal = {key: manager[key].impl.is_equal for part in parts for key in part.columns}
    locking = frozenset[str]().union(*(part.locking for part in parts))
    plain = frozenset(equal) - locking
    keys = [keys for part in parts for keys in (*part.outgoing, *part.unique)]
    linked = {attribute for _, attributes in keys for attribute in attributes}
    return Shape(
        parts=parts,
        identity=_identity(mapper, parts),
        equal=equal,
        relationships=relationships,
        locking=locking,
        plain=plain,
        unlinked=plain - linked,
        sorts_by_key=(
            len(mapper.base_mapper.self_and_descendants) == len(parts) == 1
            and mapper.batch
            and all(column.type.sort_key_function is None for column in mapper.primary_key)
        ),
    )


def _identity(mapper: Mapper[Any], parts: tuple[Part, ...]) -> dict[str, int]:
    places = {
        mapper.get_property_by_column(column).key: place
        for place, column in enumerate(mapper.primary_key)
    }
    for part in parts:
        for link in part.to_base:  # the same values in the row of a sub-table
            for column, referred in zip(link.columns, link.referred, strict=True):
                place = places.get(mapper.get_property_by_column(referred).key)
                if place is not None:
                    places.setdefault(mapper.get_property_by_column(column).key, place)
    return places


def _part(mapper: Mapper[Any], table: Table, family: frozenset[Any]) -> Part:
    columns = {
        attribute.key: column
        for attribute in mapper.column_attrs
        for column in attribute.columns
        if isinstance(column, Column) and column.table is table
    }
    of = {column: attribute for attribute, column in columns.items()}

    def attributes(wanted: tuple[Column[Any], ...]) -> Attributes:
        return tuple(of.get(column) for column in wanted)

    locking, links = locking_columns(table), links_from(table)
    version = mapper.version_id_col
    return Part(
        table=table,
        key=attributes(key_columns(table)),
        columns=columns,
        locking=frozenset(of[column] for column in locking if column in of),
        following=frozenset(
            of[column]
            for column in {*locking, *(column for link in links for column in link.columns)}
            if column in of
            if column.onupdate is not None or column.server_onupdate is not None
        ),
        outgoing=tuple((link, attributes(link.columns)) for link in links),
        to_base=frozenset(
            link for link in links if link.parent in family and _is_inheritance(link, family)
        ),
        unique=tuple((key, attributes(key)) for key in unique_keys(table)),
        has_version=version is not None and version in of,
        family=family,
    )


def _is_inheritance(link: Link, family: frozenset[Any]) -> bool:
    # An object's rows in its own tables go together; a flush deletes each of them itself.
    return link.child in family and set(link.columns) == set(key_columns(link.child))

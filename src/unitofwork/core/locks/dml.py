"""What an update(), delete() or insert() says about the rows that it is going to write."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Delete, Insert, Table, Update, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    ClauseElement,
    ColumnElement,
    Grouping,
    Tuple,
)
from sqlalchemy.sql.selectable import FromClause

from .tables import key_columns
from .values import Unknown, default_of, is_expression

#: A value that the database will compute.
COMPUTED: Any = Unknown.COMPUTED
#: What a row has, and keeps.
STAYS: Any = Unknown.UNLOADED
Row = Mapping[Column[Any], Any]
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Which table's rows a statement writes."""

    table: Table
    #: The table as the statement names it: itself, or an alias.
    source: FromClause
    #: The mapped class, or alias of one; None in Core.
    entity: Any
    mapper: Mapper[Any] | None

    def columns(self, key: Any) -> list[Column[Any]]:
        """The columns that a key of `values()` or of a parameter set stands for.

        That may be the name of an attribute, or, as in an update() with one parameter set, of a
        column.
        """
        if self.mapper is not None and isinstance(key, str):
            attribute = self.mapper.column_attrs.get(key)
            if attribute is not None:
                return [column for column in attribute.columns if isinstance(column, Column)]
        name = key if isinstance(key, str) else getattr(key, "key", None)
        if name is None or name not in self.table.c:
            return []
        return [self.table.c[name]]


def target_of(statement: Update | Delete | Insert) -> Target | None:
    """The target, if its rows have keys by which they can be locked.

    Those of a table without a primary key, only an INSERT can do without: what other columns say
    may be NULL, or the same in many rows.
    """
    source: FromClause = statement.table
    description = _described(statement)
    table = description.get("table")
    if not isinstance(table, Table) or not key_columns(table):
        return None
    if any(column.key not in source.c for column in key_columns(table)):
        return None
    if not table.primary_key and not isinstance(statement, Insert):
        return None
    entity = description.get("entity")
    return Target(table, source, entity, None if entity is None else inspect(entity).mapper)


def _described(statement: Update | Delete | Insert) -> Mapping[str, Any]:
    try:
        return statement.entity_description
    except KeyError:  # of a table, with a mapped attribute in its WHERE: SQLAlchemy's own mistake
        return {"table": statement.table}


def assigned(
    statement: Update, target: Target, parameters: Iterable[Parameters]
) -> dict[Column[Any], Any] | None:
    """The columns that an UPDATE sets: their value, or the expression, or COMPUTED.

    None if it can't be told.
    """
    found: dict[Column[Any], Any] = {}
    # There is no public way to ask a statement for its values.
    given = dict(statement._values or getattr(statement, "_ordered_values", None) or {})
    for key, value in given.items():
        columns = target.columns(key)
        if not columns:
            return None
        found.update(dict.fromkeys(columns, value))
    for one in parameters:
        for key in one:
            found.update(dict.fromkeys(target.columns(key), COMPUTED))
    for column in target.table.columns:
        is_set = column.onupdate is not None or column.server_onupdate is not None
        if is_set and column.computed is None:
            found.setdefault(column, COMPUTED)
    found.update(generated(target.table, found))
    return found


def generated(table: Table, changed: Iterable[Column[Any]]) -> dict[Column[Any], Any]:
    """The columns that the database generates from those that change: all are COMPUTED."""
    names = [column.name for column in changed]
    return {
        column: COMPUTED
        for column in table.columns
        if column.computed is not None and _says_one(str(column.computed.sqltext), names)
    }


def _says_one(text: str, names: Iterable[str]) -> bool:
    # A name with other signs may be written in several ways.
    return any(
        not name.isidentifier() or re.search(rf"\b{name}\b", text, re.IGNORECASE) for name in names
    )


def value_of(value: Any, parameters: Parameters) -> Any:
    """A plain value as it will be sent; COMPUTED for an expression."""
    if isinstance(value, BindParameter):
        return parameters.get(value.key, COMPUTED if value.required else value.effective_value)
    return COMPUTED if is_expression(value) else value


def keys_in(
    where: ColumnElement[bool] | None, target: Target, parameters: Parameters
) -> list[tuple[Any, ...]] | None:
    """The primary keys that WHERE names one by one, by equality or IN; None if it does not."""
    own = [target.source.c[column.key] for column in key_columns(target.table)]
    named: dict[int, list[Any]] = {}
    for part in _conjuncts(where):
        match _equality(part, parameters):
            case Tuple() as left, values:
                whole = [each for each in left.clauses if isinstance(each, ColumnElement)]
                if len(whole) == len(own) and all(map(_same, whole, own)):
                    return _known(map(tuple, values))
            case left, values:
                for place, column in enumerate(own):
                    if place not in named and _same(left, column):
                        named[place] = values
                        break
            case _:
                pass
    if len(named) < len(own):
        return None
    return _known(itertools.product(*(named[place] for place in range(len(own)))))


def _known(keys: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Each once; no row has one that is partly NULL."""
    return [key for key in dict.fromkeys(keys) if not any(part is None for part in key)]


def _same(one: Any, column: Any) -> bool:
    # == would make an expression of them; an ORM attribute's column hashes like the table's.
    return one in {column}


def _conjuncts(where: Any) -> Iterator[ColumnElement[bool]]:
    if isinstance(where, Grouping):
        yield from _conjuncts(where.element)
    elif isinstance(where, BooleanClauseList) and where.operator is operators.and_:
        for clause in where.clauses:
            yield from _conjuncts(clause)
    elif where is not None:
        yield where


def _equality(part: Any, parameters: Parameters) -> tuple[Any, list[Any]] | None:
    if not isinstance(part, BinaryExpression):
        return None
    left, right = part.left, part.right
    if part.operator is operators.in_op and isinstance(right, BindParameter):
        values = value_of(right, parameters)
        if isinstance(values, (list, tuple, set, frozenset)):
            plain = not any(isinstance(value, ClauseElement) for value in values)
            return (left, list(values)) if plain else None
    if part.operator is operators.eq:
        if isinstance(left, BindParameter):
            left, right = right, left
        value = value_of(right, parameters)
        return None if value is COMPUTED else (left, [value])
    return None


def rows_inserted(
    statement: Insert, target: Target, parameters: list[Parameters]
) -> list[dict[Column[Any], Any]]:
    """The rows of an INSERT, as far as their values are known.

    What a default will compute is left out; what an expression will is COMPUTED.
    """
    multiple: Any = [each for group in statement._multi_values for each in group]
    common = dict(statement._values or {})
    if multiple:
        return [_row(target, each, {}) for each in multiple]
    return [_row(target, {**common, **one}, one) for one in parameters or [{}]]


def _row(target: Target, values: Any, parameters: Parameters) -> dict[Column[Any], Any]:
    if not isinstance(values, Mapping):
        values = dict(zip((column.key for column in target.table.c), values, strict=False))
    row: dict[Column[Any], Any] = {}
    for key, value in values.items():
        row.update(dict.fromkeys(target.columns(key), value_of(value, parameters)))
    for column in target.table.columns:
        if column not in row and not isinstance(default := default_of(column), Unknown):
            row[column] = default
    return row

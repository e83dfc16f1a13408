"""The rows of an INSERT in the order of what may conflict between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Column, Index, Insert, Table

from ...errors import ConfigurationError
from ...policies.locks.order import comparable
from .dml import COMPUTED, Parameters, Target, rows_inserted
from .keys import forms_of_columns
from .schema import Columns, unique_keys
from .tables import key_columns

Values = Mapping[Column[Any], Any]
if TYPE_CHECKING:
    # Else each program would pay for the import of dialects that it may not use.
    from sqlalchemy.dialects.mysql.dml import OnDuplicateClause
    from sqlalchemy.dialects.postgresql.dml import OnConflictClause

Conflict: TypeAlias = "OnConflictClause | OnDuplicateClause"


@dataclass(frozen=True, slots=True)
class Sorted:
    """An INSERT whose rows are sorted."""

    statement: Insert
    parameters: Any
    #: As they were given.
    rows: Sequence[Values]
    #: The unique columns that they are sorted by; None: they are not.
    by: Columns | None


def sort_rows(statement: Insert, parameters: Any, target: Target) -> Sorted:
    """The same INSERT with its rows sorted by their conflict target, or key, if that is known."""
    rows = rows_inserted(statement, target, parameter_sets(parameters))
    by = _sort_columns(statement, target, rows)
    if by is None or len(rows) < 2:
        return Sorted(statement, parameters, rows, by)
    values = [tuple(row[column] for column in by) for row in rows]
    try:
        keys = [tuple(map(comparable, forms_of_columns(by).read(each)[0])) for each in values]
    except ConfigurationError:  # NaN, which has no place in an order
        return Sorted(statement, parameters, rows, None)
    places = sorted(range(len(rows)), key=keys.__getitem__)
    if places == list(range(len(rows))):
        return Sorted(statement, parameters, rows, by)
    if statement._sort_by_parameter_order:
        # Results that were asked for in the order of the parameters would come in another one.
        return Sorted(statement, parameters, rows, None)
    if not statement._multi_values:
        return Sorted(statement, [parameters[place] for place in places], rows, by)
    given: Any = [each for group in statement._multi_values for each in group]
    # values() can only add rows to a statement.
    found = statement._generate()
    found._multi_values = ([given[place] for place in places],)
    return Sorted(found, parameters, rows, by)


def parameter_sets(parameters: Any) -> list[Parameters]:
    """The sets of parameters that a statement was given, none or one or many."""
    if isinstance(parameters, Mapping):
        return [parameters]
    return [one for one in parameters or () if isinstance(one, Mapping)]


def conflict_of(statement: Insert) -> Conflict | None:
    """The statement's ON CONFLICT, or ON DUPLICATE KEY."""
    clause = getattr(statement, "_post_values_clause", None)
    return clause if getattr(clause, "__visit_name__", None) in (*_ON_CONFLICT, _MYSQL) else None


def updates_on_conflict(conflict: Conflict | None) -> bool:
    """Whether rows that are there already are changed, by PostgreSQL's clause."""
    return conflict is not None and conflict.__visit_name__ == _ON_CONFLICT[0]


_ON_CONFLICT = ("on_conflict_do_update", "on_conflict_do_nothing")
_MYSQL = "on_duplicate_key_update"


def _sort_columns(statement: Insert, target: Target, rows: Sequence[Values]) -> Columns | None:
    conflict, key = conflict_of(statement), key_columns(target.table)
    named = None if conflict is None else _target_of(conflict)
    if named is not None:
        columns = _columns_of(named, target.table)
        candidates = [] if columns is None else [columns]
    else:
        candidates = [key, *unique_keys(target.table)]
    for columns in candidates:
        if not any(row.get(column, COMPUTED) is COMPUTED for row in rows for column in columns):
            return key if set(columns) == set(key) else columns
    return None


def _target_of(conflict: Any) -> str | list[Any] | None:
    """What ON CONFLICT names as its target: a constraint, or elements of an index."""
    if conflict.__visit_name__ == _MYSQL:
        return None
    target: str | list[Any] | None = conflict.constraint_target
    return conflict.inferred_target_elements if target is None else target


def _columns_of(named: str | list[Any], table: Table) -> Columns | None:
    """The columns that a conflict's target stands for; None where it is more than columns."""
    elements = _constraint(table, named) if isinstance(named, str) else named
    names = [one.name if isinstance(one, Column) else one for one in elements]
    by_name = {column.name: column for column in table.columns}
    found = [by_name[one] for one in names if isinstance(one, str) and one in by_name]
    return tuple(found) if found and len(found) == len(names) else None


def _constraint(table: Table, wanted: str) -> Sequence[Any]:
    named: list[Any] = [*table.constraints, *table.indexes]
    for one in named:
        if one.name == wanted:
            return list(one.expressions if isinstance(one, Index) else getattr(one, "columns", ()))
    return key_columns(table) if wanted == f"{table.name}_pkey" else ()

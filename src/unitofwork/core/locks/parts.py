"""What a statement is made of: parts that write or lock too, and what may not be read twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import BindParameter, ColumnClause, Insert, Table, TableSample, TextClause
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import GenerativeSelect

from ...policies.statements import is_more_than_read, is_volatile, shows_volatile


def writes_elsewhere(statement: UpdateBase) -> bool:
    """Whether a part of it writes or locks rows as well: which, nobody can tell beforehand.

    And a query that is made of its parts would do it once more.
    """
    return any(map(_writes, _parts(_roots(statement))))


def may_differ(*clauses: Any) -> bool:
    """Whether clauses say something else the next time, with the same rows."""
    return any(map(_differs, _parts(one for one in clauses if isinstance(one, ClauseElement))))


def _writes(part: ClauseElement) -> bool:
    if isinstance(part, UpdateBase):
        return True
    if isinstance(part, GenerativeSelect):
        return part._for_update_arg is not None
    text = _text_of(part)
    return text is not None and is_more_than_read(text)


def _differs(part: ClauseElement) -> bool:
    if isinstance(part, FunctionElement):
        return is_volatile(getattr(part, "name", ""))
    if isinstance(part, TableSample):
        return True
    text = _text_of(part)
    return text is not None and shows_volatile(text)


def _text_of(part: ClauseElement) -> str | None:
    if isinstance(part, ColumnClause):
        return part.name if part.is_literal else None
    return part.text if isinstance(part, TextClause) else None


def _roots(statement: UpdateBase) -> Iterable[ClauseElement]:
    children: Iterable[ClauseElement] = statement.get_children()
    if not isinstance(statement, Insert):
        return children
    # Some of the values of an INSERT, SQLAlchemy does not count among the children.
    conflict: Any = statement._post_values_clause
    rows: list[Any] = [each for group in statement._multi_values for each in group]
    rows.append(dict(getattr(conflict, "update_values_to_set", ())))
    rows.append([getattr(conflict, "update_whereclause", None)])
    values = (row.values() if isinstance(row, Mapping) else row for row in rows)
    more = (one for row in values for one in row if isinstance(one, ClauseElement))
    return itertools.chain(children, more)


def _parts(roots: Iterable[ClauseElement]) -> Iterator[ClauseElement]:
    """All that are made of others or name something, behind a column also what it is from."""
    waiting, met = list(roots), set[Any]()
    while waiting:
        part = waiting.pop()
        if isinstance(part, _LEAVES):
            continue
        if not isinstance(part, ColumnClause):
            yield part
            waiting.extend(part.get_children())
        elif part.is_literal:
            yield part
        elif not isinstance(part.table, Table | None) and part.table not in met:
            met.add(part.table)  # a subquery or WITH that is named nowhere else
            waiting.append(part.table)


_LEAVES = (BindParameter, Table)

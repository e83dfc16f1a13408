"""Values of columns as a flush will write them, as far as they are known before it."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import Column, ColumnDefault
from sqlalchemy.sql.elements import ClauseElement

from .schema import server_default


class Unknown(enum.Enum):
    """Why a value is not known before the flush."""

    #: The key of a row that the flush will insert: nobody else can see that row.
    NEW = enum.auto()
    #: The database or a default will compute it.
    COMPUTED = enum.auto()
    #: The row is there, but this column of it was not loaded.
    UNLOADED = enum.auto()


#: Of these nearly all values are.
_PLAIN = {int, str, float, bool, bytes, type(None)}


def is_expression(value: Any) -> bool:
    """Whether the database will compute the value."""
    if type(value) in _PLAIN:
        return False
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def default_of(column: Column[Any]) -> Any:
    """What a new row gets in a column for which its object has no value."""
    default = column.default
    if isinstance(default, ColumnDefault) and default.is_scalar:
        return default.arg
    if default is None and (literal := server_default(column)) is not None:
        return literal
    is_computed = default is not None or column.server_default is not None
    return Unknown.COMPUTED if is_computed or column.primary_key else None


def all_known(values: tuple[Any, ...]) -> bool:
    """Whether each is there, and a value."""
    return not any(value is None or isinstance(value, Unknown) for value in values)

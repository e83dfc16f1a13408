"""Whether a statement locks rows that its transaction has locked before, as far as values tell."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..sql.parsing import LockRequest

#: How many values of one statement are kept.
MANY_VALUES = 2_000


class Rows(enum.Enum):
    """How the rows of a request compare with what the transaction has locked in that table."""

    FIRST = 0
    SAME = 1
    OTHER = 2
    UNKNOWN = 3
    #: In a table into which it has inserted: probably its own new row.
    OWN = 4


class RowsSeen:
    """The values by which one transaction has named rows."""

    __slots__ = ("inserted", "values")

    def __init__(self) -> None:
        #: By table.
        self.values: dict[str, set[object]] = {}
        self.inserted: set[str] = set()

    def compare(self, request: LockRequest, parameters: Any) -> Rows:
        """Judge by the values in the WHERE; where there are none, remember all that are sent."""
        resource = request.lock.resource
        if resource in self.inserted:
            return Rows.OWN
        found = (
            _named_values(request, parameters) if request.parameters or request.literals else None
        )
        before = self.values.get(resource)
        if before is None:
            self.values[resource] = found or set(_values_of(parameters))
            return Rows.FIRST
        if found and found <= before:
            return Rows.SAME
        before.update(found or _values_of(parameters))
        return Rows.OTHER if found else Rows.UNKNOWN


def _sets(parameters: Any) -> Iterable[Any]:
    """The sets of parameters: one, or those of an executemany."""
    if isinstance(parameters, list) and parameters and isinstance(parameters[0], Mapping | tuple):
        return parameters
    return (parameters,)


def _flat(value: Any) -> Iterator[object]:
    if isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _flat(part)
    elif value.__hash__ is not None:
        yield value


def _values_of(parameters: Any) -> list[object]:
    values: list[object] = []
    for one in _sets(parameters):
        for value in one.values() if isinstance(one, Mapping) else one or ():
            values.extend(_flat(value))
            if len(values) > MANY_VALUES:
                return values
    return values


def _named_values(request: LockRequest, parameters: Any) -> set[object]:
    found: set[object] = set(request.literals)
    for one in _sets(parameters):
        for key in request.parameters:
            try:
                value = one[key]
            except (KeyError, IndexError, TypeError):
                continue
            if isinstance(value, list | tuple):
                found.update(_flat(value))
            elif value.__hash__ is not None:
                found.add(value)
    return found

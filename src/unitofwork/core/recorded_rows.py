"""Whether a statement locks rows that its transaction has locked before, as far as values tell."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..sql.lock_requests import Literal

if TYPE_CHECKING:
    from ..sql.lock_requests import Inserted, LockRequest

#: So many values of one statement are looked at: that keeps its cost from depending on them.
MANY_VALUES = 12
#: So many values are kept of each table.
MANY_ROWS = 2_000
_LISTS = frozenset({list, tuple})
_SETS = (Mapping, tuple)
_PLAIN = frozenset({int, str, UUID})
_NO_VALUES = _LISTS | {type(None)}


class Rows(enum.IntEnum):
    """How the rows of a request compare with what the transaction has locked in that table."""

    FIRST = 0
    SAME = 1
    OTHER = 2
    #: Nothing names them.
    UNKNOWN = 3
    #: Named, but a statement that named none, or too many, may have locked them.
    MAYBE = 4
    #: Its own new rows, or probably so: nothing names them, and it has inserted into that table.
    OWN = 5
    #: There are no rows: no key, or NULL for one.
    NONE = 6


#: To look up a member of an enumeration takes a tenth of a microsecond on Python 3.11.
_FIRST, _SAME, _OTHER, _UNKNOWN, _MAYBE, _OWN, _NONE = Rows


class _Seen:
    """What one transaction has locked in one table."""

    __slots__ = ("by", "is_open", "made", "makes_any", "values")

    def __init__(self) -> None:
        #: The columns whose values are kept; others can't be compared with them.
        self.by: tuple[str, ...] | None = None
        #: In the order in which they came, as keys.
        self.values: dict[object, None] = {}
        #: There are rows beside that nothing has named.
        self.is_open = False
        #: The values of rows that it has inserted, and whether there are others beside.
        self.made: dict[object, None] = {}
        self.makes_any = False


#: What was seen of each table at a savepoint.
Mark = dict[str, tuple[int, bool, int, bool]]


class RowsSeen:
    """The values by which one transaction has named rows."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[str, _Seen] = {}

    def compare(self, request: LockRequest, parameters: Any) -> Rows:
        """Judge by the values that name the rows, and remember them."""
        if request.exact:
            return _SAME
        resource = request.lock.resource
        seen = self._tables.get(resource)
        if seen is None:
            seen = self._tables[resource] = _Seen()
        if request.only is not None:
            try:
                value = parameters[request.only]
            except (KeyError, IndexError, TypeError):
                value = None
            if type(value) in _PLAIN:
                return _compare_one(seen, request, value)
        elif request.values is not None and seen.values and _are_known(seen, request, parameters):
            return _SAME
        values, are_all = _values_of(request, parameters)
        if are_all and not values:
            return _NONE
        try:
            return _compare(seen, request, values, are_all)
        except TypeError:  # a value that has no hash
            seen.is_open = True
            return _MAYBE

    def insert(self, inserted: Inserted, parameters: Any) -> None:
        """Remember rows as the transaction's own."""
        seen = self._tables.setdefault(inserted.table, _Seen())
        rows = inserted.rows
        values, are_all = ((), False) if rows is None else _values_of(rows, parameters)
        comparable = rows is not None and seen.by in (None, rows.by)
        seen.makes_any = seen.makes_any or not (are_all and values and comparable)
        if rows is None or seen.makes_any:
            return
        try:
            seen.made.update(dict.fromkeys(values))
        except TypeError:  # a value that has no hash
            seen.makes_any = True
        seen.by = rows.by
        seen.makes_any = seen.makes_any or len(seen.made) > MANY_ROWS

    def mark(self) -> Mark:
        """What was seen until now, to go back to."""
        return {
            name: (len(seen.values), seen.is_open, len(seen.made), seen.makes_any)
            for name, seen in self._tables.items()
        }

    def back_to(self, mark: Mark) -> None:
        """Forget what was seen since."""
        for name, seen in list(self._tables.items()):
            if name not in mark:
                del self._tables[name]
                continue
            values, seen.is_open, made, seen.makes_any = mark[name]
            for kept, length in ((seen.values, values), (seen.made, made)):
                while len(kept) > length:
                    kept.popitem()


def _compare_one(seen: _Seen, request: LockRequest, value: object) -> Rows:
    """The plain case, which is the most frequent."""
    known = seen.values
    if request.by and not (seen.made or seen.makes_any):
        is_known = seen.by == request.by
        if is_known and value in known:
            return _SAME
        if not seen.is_open and len(known) < MANY_ROWS:
            if seen.by is None:
                seen.by = request.by
                known[value] = None
                return _FIRST
            if is_known and known and type(value) is type(next(iter(known))):
                known[value] = None
                return _OTHER
    return _compare(seen, request, (value,), True)


def _are_known(seen: _Seen, request: LockRequest, parameters: Any) -> bool:
    """Whether a list names nothing but what was locked before."""
    if seen.by != request.by or request.more or seen.made or seen.makes_any:
        return False
    if request.values is None or type(parameters) is list:
        return False
    try:
        return all(map(seen.values.__contains__, request.values(parameters)))
    except (KeyError, IndexError, TypeError):
        return False


def _compare(seen: _Seen, request: LockRequest, values: Sequence[object], are_all: bool) -> Rows:
    known = seen.values
    is_first = not known and not seen.is_open
    if not values:
        if seen.makes_any or seen.made:
            return _OWN
        seen.is_open = True
        return _FIRST if is_first else _UNKNOWN
    if seen.makes_any:
        return _OWN
    if seen.by is None:
        seen.by = request.by or None
    if not request.by or seen.by != request.by:
        seen.is_open = True
        return _FIRST if is_first else _MAYBE
    if seen.made and are_all and all(value in seen.made for value in values):
        return _OWN
    was_open = seen.is_open
    is_full = len(known) >= MANY_ROWS
    seen.is_open = was_open or is_full or not are_all
    if all(map(known.__contains__, values)):
        return _SAME if are_all else _MAYBE
    missing = [value for value in values if value not in known]
    # One value can be written in several ways: 7 and "7" may be one row.
    of_a_kind = is_first or type(missing[0]) is type(next(iter(known), missing[0]))
    if not is_full:
        known.update(dict.fromkeys(missing))
    if is_first:
        return _FIRST
    return _OTHER if of_a_kind and not was_open else _MAYBE


_NOT_NAMED: tuple[Sequence[object], bool] = ((), False)


def _values_of(request: LockRequest, parameters: Any) -> tuple[Sequence[object], bool]:
    """The values that name rows, not more than are looked at, and whether these are all."""
    only = request.only
    try:
        if only is not None and type(parameters) is not list:
            return _flat(parameters[only])
        if request.values is not None and type(parameters) is not list:
            several = request.values(parameters)
            if _NO_VALUES.isdisjoint(map(type, several)):
                return several, not request.more
        if not request.keys:
            return _NOT_NAMED
        is_many = isinstance(parameters, list) and parameters and isinstance(parameters[0], _SETS)
        return _of_all(request, parameters if is_many else (parameters,))
    except (KeyError, IndexError, TypeError):
        return _NOT_NAMED


def _of_all(request: LockRequest, sets: Sequence[Any]) -> tuple[Sequence[object], bool]:
    """Of an executemany, or of several keys."""
    keys, found = request.keys, list[object]()
    head = sets[: max(1, MANY_VALUES // len(keys))]
    are_all = len(head) == len(sets) and not request.more
    for one in head:
        for key in keys:
            parts = [part.value if isinstance(part, Literal) else one[part.key] for part in key]
            if len(parts) > 1:
                if not any(part is None for part in parts):
                    found.append(tuple(parts))
            elif parts[0] is None:
                continue
            elif type(parts[0]) in _LISTS:
                values, whole = _flat(parts[0])
                are_all = are_all and whole
                found.extend(values)
            else:
                found.append(parts[0])
    return found, are_all


def _flat(value: Any) -> tuple[Sequence[object], bool]:
    """The values that a parameter stands for; NULL is none."""
    if value is None:
        return (), True
    if type(value) not in _LISTS:
        return (value,), True
    values = [each for each in value[:MANY_VALUES] if each is not None]
    return values, len(value) <= MANY_VALUES

"""The one order over everything that a unit can lock: names, then tables by rank, then keys."""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import math
import uuid
from collections.abc import Iterable, Mapping
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any, NamedTuple

from ...errors import ConfigurationError


class Rank(NamedTuple):
    """Where a table stands among all tables. Compares by tier, then place, then name."""

    #: 0 names, 1 tables in the pinned lock-order file, 2 all other tables.
    tier: int
    #: The line of the pinned file; of other tables how many foreign keys lead down to them.
    place: int
    #: The table with its schema.
    name: str


NAMES = Rank(0, 0, "")


class Resource(NamedTuple):
    """One row, or one name. Resources compare in the global order."""

    rank: Rank
    #: The key in a form that sorts the same in every process.
    order: tuple[Any, ...]
    #: The key's values as a loaded object has them (a name's as they were given).
    key: tuple[Any, ...]

    def __str__(self) -> str:
        what = self.rank.name if self.rank is not NAMES else "name"
        return f"{what} {self.key[0] if len(self.key) == 1 else self.key!r}"


def row(rank: Rank, key: tuple[Any, ...], plain: tuple[Any, ...] | None = None) -> Resource:
    """The row of a table with this primary key. Raises `ConfigurationError` for NaN.

    `plain`: what to sort by instead of values that are of classes of the application's.
    """
    return Resource(rank, tuple(map(comparable, key if plain is None else plain)), key)


def numbered(rank: Rank, key: tuple[int, ...]) -> Resource:
    """The same of a key of whole numbers, sooner: nearly all keys are."""
    if len(key) == 1:
        return Resource(rank, ((_NUMBER, key[0]),), key)
    return Resource(rank, tuple([(_NUMBER, value) for value in key]), key)


def name(parts: tuple[Any, ...]) -> Resource:
    """A name made of parts; its key on the server is a signed 64-bit hash, its place the same.

    Parts that are equal make one name: 1, 1.0 and Decimal("1.00"), or a moment in two time zones.
    Raises `ConfigurationError` for what is called differently in each process, or may change.
    """
    if not parts:
        raise ConfigurationError("A name to lock needs a part.", 'lock_name("invoices", 2026).')
    text = repr([_called(part) for part in parts])
    try:
        hash(parts)
    except TypeError as error:
        raise ConfigurationError(
            f"{parts!r} can't be a name: {error}, so it may change.",
            'pass its parts one by one, or a tuple: lock_name("invoices", 2026), '
            'lock_names=[("invoices", 2026)].',
        ) from error
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return Resource(NAMES, (int.from_bytes(digest, "big", signed=True),), parts)


#: What numbers begin with in `comparable`.
_NUMBER = 1


def _called(part: Any) -> tuple[str, str]:
    """What a part of a name is called, in every process and on every version of Python."""
    if _is_nan(part):
        return "int", "nan"
    kind, value = comparable(part)
    match kind:
        case 1 if value in (math.inf, -math.inf):
            return "int", str(float(value))
        case 1:
            # Without an exponent where none is needed, so that a number is called as an int is.
            return "int", f"{_EXACT.normalize(Decimal(value)):f}" if value else "0"
        case 2:
            return "str", value
        case _:
            return str(kind), str(value)


_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def _is_nan(value: Any) -> bool:
    match value:
        case Decimal():
            return value.is_nan()
        case float():
            return math.isnan(value)
        case _:
            return False


def comparable(value: Any) -> tuple[int, Any]:
    """A form of a key's value that any other value's form can be compared with.

    Sorted here and sent in that order, so that no collation of the server has a say:
    text goes by code point, UUIDs as numbers, plain enums by label, NULL first. Raises
    `ConfigurationError` for NaN, which has no place in an order, and for objects that say of
    themselves nothing but where in memory they are.
    """
    if type(value) is int:  # nearly all of them
        return _NUMBER, value
    match value:
        case None:
            return 0, 0
        case enum.Enum():
            # One that is text or a number as well may come back from its column as just that.
            return comparable(value.value) if isinstance(value, str | int) else (2, value.name)
        case bool() | int():
            return 1, int(value)
        case float() | Decimal():
            if _is_nan(value):
                raise ConfigurationError(
                    "NaN was given as a key: it has no place in any order.", "use another key."
                )
            return 1, value
        case str():
            return 2, value
        case bytes() | bytearray() | memoryview():
            return 3, bytes(value)
        case uuid.UUID():
            return 4, value.int
        case dt.datetime():
            if value.tzinfo is None:
                return 6, value
            return 5, value.astimezone(dt.UTC).replace(tzinfo=None)
        case dt.date():
            return 7, value.toordinal()
        case dt.timedelta():
            return 8, value
        case _:
            # Any order will do that is the same in every process.
            text = f"{type(value).__name__} {value}"
            if " at 0x" in text:
                raise ConfigurationError(
                    f"{text} is called differently in each process, so it has no place in an "
                    "order that all of them share.",
                    "give its class a __str__ of its value; as a key, a TypeDecorator that makes "
                    "a number or text of it.",
                )
            return 9, text


def depths(parents: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How deep each table is: 0 without parents, else one more than its deepest parent.

    `parents`: the tables that each one's foreign keys point at. Tables in a circle of foreign
    keys share a depth. A table's depth depends on its ancestors alone, so models that are
    imported later move nothing.
    """
    known: dict[str, int] = {}
    for component in _components(parents):
        above = {parent for table in component for parent in parents.get(table, ())}
        depth = max((known[parent] + 1 for parent in above - set(component)), default=0)
        known.update(dict.fromkeys(component, depth))
    return known


def _components(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Tarjan's strongly connected components, each after all that it leads to."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found

"""Keys by the types of their columns: the one form of each value, and how it is sent."""

from __future__ import annotations

import datetime as dt
import functools
import operator
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Table,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.types import CHAR, NCHAR, NullType, TypeDecorator, TypeEngine, UserDefinedType

Convert = Callable[[Any], Any]


class Form(NamedTuple):
    """What the values of a column look like: to Python, to the order of locks, to the server."""

    #: One value for all spellings of it, which sorts; raises for what can't be one.
    plain: Convert
    #: Before that: what a TypeDecorator, or an Enum, makes of the value that Python has.
    bound: Convert | None
    #: Back, to what a loaded object has; None: only the server knows how it has spelled it.
    own: Convert | None
    #: Casts what Python has, and cuts or rounds nothing to another value.
    kind: TypeEngine[Any]
    #: The same for plain values.
    bare: TypeEngine[Any]
    #: Plain values that differ are different to the server, and `own` is how it spells them.
    is_spelled_once: bool = True

    def read(self, value: Any) -> Any:
        """The plain form of what Python has."""
        return self.plain(value if self.bound is None else self.bound(value))


@functools.lru_cache(maxsize=4096)
def key_columns(table: Table) -> tuple[Column[Any], ...]:
    """The primary key's columns, in the table's own order.

    Of a table without one, such as one that only links two others, its foreign keys' columns.
    """
    own = tuple(table.primary_key.columns)
    return own or tuple(column for column in table.columns if column.foreign_keys)


@functools.lru_cache(maxsize=4096)
def has_other_spellings(table: Table) -> bool:
    """Whether unequal Python values can be the same key on the server.

    `char(n)` pads, citext and nondeterministic collations fold, and of a type that is not known
    here anything may be true.
    """
    return not all(form_of(column.type).is_spelled_once for column in key_columns(table))


@functools.lru_cache(maxsize=4096)
def types_sent(table: Table | None) -> tuple[TypeEngine[Any], ...]:
    """The types of a table's keys on their way to the server; of names without a table."""
    if table is None:
        return (BigInteger(),)
    return tuple(form_of(column.type).kind for column in key_columns(table))


@functools.lru_cache(maxsize=4096)
def form_of(kind: TypeEngine[Any]) -> Form:
    """The form of a column's type on PostgreSQL, where rows are locked by their keys."""
    kind = getattr(kind, "_variant_mapping", {}).get("postgresql", kind)
    if isinstance(kind, Interval):  # a TypeDecorator for the databases that have none
        return Form(_same, None, _same, Interval(), Interval())
    return _decorated(kind) if isinstance(kind, TypeDecorator) else _form(kind)


def _decorated(kind: TypeDecorator[Any]) -> Form:
    """By the value that it makes: a class of the application's has no order but that one."""
    dialect, cls = _postgresql(), type(kind)
    inner = form_of(kind.load_dialect_impl(dialect))
    own = inner.own
    if own is not None and cls.process_result_value is not TypeDecorator.process_result_value:
        inner_own = own

        def own(plain: Any) -> Any:
            return kind.process_result_value(inner_own(plain), dialect)

    bound = inner.bound
    if cls.process_bind_param is not TypeDecorator.process_bind_param:
        inner_bound = inner.bound or _same

        def bound(value: Any) -> Any:
            return inner_bound(kind.process_bind_param(value, dialect))

    return inner._replace(bound=bound, own=own, kind=_Sent(kind))


def _form(kind: TypeEngine[Any]) -> Form:
    form = functools.partial(_simple, kind)
    match kind:
        case Integer():
            return form(_integer)
        case Float():
            is_single = isinstance(kind, REAL) or (kind.precision or 53) <= 24
            if is_single or kind.asdecimal:
                # To be compared as what it is; what Python has of it is the driver's choice.
                plain = _single if is_single else float
                return Form(plain, None, None, _Sent(kind), Double(), is_spelled_once=False)
            return form(float)
        case Numeric():
            if kind.asdecimal:
                return form(_decimal, Numeric())
            return Form(_decimal, None, float, _Sent(kind), Numeric())
        case Enum():
            return _enum(kind)
        case CHAR() | NCHAR():
            return Form(_text, None, None, _Padded(), _Padded(), is_spelled_once=False)
        case _ if kind.__visit_name__ == "CITEXT":
            return Form(_text, None, None, kind, kind, is_spelled_once=False)
        case String():
            return Form(_text, None, _same, Text(), Text(), kind.collation is None)
        case Uuid() if kind.as_uuid or kind.native_uuid:
            own: Convert = _same if kind.as_uuid else str
            return Form(_uuid, None, own, kind, Uuid(native_uuid=kind.native_uuid))
        case Uuid():
            return form(_text)._replace(own=None, is_spelled_once=False)
        case DateTime():
            return form(_same, DateTime(kind.timezone))
        case Time():
            return form(_same, Time(kind.timezone))
        case Date():
            return form(_same)
        case Boolean():
            return form(_boolean)
        case LargeBinary():
            return form(_bytes)
        case _ if kind.__visit_name__ in ("INET", "CIDR"):
            # Objects and text; psycopg sends no list of both.
            return Form(str, None, None, _Sent(kind), kind, is_spelled_once=False)
        case _ if _python_type(kind) is dt.timedelta:
            return form(_same, Interval())
        case _:
            bound = _binds(kind)
            return Form(_same, bound, None, kind, kind, is_spelled_once=False)


def _simple(kind: TypeEngine[Any], plain: Convert, uncut: TypeEngine[Any] | None = None) -> Form:
    return Form(plain, None, _same, uncut or kind, uncut or kind)


def _enum(kind: Enum) -> Form:
    loads: Any = kind.result_processor
    return Form(_text, _binds(kind), loads(_postgresql(), None), kind, kind)


def _binds(kind: TypeEngine[Any]) -> Convert | None:
    processor: Any = kind.bind_processor
    found: Convert | None = processor(_postgresql())
    return found


class _Sent(TypeDecorator[Any]):
    """Binds keys of a column's type in their plain form."""

    impl = NullType
    cache_ok = True

    def __init__(self, kind: TypeEngine[Any]) -> None:
        super().__init__()
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return form_of(self.kind).bare

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else form_of(self.kind).read(value)


class _Padded(UserDefinedType[str]):
    """`char(n)` without its length, for which SQLAlchemy has no name."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "BPCHAR"


@functools.cache
def _postgresql() -> Dialect:
    # Else each program would pay for the import of a dialect that it may not use.
    from sqlalchemy.dialects.postgresql.base import PGDialect

    dialect: Any = PGDialect
    made: Dialect = dialect()
    return made


def _python_type(kind: TypeEngine[Any]) -> type[Any] | None:
    try:
        return kind.python_type
    except NotImplementedError:
        return None


# --- the one form of values


def _same(value: Any) -> Any:
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, (str, float, Decimal)):
        return int(operator.index(value))
    number = _decimal(value)
    if number != number.to_integral_value():
        raise ValueError("not a whole number")
    return int(number)


def _decimal(value: Any) -> Decimal:
    try:
        # What a float is called, not the binary number that it is.
        return Decimal(float.__repr__(value) if isinstance(value, float) else value)
    except InvalidOperation as error:
        raise ValueError("not a number") from error


def _single(value: Any) -> float:
    """A number as `real` holds it; one that it would round is another one, and stays as it is."""
    number = float(value)
    try:
        stored = _rounded(number)
    except OverflowError:
        return number
    digits = (float(f"{stored:.{count}g}") for count in range(6, 10))
    shortest = next((one for one in digits if _rounded(one) == stored), stored)
    return stored if number == shortest else number


def _rounded(number: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # of an enum that is text, its value
    if isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool):
        return str(value)
    raise TypeError("not text")


def _uuid(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _bytes(value: Any) -> bytes:
    return bytes(memoryview(value))  # not so many zeros, of a number


def _boolean(value: Any) -> bool:
    if value not in (True, False):
        raise ValueError("neither true nor false")
    return bool(value)

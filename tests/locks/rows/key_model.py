"""Tables by the type of their key, each with two keys and other spellings of the first."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

from sqlalchemy import (
    CHAR,
    DECIMAL,
    NUMERIC,
    REAL,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Enum,
    Float,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Time,
    Unicode,
    UnicodeText,
    Uuid,
)
from sqlalchemy.dialects.postgresql import INET, INTERVAL, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Word(str, enum.Enum):  # noqa: UP042
    RED = "r"
    BLUE = "b"


class Short(TypeDecorator[str]):
    impl = String(3)
    cache_ok = True


class Prefixed(TypeDecorator[str]):
    """To Python "u_7", to the server 7."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: str | None, _: Dialect) -> int | None:
        return None if value is None else int(value.removeprefix("u_"))

    def process_result_value(self, value: int | None, _: Dialect) -> str | None:
        return None if value is None else f"u_{value}"


class Point:
    """A value object that says of itself only where in memory it is."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)


class AsNumber(TypeDecorator[Point]):
    impl = BigInteger
    cache_ok = True
    sort_key_function = staticmethod(lambda value: value.number)

    def process_bind_param(self, value: Point | None, _: Dialect) -> int | None:
        return None if value is None else value.number

    def process_result_value(self, value: int | None, _: Dialect) -> Point | None:
        return None if value is None else Point(value)


class Anywhere(TypeDecorator[uuid.UUID]):
    """The well-known recipe: the server's own type where there is one."""

    impl = CHAR(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        own = Uuid() if dialect.name == "postgresql" else CHAR(36)
        return dialect.type_descriptor(own)


class Interwoven(UserDefinedType[Point]):
    """A type of the application's own."""

    cache_ok = True
    sort_key_function = staticmethod(lambda value: value.number)

    def get_col_spec(self, **_: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Dialect) -> Any:
        return lambda value: None if value is None else f"p{value.number}"

    def result_processor(self, dialect: Dialect, coltype: Any) -> Any:
        return lambda value: None if value is None else Point(int(value[1:]))


NOON = dt.datetime(2026, 1, 1, 12)
DAY = dt.timedelta(days=1)
IDS = [uuid.UUID(int=0xABC), uuid.UUID(int=3)]
#: The type, two keys as a loaded object has them, and other spellings of the first.
KINDS: dict[str, tuple[TypeEngine[Any], list[Any], list[Any]]] = {
    "integer": (Integer(), [10, 9], ["10", 10.0, Decimal("10.0")]),
    "numeric": (NUMERIC(8, 2), [Decimal("1.50"), Decimal(-2)], [1.5, "1.5", Decimal("1.500")]),
    "decimal": (DECIMAL(8, 2), [Decimal(2), Decimal("-2.5")], [2, 2.0, "2"]),
    "numeric_float": (Numeric(8, 2, asdecimal=False), [1.51, 0.1], [Decimal("1.51"), "1.51"]),
    "float": (Float(), [0.1, -3.5], [Decimal("0.1"), "0.1"]),
    "double": (Double(), [2.0, -3.5], [2, Decimal(2)]),
    "real": (REAL(), [0.5, -3.25], [Decimal("0.5")]),
    "unicode": (Unicode(3), ["abc", "b"], []),
    "unicode_text": (UnicodeText(), ["abc", "b"], []),
    "decorated_text": (Short(), ["abc", "b"], []),
    "other_on_the_server": (Integer().with_variant(BigInteger(), "postgresql"), [2**40, 1], []),
    "seconds": (TIMESTAMP(precision=0), [NOON, NOON - DAY], []),
    "moment": (DateTime(), [NOON, NOON - DAY], []),
    "time": (Time(), [dt.time(3, 4), dt.time(1, 2)], []),
    "interval": (Interval(), [DAY, -DAY], []),
    "native_interval": (INTERVAL(precision=0), [DAY, -DAY], []),
    "enum": (Enum(Colour, name="kt_colour"), [Colour.RED, Colour.BLUE], ["RED"]),
    "enum_as_text": (
        Enum(Colour, native_enum=False, name="kt_colours"),
        [Colour.RED, Colour.BLUE],
        ["RED"],
    ),
    "enum_of_text": (Enum("z", "a", name="kt_letters"), ["z", "a"], []),
    "enum_by_value": (
        Enum(Word, name="kt_word", values_callable=lambda cls: [one.value for one in cls]),
        [Word.RED, Word.BLUE],
        ["r"],
    ),
    "uuid": (Uuid(), IDS, [str(IDS[0]), str(IDS[0]).upper()]),
    "uuid_text": (Uuid(as_uuid=False), list(map(str, IDS)), [str(IDS[0]).upper(), IDS[0]]),
    "uuid_char": (Uuid(native_uuid=False), IDS, [str(IDS[0]).upper()]),
    "uuid_recipe": (Anywhere(), IDS, [str(IDS[0])]),
    "bytes": (LargeBinary(), [b"\x01", b"\x00z"], [bytearray(b"\x01")]),
    "boolean": (Boolean(), [True, False], [1]),
    "char": (CHAR(4), ["ab  ", "zz  "], ["ab", "ab "]),
    "inet": (INET(), list(map(ip_address, ["10.0.0.2", "10.0.0.1"])), ["10.0.0.2", "10.0.0.2/32"]),
    "prefixed": (Prefixed(), ["u_10", "u_9"], ["10"]),
    "value_object": (AsNumber(), [Point(2), Point(1)], []),
    "own_type": (Interwoven(), [Point(2), Point(1)], []),
}


def entity(name: str, kind: TypeEngine[Any]) -> Any:
    columns = {
        "__tablename__": f"kt_{name}",
        "key": Column(kind, primary_key=True, autoincrement=False),
        "n": Column(Integer, default=0),
    }
    return type(name, (Base,), columns)


CLASSES: dict[str, Any] = {name: entity(name, kind) for name, (kind, _, _) in KINDS.items()}


class ChildOfPrefixed(Base):
    __tablename__ = "kt_child_of_prefixed"
    id = Column(Integer, primary_key=True, autoincrement=False)
    parent = Column(Integer, ForeignKey("kt_prefixed.key", ondelete="CASCADE"))


class ChildOfChar(Base):
    __tablename__ = "kt_child_of_char"
    id = Column(Integer, primary_key=True, autoincrement=False)
    parent = Column(CHAR(4), ForeignKey("kt_char.key"))


class ChildOfUuid(Base):
    __tablename__ = "kt_child_of_uuid"
    id = Column(Integer, primary_key=True, autoincrement=False)
    parent = Column(Uuid(as_uuid=False), ForeignKey("kt_uuid.key"))

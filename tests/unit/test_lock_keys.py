"""Values of unique columns by their names, and the options of lock calls."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    REAL,
    Column,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Uuid,
)
from sqlalchemy.dialects.postgresql import CITEXT

from unitofwork import ConfigurationError
from unitofwork.core.locks.how import How
from unitofwork.core.locks.names import name_of_value
from unitofwork.core.locks.tables import Tables
from unitofwork.sql.key_types import form_of


class Colour(enum.Enum):
    RED = "r"


WIDE = Table(
    "wide",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("amount", Numeric(9, 2), unique=True),
    Column("price", Numeric(9, 2, asdecimal=False), unique=True),
    Column("code", String(9), unique=True),
    Column("colour", Enum(Colour), unique=True),
    Column("token", Uuid(as_uuid=False), unique=True),
    Column("blob", LargeBinary, unique=True),
    Column("size", REAL, unique=True),
)
UUID = "0000000a-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("amount", [1, 1.0, Decimal(1), Decimal("1.00"), "1"]),
        ("price", [0.1, Decimal("0.1"), "0.10"]),
        ("code", ["1", 1]),
        ("colour", [Colour.RED, "RED"]),
        ("token", [UUID, UUID.upper()]),
        ("blob", [b"a", bytearray(b"a")]),
        ("size", [0.1, 0.10000000149011612]),
    ],
)
def test_equal_values_are_one_name(column: str, values: list[Any]) -> None:
    """However Python spells what a unique column is to get."""
    columns = (WIDE.c[column],)
    assert len({name_of_value(WIDE, columns, (value,)).order for value in values}) == 1


def test_what_cannot_be_in_the_column() -> None:
    """The error says which value of which column."""
    with pytest.raises(ConfigurationError, match="'ten' can't be the 'id' of wide"):
        Tables().row(WIDE, ("ten",))


@pytest.mark.parametrize("timeout", [0.001, 1, 2_147_483])
def test_timeouts_that_the_server_takes(timeout: float) -> None:
    """Up to 24 days."""
    assert How.of(timeout=timeout).timeout == timeout


@pytest.mark.parametrize(
    "timeout", [0, -1, 0.0001, 2_147_484, 1e9, float("inf"), float("nan"), True, "1"]
)
def test_timeouts_that_it_does_not_take(timeout: Any) -> None:
    """They are refused before any I/O."""
    with pytest.raises(ConfigurationError, match=r"seconds from 0\.001 to 2,147,483"):
        How.of(timeout=timeout)


def test_citext_has_several_spellings() -> None:
    """The server is asked which one is stored; a comparison as text would find none."""
    form = form_of(CITEXT())
    assert not form.is_spelled_once
    assert isinstance(form.kind, CITEXT)

"""Keys sort in Python as the server sorts them: lock queries that others wrote agree with ours."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from unitofwork.policies.locks.order import comparable
from unitofwork.testing.postgres import EmbeddedPostgres

#: Where a byte-wise, a linguistic and a case-blind order differ.
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "aB",
    "b",
    "B",
    "_",
    "a b",
    "a-b",
    "ä",
    "z",
    "é",
    "\uffff",
    "\U0001d4b3",
    "10",
    "9",
]
EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ZONES = [dt.timezone(dt.timedelta(hours=hours)) for hours in (-11, 0, 5.75, 14)]
Draw = Callable[[random.Random], Any]
KINDS: dict[str, Draw] = {
    "bigint": lambda r: r.choice([r.randint(-5, 5), r.randint(-(2**63), 2**63 - 1)]),
    "numeric": lambda r: Decimal(r.randint(-(10**6), 10**6)).scaleb(r.randint(-9, 9)),
    "double precision": lambda r: r.choice([float("inf"), -0.5, r.uniform(-1e300, 1e300), -1e-300]),
    "uuid": lambda r: uuid.UUID(int=r.getrandbits(128)),
    'text COLLATE "C"': lambda r: "".join(r.choices(TEXTS, k=r.randint(1, 3))),
    "timestamptz": lambda r: (EPOCH + dt.timedelta(seconds=r.randint(-(9**9), 9**9))).astimezone(
        r.choice(ZONES)
    ),
    "timestamp": lambda r: dt.datetime(2026, 1, 1) + dt.timedelta(microseconds=r.randint(-99, 99)),
    "date": lambda r: dt.date.fromordinal(r.randint(1, 3_000_000)),
    "interval": lambda r: dt.timedelta(days=r.randint(-99, 99), microseconds=r.randint(0, 10**9)),
    "bytea": lambda r: r.randbytes(r.randint(0, 4)),
    "boolean": lambda r: r.random() < 0.5,
}


def sorted_by_the_server(postgres: EmbeddedPostgres, types: list[str], rows: list[Any]) -> Any:
    """The rows' numbers in the order of the server, which breaks ties by the number."""
    names = [f"k{at}" for at in range(len(types))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
    with psycopg.connect(postgres.url(None)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE key_order (n int, {columns})")
        cursor.executemany(
            f"INSERT INTO key_order VALUES (%s{', %s' * len(types)})",
            [(number, *row) for number, row in enumerate(rows)],
        )
        cursor.execute(f"SELECT n FROM key_order ORDER BY {', '.join(names)}, n")
        return [number for (number,) in cursor.fetchall()]


def sorted_here(rows: list[tuple[Any, ...]]) -> list[int]:
    return sorted(range(len(rows)), key=lambda at: (tuple(map(comparable, rows[at])), at))


@pytest.mark.parametrize("kind", KINDS)
def test_one_column(postgres: EmbeddedPostgres, kind: str) -> None:
    """300 keys of a type: equal values are one key to both, all others go the same way."""
    draw = random.Random(kind)
    rows = [(KINDS[kind](draw),) for _ in range(300)]
    assert sorted_by_the_server(postgres, [kind], rows) == sorted_here(rows)


def test_several_columns(postgres: EmbeddedPostgres) -> None:
    """300 composite keys of three types, with many ties in the first two."""
    draw = random.Random(4)
    rows = [(draw.choice(TEXTS), draw.randint(-2, 2), KINDS["uuid"](draw)) for _ in range(300)]
    types = ['text COLLATE "C"', "int", "uuid"]
    assert sorted_by_the_server(postgres, types, rows) == sorted_here(rows)


def test_an_enum_that_the_server_sorts_by_declaration(postgres: EmbeddedPostgres) -> None:
    """Here the two differ: so the order is made in Python, and no lock query may sort by a key."""
    postgres.psql("CREATE TYPE key_size AS ENUM ('small', 'medium', 'large')")
    try:
        rows = [(one,) for one in ("small", "medium", "large")]
        assert sorted_by_the_server(postgres, ["key_size"], rows) == [0, 1, 2]
        assert sorted_here(rows) == [2, 1, 0]
    finally:
        postgres.psql("DROP TYPE key_size")

"""What the recorder reads from SQL: tables, strengths, whether it waits, which rows."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select
from sqlalchemy.dialects import postgresql

from unitofwork.policies.locks.book import Strength
from unitofwork.sql.parsing import Statement, TableFacts, read
from unitofwork.sql.row_locks import Step, Wait, load_statement, lock_statement

FACTS = {
    "a": TableFacts(frozenset({"id"}), frozenset({"id", "slug"}), {}),
    "child": TableFacts(frozenset({"id"}), frozenset({"id"}), {"a_id": "a"}),
}


def parsed(sql: str, dialect: str = "postgresql") -> Statement:
    return read(sql, dialect, FACTS.get)


def locks(sql: str, dialect: str = "postgresql") -> list[str]:
    """Each lock as the report writes it; `~` before it: does not wait, `*` behind: several rows."""
    return [
        f"{'' if request.waits else '~'}{request.lock}{'*' if request.many else ''}"
        for request in parsed(sql, dialect).locks
    ]


CASES = [
    ("SELECT * FROM a", []),
    ("SELECT count(*) FROM a WHERE f(x) = 1", []),
    ("SELECT * FROM a WHERE id = $1 FOR UPDATE", ["a (UPDATE)"]),
    ("SELECT * FROM a WHERE id = %(id)s::INTEGER FOR SHARE", ["a (SHARE)"]),
    ("SELECT * FROM a WHERE v > 1 FOR KEY SHARE", ["a (KEY SHARE)*"]),
    ("SELECT * FROM a WHERE v > 1 ORDER BY id FOR NO KEY UPDATE", ["a (NO KEY UPDATE)"]),
    ("SELECT * FROM a WHERE id IN ($1, $2) FOR UPDATE", ["a (UPDATE)*"]),
    ("SELECT * FROM a WHERE id = 1 FOR UPDATE NOWAIT", ["~a (UPDATE)"]),
    ("SELECT * FROM a ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", ["~a (UPDATE)"]),
    ("SELECT * FROM a JOIN b ON a.id = b.x WHERE a.id = 1 FOR UPDATE OF b", ["b (UPDATE)*"]),
    ("SELECT * FROM s.b x, a WHERE a.id = 1 FOR UPDATE OF x FOR SHARE OF a",
     ["s.b (UPDATE)*", "a (SHARE)"]),
    ("UPDATE a SET v = $1 WHERE a.id = $2", ["a (NO KEY UPDATE)"]),
    ("UPDATE a SET slug = $1 WHERE a.id = $2", ["a (UPDATE)"]),
    ("UPDATE a SET v = 1 WHERE v = 0", ["a (NO KEY UPDATE)*"]),
    ("UPDATE child SET a_id = 3 WHERE id = 1", ["child (NO KEY UPDATE)", "a (KEY SHARE)"]),
    ("DELETE FROM a WHERE id = ANY($1)", ["a (UPDATE)*"]),
    ("DELETE FROM a WHERE id IN (SELECT id FROM b FOR UPDATE)", ["b (UPDATE)*", "a (UPDATE)*"]),
    ("INSERT INTO a (id, v) VALUES (1, 2)", []),
    ("INSERT INTO child (id, a_id) VALUES ($1, $2)", ["a (KEY SHARE)"]),
    ("INSERT INTO a (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET v = 1", ["a (NO KEY UPDATE)"]),
    ("INSERT INTO a (id) VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET v = 1",
     ["a (NO KEY UPDATE)*"]),
    ("INSERT INTO a (id) VALUES (1) ON CONFLICT DO NOTHING", []),
    ("WITH l AS (SELECT 1 FROM b WHERE id = 4 FOR UPDATE) UPDATE a SET v = 1 FROM l WHERE a.id = 4",
     ["b (UPDATE)", "a (NO KEY UPDATE)"]),
    ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN UPDATE SET v = 1",
     ["a (NO KEY UPDATE)*"]),
    ("LOCK TABLE a, s.b IN EXCLUSIVE MODE", ["a (whole table)", "s.b (whole table)"]),
    ("LOCK TABLE a IN ROW EXCLUSIVE MODE", []),
    ("TRUNCATE a", ["a (whole table)"]),
    ("ALTER TABLE IF EXISTS a ADD COLUMN x int", ["a (whole table)"]),
    ("SELECT pg_advisory_xact_lock(42)", ["named lock 42 (UPDATE)"]),
    ("SELECT pg_try_advisory_xact_lock_shared($1)", ["~named locks (SHARE)"]),
    ("SELECT 'for update' AS text FROM a", []),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), CASES, ids=[sql for sql, _ in CASES])
def test_the_locks_of_a_statement(sql: str, expected: list[str]) -> None:
    """In the order in which the server takes them."""
    assert parsed(sql).readable
    assert locks(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM a WHERE id = %s LOCK IN SHARE MODE", ["a (SHARE)"]),
        ("UPDATE a SET v = 1 WHERE id = %s", ["a (UPDATE)"]),
        ("INSERT INTO child (id, a_id) VALUES (%s, %s)", ["a (SHARE)"]),
        ("INSERT INTO a (id) VALUES (%s) ON DUPLICATE KEY UPDATE v = 1", ["a (UPDATE)"]),
    ],
)
def test_mysql_knows_two_strengths(sql: str, expected: list[str]) -> None:
    """Writers take the whole row, and a foreign key shares the parent."""
    assert locks(sql, "mysql") == expected


@pytest.mark.parametrize(
    ("sql", "dialect", "keys"),
    [
        ("UPDATE a SET v = $1 WHERE id = $2", "postgresql", (1,)),
        ("UPDATE a SET v = %(v)s WHERE a.id = %(a_id)s", "postgresql", ("a_id",)),
        ("UPDATE a SET v = ? WHERE id = ?", "sqlite", (1,)),
        ("UPDATE a SET v = 1 WHERE id IN (7, 8) AND v > 3", "postgresql", (7, 8)),
        ("UPDATE a SET v = 1 WHERE v = 3", "postgresql", ()),
        ("INSERT INTO child (a_id, id) VALUES ($1, $2)", "postgresql", (0,)),
    ],
)
def test_the_values_that_name_the_rows(sql: str, dialect: str, keys: tuple[object, ...]) -> None:
    """Those of the key's columns, whatever the driver's placeholders look like."""
    request = parsed(sql, dialect).locks[0]
    assert request.literals + request.parameters == keys


@pytest.mark.parametrize("sql", ["DO $$ BEGIN UPDATE a SET v = 1; END $$", "UPDATE a BOGUS b"])
def test_what_is_not_understood_says_so(sql: str) -> None:
    """It is no error, and it is not silent."""
    assert not parsed(sql).readable


def test_the_lock_queries_of_units_are_read() -> None:
    """Names first, then tables in the order of the query; late ones do not wait."""
    a = Table("a", MetaData(), Column("id", Integer, primary_key=True))
    steps = (Step(None, Strength.UPDATE), Step(a, Strength.KEY_SHARE))
    text = str(lock_statement(steps, Wait.NOWAIT).compile(dialect=postgresql.dialect()))
    assert locks(text) == ["~named locks (UPDATE)", "~a (KEY SHARE)"]
    text = str(lock_statement(steps, Wait.BLOCK).compile(dialect=postgresql.dialect()))
    assert locks(text) == ["named locks (UPDATE)", "a (KEY SHARE)"]
    for places in (2, 0):
        step = Step(a, Strength.NO_KEY_UPDATE, places)
        load = select(load_statement(step, Wait.BLOCK, limited=True).locked)
        assert locks(str(load.compile(dialect=postgresql.dialect()))) == ["a (NO KEY UPDATE)"]

"""What the recorder reads from SQL: tables, strengths, whether it waits, which rows."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

from unitofwork.policies.locks.book import Strength
from unitofwork.sql.lock_requests import Literal, LockRequest, Statement, TableFacts
from unitofwork.sql.parsing import read
from unitofwork.sql.row_locks import Step, Wait, load_statement, lock_statement

FACTS = {
    "a": TableFacts(frozenset({"id"}), frozenset({"id", "slug"}), {}),
    "child": TableFacts(
        frozenset({"id"}), frozenset({"id"}), {("a_id",): ("a", ("id",))}, ("id", "a_id")
    ),
    "child_of_pair": TableFacts(
        frozenset({"id"}), frozenset({"id"}), {("y", "x"): ("pair", ("y", "x"))}
    ),
    "pair": TableFacts(
        frozenset({"x", "y"}), frozenset({"x", "y"}), {("x", "a_id"): ("a", ("owner", "id"))}
    ),
}


def parsed(sql: str, dialect: str = "postgresql") -> tuple[Statement, ...]:
    return read(sql, dialect, FACTS.get, "public")


def requests(sql: str, dialect: str = "postgresql") -> list[LockRequest]:
    return [request for one in parsed(sql, dialect) for request in one.locks]


def locks(sql: str, dialect: str = "postgresql") -> list[str]:
    """Each lock as the report writes it; `~` before it: does not wait, `*` behind: several rows."""
    return [
        f"{'' if request.waits else '~'}{request.lock}{'*' if request.many else ''}"
        for request in requests(sql, dialect)
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
    ("SELECT $x$ FOR UPDATE $x$ FROM a", []),
    # What stands around it.
    ("/* bill; */ UPDATE a SET v = 1 WHERE id = 1", ["a (NO KEY UPDATE)"]),
    ("-- bill\nUPDATE a SET v = 1 WHERE id = 1", ["a (NO KEY UPDATE)"]),
    ("UPDATE /* UPDATE b */ a SET v = 1 -- FOR UPDATE", ["a (NO KEY UPDATE)*"]),
    ("EXPLAIN ANALYZE UPDATE a SET v = 1", ["a (NO KEY UPDATE)*"]),
    ("EXPLAIN (ANALYZE, BUFFERS) DELETE FROM a", ["a (UPDATE)*"]),
    ("EXPLAIN (ANALYZE off) DELETE FROM a", []),
    ("EXPLAIN DELETE FROM a", []),
    ("DECLARE c CURSOR FOR SELECT * FROM a FOR UPDATE", ["a (UPDATE)*"]),
    # Several statements.
    ("LOCK TABLE a; UPDATE b SET v = 1", ["a (whole table)", "b (NO KEY UPDATE)*"]),
    ("SET LOCAL lock_timeout = '1;s'; UPDATE a SET v = 1 WHERE id = 1", ["a (NO KEY UPDATE)"]),
    ("CREATE FUNCTION f() RETURNS void BEGIN ATOMIC UPDATE a SET v = 1; END", []),
    # Names.
    ("UPDATE public.a SET v = 1 WHERE id = 1", ["a (NO KEY UPDATE)"]),
    ("UPDATE A AS T SET SLUG = 1 WHERE t.ID = 1", ["a (UPDATE)"]),
    ('UPDATE "A" SET v = 1 WHERE id = 1', ["A (NO KEY UPDATE)"]),
    ('LOCK TABLE ONLY Public."A", S.B', ["A (whole table)", "s.b (whole table)"]),
    # SELECT ... FOR.
    ("SELECT * FROM (SELECT * FROM a WHERE id = 1) s FOR UPDATE", ["a (UPDATE)"]),
    ("SELECT * FROM b, (SELECT * FROM a WHERE id = 1) s FOR UPDATE OF s", ["a (UPDATE)"]),
    ("SELECT * FROM (a JOIN b ON a.id = b.id) FOR UPDATE", ["a (UPDATE)*", "b (UPDATE)*"]),
    ("SELECT * FROM b JOIN a ON a.id = 1 FOR UPDATE OF a", ["a (UPDATE)"]),
    ("WITH w AS (SELECT 1) SELECT * FROM w, (VALUES (1)) v FOR UPDATE", []),
    ("TABLE a FOR UPDATE", ["a (UPDATE)*"]),
    # UPDATE, INSERT, MERGE.
    ("UPDATE a SET v = 1 WHERE data ? 'x' AND id = $1", ["a (NO KEY UPDATE)"]),
    ("UPDATE child SET (v, a_id) = (1, 1) WHERE id = 1",
     ["child (NO KEY UPDATE)", "a (KEY SHARE)"]),
    ("UPDATE a SET (v, slug) = (SELECT 1, 2) WHERE id = 1", ["a (UPDATE)"]),
    ("UPDATE child SET a_id = NULL WHERE id = 1", ["child (NO KEY UPDATE)"]),
    ("INSERT INTO child VALUES (1, 3)", ["a (KEY SHARE)"]),
    ("INSERT INTO child (id, a_id) VALUES (1, NULL)", []),
    ("INSERT INTO pair (x, a_id) VALUES (1, NULL)", []),
    ("INSERT INTO a (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET slug = 2", ["a (UPDATE)"]),
    ("INSERT INTO child (id, a_id) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = 3",
     ["child (NO KEY UPDATE)", "a (KEY SHARE)"]),
    ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", ["a (UPDATE)*"]),
    ("MERGE INTO child USING b ON child.id = b.id WHEN MATCHED THEN UPDATE SET a_id = b.a_id",
     ["child (NO KEY UPDATE)*", "a (KEY SHARE)"]),
    ("COPY child FROM STDIN", ["a (KEY SHARE)"]),
    ("COPY child TO STDOUT", []),
    # Whole tables.
    ("CREATE UNIQUE INDEX IF NOT EXISTS i ON a (v)", ["a (whole table)"]),
    ("CREATE INDEX CONCURRENTLY i ON a (v)", []),
    ("REINDEX TABLE a", ["a (whole table)"]),
    ("CLUSTER a USING i", ["a (whole table)"]),
    ("VACUUM (FULL, VERBOSE) a", ["a (whole table)"]),
    ("VACUUM a", []),
    ("REFRESH MATERIALIZED VIEW a", ["a (whole table)"]),
    ("CREATE TRIGGER t BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION f()",
     ["a (whole table)"]),
    ("CREATE TABLE x (id int)", []),
    # Names of locks.
    ("SELECT pg_advisory_xact_lock(hashtext('x'))", ["named lock hashtext('x') (UPDATE)"]),
    ("SELECT pg_advisory_xact_lock(id) FROM a", ["named locks (UPDATE)"]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), CASES, ids=[sql for sql, _ in CASES])
def test_the_locks_of_a_statement(sql: str, expected: list[str]) -> None:
    """In the order in which the server takes them."""
    assert all(one.readable for one in parsed(sql))
    assert locks(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM a WHERE id = %s LOCK IN SHARE MODE", ["a (SHARE)"]),
        ("UPDATE a SET v = 1 WHERE id = %s", ["a (UPDATE)"]),
        ("INSERT INTO child (id, a_id) VALUES (%s, %s)", ["a (SHARE)"]),
        ("INSERT INTO a (id) VALUES (%s) ON DUPLICATE KEY UPDATE v = 1", ["a (UPDATE)"]),
        (r"UPDATE a SET v = 'it\'s; ' WHERE id = %s", ["a (UPDATE)"]),
        ("UPDATE A SET v = 1 # FOR UPDATE", ["A (UPDATE)*"]),
        ("SELECT GET_LOCK('x', 10)", ["named lock 'x' (UPDATE)"]),
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
    assert named(requests(sql, dialect)[0]) == keys


def named(request: LockRequest) -> tuple[object, ...]:
    """All values in the text and parameters that name rows."""
    return tuple(
        part.value if isinstance(part, Literal) else part.key
        for key in request.keys
        for part in key
    )


def test_a_row_of_several_columns_is_named_by_all_of_them() -> None:
    """Where lists name them, the text does not tell which values belong together."""
    one, two, lists = (
        requests(f"UPDATE pair SET v = 1 WHERE {where}")[0]
        for where in ("y = $1 AND x = 2", "x = 1", "x = ANY($1) AND y = ANY($2)")
    )
    assert (named(one), one.by) == ((2, 0), ("x", "y"))
    assert (named(two), two.by) == ((1,), ("x",))
    assert (named(lists), lists.by) == ((0, 1), ())


def test_the_row_that_a_foreign_key_refers_to_is_named_as_others_are() -> None:
    """By the same columns in the same order, whatever the order of the foreign key's own."""
    sql = "INSERT INTO child_of_pair (id, x, y) VALUES ($1, $2, $3)"
    (parent,) = (one for one in requests(sql) if one.lock.resource == "pair")
    (itself,) = requests("SELECT 1 FROM pair WHERE x = $2 AND y = $3 FOR UPDATE")
    assert (parent.by, parent.keys) == (itself.by, itself.keys)


@pytest.mark.parametrize(
    "sql",
    [
        "DO $$ BEGIN UPDATE a SET v = 1; END $$",
        "UPDATE a BOGUS b",
        "CALL f()",
        "EXECUTE stored(1)",
        "SELECT 1; UPDATE a SET v = 1 WHERE CURRENT OF c",
        "DROP INDEX i",
        "COPY (DELETE FROM a RETURNING *) TO STDOUT",
        "LOCK TABLES a WRITE",
        "CLUSTER",
    ],
)
def test_what_is_not_understood_says_so(sql: str) -> None:
    """It is no error, and it is not silent."""
    assert not all(one.readable for one in parsed(sql))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SAVEPOINT s", {"sets": "s"}),
        ('SAVEPOINT "S";', {"sets": "S"}),
        ("ROLLBACK TO S", {"back_to": "s"}),
        ("rollback transaction to savepoint s", {"back_to": "s"}),
        ("RELEASE s", {"releases": "s"}),
        ("ROLLBACK", {"ends": True}),
        ("COMMIT AND CHAIN", {"ends": True}),
        ("/* over */ END TRANSACTION;", {"ends": True}),
        ("PREPARE TRANSACTION 'x'", {"ends": True}),
    ],
)
def test_savepoints_and_ends(sql: str, expected: dict[str, object]) -> None:
    """However they are written."""
    (one,) = parsed(sql)
    assert {name: getattr(one, name) for name in expected} == expected
    assert one.ends == ("ends" in expected)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "sql",
    [
        "COPY " + "a.b" * 2_000 + " TO STDOUT",
        "TRUNCATE " + '"a".' * 2_000 + "!",
        "/* " + "/* x */ " * 2_000,
        "UPDATE a SET v = '" + "''" * 5_000,
        "SELECT pg_advisory_lock(" + "((x) " * 2_000,
        "UPDATE a SET v = " + "(" * 5_000,
        "CREATE INDEX " + "on " * 2_000,
        "EXPLAIN " + "ANALYZE " * 2_000,
        "",
        ";;/**/;",
    ],
    ids=lambda sql: sql[:20],
)
def test_no_text_takes_long_or_raises(sql: str) -> None:
    """The application waits for it, whatever the server would have said to the statement."""
    parsed(sql)


def test_the_lock_queries_of_units_are_read() -> None:
    """Names first, then tables in the order of the query; late ones do not wait."""
    a = Table("a", MetaData(), Column("id", Integer, primary_key=True))
    steps = (Step(None, Strength.UPDATE), Step(a, Strength.KEY_SHARE))
    dialect: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    text = str(lock_statement(steps, Wait.NOWAIT).compile(dialect=dialect))
    assert locks(text) == ["~named locks (UPDATE)", "~a (KEY SHARE)"]
    text = str(lock_statement(steps, Wait.BLOCK).compile(dialect=dialect))
    assert locks(text) == ["named locks (UPDATE)", "a (KEY SHARE)"]
    for places in (2, 0):
        step = Step(a, Strength.NO_KEY_UPDATE, places)
        load = select(load_statement(step, Wait.BLOCK, limited=True).locked)
        assert locks(str(load.compile(dialect=dialect))) == ["a (NO KEY UPDATE)"]

"""What a rollback would lose of a statement, judged by its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitofwork.policies.statements import Effect, effect_of, is_volatile, shows_volatile

READS = (
    "SELECT a.id, a.v FROM a WHERE a.id IN ($1, $2)",
    "select count(*), max(v) from a where exists (select 1 from b)",
    "WITH r AS (SELECT 1) SELECT * FROM r",
    "SHOW lock_timeout",
    "PRAGMA busy_timeout",
    "SAVEPOINT sa_savepoint_1",
    "ROLLBACK TO SAVEPOINT sa_savepoint_1",
    "SELECT 'update a set v = 1 for update'",
    "SELECT 1 -- for update\n",
    "/* delete from a */ SELECT 1",
    "VALUES (1), (2)",
    "select $$ for update $$",
    "select $tag$ it's $$ for update $tag$, $1, $2",
    'select v as "for update", "into" from a',
    "select `for update` from a",
    r"select E'it\'s for update' from a",
    "EXPLAIN UPDATE a SET v = 1",
    "explain (analyze false, costs off) delete from a",
    "EXPLAIN VERBOSE SELECT * FROM a FOR UPDATE",
    "EXPLAIN ANALYZE SELECT v FROM a",
    "SELECT v FROM a WHERE into_stock AND v > 1",
)
UNSURE = (
    "SELECT spend(1)",
    "SELECT id FROM a WHERE nextval('s') > 1",
    "SELECT pg_sleep(1)",
)
LOCKS = (
    "SELECT * FROM a WHERE id = 1 FOR UPDATE",
    "SELECT * FROM a FOR NO KEY UPDATE OF a SKIP LOCKED",
    "select * from a for share",
    "select * from a for key share nowait",
    "SELECT * FROM a LOCK IN SHARE MODE",
    "SELECT pg_advisory_xact_lock(7)",
    "SELECT pg_try_advisory_lock(7)",
    "LOCK TABLE a IN EXCLUSIVE MODE",
    "WITH r AS (SELECT id FROM a FOR UPDATE) SELECT * FROM r",
    "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM a FOR UPDATE",
    "select $$ x $$, $1 from a for update",
)
WRITES = (
    "INSERT INTO a VALUES (1)",
    "  update a set v = 1",
    "DELETE FROM a",
    "MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM a RETURNING id) SELECT * FROM gone",
    "WITH k AS (SELECT id FROM a FOR UPDATE) UPDATE a SET v = 1 FROM k",
    "EXPLAIN ANALYZE UPDATE a SET v = 1",
    "explain (verbose, analyze) update a set v = 1",
    "EXPLAIN (ANALYZE true) WITH gone AS (DELETE FROM a RETURNING id) SELECT * FROM gone",
    "EXPLAIN ANALYSE VERBOSE DELETE FROM a",
    "SELECT id INTO b FROM a",
    "WITH r AS (SELECT 1) SELECT * INTO b FROM r",
    "SELECT id INTO TEMP b FROM a FOR UPDATE",
    "CREATE TABLE b (id int)",
    "TRUNCATE a",
    "CALL do_it()",
    "DO $$ BEGIN END $$",
    "COPY a FROM STDIN",
    "NOTIFY channel",
    "(INSERT INTO a VALUES (1) RETURNING id)",
)


@pytest.mark.parametrize(
    ("sql", "effect"),
    [
        *((sql, Effect.NOTHING) for sql in READS),
        *((sql, Effect.UNSURE) for sql in UNSURE),
        *((sql, Effect.LOCK) for sql in LOCKS),
        *((sql, Effect.WRITE) for sql in WRITES),
    ],
)
def test_each_kind_of_statement(sql: str, effect: Effect) -> None:
    """Reads lose nothing; locks and writes are told apart; function calls are unsure."""
    assert effect_of(sql) is effect


VOLATILE = ("random", "RANDOM", "nextval", "next_value", "clock_timestamp", "gen_random_uuid")
VOLATILE += ("uuidv7", "uuid_generate_v4", "setval", "pg_advisory_xact_lock", "random_normal")
STEADY = ("lower", "now", "length", "currval", "uuid_nil", "date_trunc", "coalesce", "bernoulli_")


@pytest.mark.parametrize("name", VOLATILE)
def test_functions_that_differ_from_call_to_call(name: str) -> None:
    """By their name, and where a text calls them."""
    assert is_volatile(name)
    assert shows_volatile(f"v < {name} (1)")
    assert not shows_volatile(f"{name} < 1 or v = '{name}()'")


@pytest.mark.parametrize("name", STEADY)
def test_functions_that_stay_the_same_in_a_transaction(name: str) -> None:
    """They may be called twice; so may what is not known."""
    assert not is_volatile(name)
    assert not shows_volatile(f"v < {name}(1)")


@given(st.text())
def test_any_text_has_an_effect(sql: str) -> None:
    """Whatever is sent gets a verdict, and what isn't known to be a read counts as a write."""
    assert isinstance(effect_of(sql), Effect)


@given(st.sampled_from(WRITES), st.sampled_from(["", " ", "\n", "-- note\n", "/* note */ "]))
def test_comments_and_space_do_not_hide_a_write(sql: str, prefix: str) -> None:
    """A leading comment changes nothing about what a statement does."""
    assert effect_of(prefix + sql) is Effect.WRITE

"""Options of a unit hold on the server, for the unit only; what can't hold is refused early."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from unitofwork import ConfigurationError, Outcome

from .face import Face, both, pool_events, result, statements
from .model import Item

SETTINGS = (
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "lock_timeout",
    "statement_timeout",
    "transaction_timeout",
)

#: Options, and what each setting then is on PostgreSQL.
ON_POSTGRES: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"isolation": "READ COMMITTED"}, {"transaction_isolation": "read committed"}),
    ({"isolation": "REPEATABLE READ"}, {"transaction_isolation": "repeatable read"}),
    ({"isolation": "SERIALIZABLE"}, {"transaction_isolation": "serializable"}),
    ({"read_only": True}, {"transaction_read_only": "on"}),
    ({"read_only": False}, {"transaction_read_only": "off"}),
    (
        {"isolation": "SERIALIZABLE", "read_only": True, "deferrable": True},
        {"transaction_isolation": "serializable", "transaction_deferrable": "on"},
    ),
    ({"lock_timeout": 1.5}, {"lock_timeout": "1500ms"}),
    ({"lock_timeout": 0.001}, {"lock_timeout": "1ms"}),
    ({"statement_timeout": 2}, {"statement_timeout": "2s"}),
    ({"statement_timeout": 2, "timeout": 3600}, {"statement_timeout": "2s"}),
    (
        {"isolation": "REPEATABLE READ", "read_only": True, "lock_timeout": 1},
        {
            "transaction_isolation": "repeatable read",
            "transaction_read_only": "on",
            "lock_timeout": "1s",
        },
    ),
]


async def show(tx: Any) -> dict[str, str]:
    # NULL for what the server does not have: transaction_timeout came with PostgreSQL 17.
    query = text(
        "SELECT name, current_setting(name, true) FROM unnest(CAST(:names AS text[])) name"
    )
    return dict((await result(tx.execute(query, {"names": list(SETTINGS)}))).all())


async def test_options_reach_postgres_and_end_with_the_unit(postgres_face: Face) -> None:
    """SHOW inside the unit, and in the next one on the very same connection."""
    uow = postgres_face.make(pool_size=1)
    events = pool_events(uow)
    async with both(uow()) as tx:
        plain = await show(tx)
    for options, expected in ON_POSTGRES:
        async with both(uow(**options)) as tx:
            seen = await show(tx)
            assert {**plain, **seen} | expected == seen, options
        async with both(uow()) as tx:
            assert await show(tx) == plain, options
    assert events.count("connect") == 1


@pytest.mark.parametrize("end", ["an error", "a failed statement", "rollback only"])
async def test_options_end_with_a_unit_that_was_rolled_back(postgres_face: Face, end: str) -> None:
    """No way out of the block leaves a setting on the pooled connection."""
    uow = postgres_face.make(pool_size=1)
    async with both(uow()) as tx:
        plain = await show(tx)
    options: dict[str, Any] = {"isolation": "SERIALIZABLE", "read_only": True}
    try:
        async with both(uow(**options, lock_timeout=1, statement_timeout=2, timeout=60)) as tx:
            assert await show(tx) != plain
            if end == "an error":
                raise LookupError
            if end == "a failed statement":
                await result(tx.execute(text("SELECT no_such_column")))
            tx.set_rollback_only()
    except (LookupError, DBAPIError):
        pass
    async with both(uow()) as tx:
        assert await show(tx) == plain


async def test_the_timeout_bounds_the_server_too(postgres_face: Face) -> None:
    """What is left of `timeout` is the limit of a statement, and ends the session soon after."""
    async with both(postgres_face.uow(timeout=30)) as tx:
        seen = await show(tx)
        assert 20_000 < _milliseconds(seen["statement_timeout"]) <= 30_000
        if postgres_face.aside("SHOW server_version_num") >= [("170000",)]:
            assert 20_000 < _milliseconds(seen["transaction_timeout"]) <= 32_000


READ_ONLY_SERVER = {"session_settings": {"default_transaction_read_only": "on"}}


async def test_read_only_false_wins_over_the_servers_default(postgres_face: Face) -> None:
    """An option that was given is sent, also where it is what plain units mostly have."""
    uow = postgres_face.make(**READ_ONLY_SERVER)
    async with both(uow(read_only=False)) as tx:
        tx.add(Item(id=1, name="one"))
    assert postgres_face.names() == ["one"]


@pytest.mark.parametrize("read_only", [True, False])
async def test_read_only_ends_with_the_unit(postgres_face: Face, read_only: bool) -> None:
    """What follows on its connection has the server's default again, whatever that is."""
    uow = postgres_face.make(pool_size=1, **READ_ONLY_SERVER)
    async with both(uow(read_only=read_only)) as tx:
        await result(tx.execute(text("SELECT 1")))
    with pytest.raises(DBAPIError, match="read-only"):
        async with both(uow()) as tx:
            tx.add(Item(id=2, name="two"))
    assert postgres_face.names() == []


async def test_a_read_only_unit_can_not_write(face: Face) -> None:
    """The database refuses the write; the next unit on that connection may write."""
    uow = face.make(pool_size=1)
    face.aside("INSERT INTO item VALUES (1, 'one')")
    async with both(uow(read_only=True)) as tx:
        assert (await result(tx.get(Item, 1))).name == "one"
    with pytest.raises(DBAPIError, match=r"read-?only"):
        async with both(uow(read_only=True)) as tx:
            tx.add(Item(id=2, name="two"))
    assert tx.outcome is Outcome.ROLLED_BACK
    async with both(uow()) as tx:
        tx.add(Item(id=3, name="three"))
    assert face.names() == ["one", "three"]


async def test_a_lock_is_waited_for_as_long_as_lock_timeout(face: Face) -> None:
    """Behind another unit's lock the statement fails after `lock_timeout`, not the default."""
    face.aside("INSERT INTO item VALUES (1, 'one')")
    change = update(Item).values(name="changed")
    holding, waiting = face.uow, face.make(pool_size=1)
    async with both(holding()) as holder:
        await result(holder.execute(change))
        began = time.monotonic()
        with pytest.raises(DBAPIError, match="lock"):
            async with both(waiting(lock_timeout=0.1)) as waiter:
                await result(waiter.execute(change))
        # The default is 4 s on PostgreSQL, 5 s on SQLite.
        assert 0.05 < time.monotonic() - began < 3
    assert face.names() == ["changed"]


async def test_options_end_with_the_unit_on_sqlite(sqlite_face: Face) -> None:
    """The pragmas are put back when the connection returns, also after an error."""
    uow = sqlite_face.make(pool_size=1)
    events = pool_events(uow)

    async def pragmas(tx: Any) -> tuple[int, int]:
        wait = await result(tx.scalar(text("PRAGMA busy_timeout")))
        return wait, await result(tx.scalar(text("PRAGMA query_only")))

    async with both(uow()) as tx:
        plain = await pragmas(tx)
    for _ in range(2):
        with pytest.raises(LookupError):
            async with both(uow(lock_timeout=0.25, read_only=True)) as tx:
                assert await pragmas(tx) == (250, 1)
                raise LookupError
        async with both(uow()) as tx:
            assert await pragmas(tx) == plain
    assert events.count("connect") == 1


async def test_what_sqlite_can_not_keep_is_refused(sqlite_face: Face) -> None:
    """An option without effect is an error before any I/O, not a comment."""
    reader = {"isolation": "SERIALIZABLE", "read_only": True}
    events = pool_events(sqlite_face.uow)
    for options in (
        {"isolation": "READ COMMITTED"},
        {"isolation": "REPEATABLE READ"},
        {"statement_timeout": 1},
        {**reader, "deferrable": True},
    ):
        with pytest.raises(ConfigurationError, match=r"(?i)sqlite"):
            async with both(sqlite_face.uow(**options)):
                pass
    assert events == []


BAD: list[dict[str, Any]] = [
    {"propagation": "sometimes"},
    {"isolation": "read committed"},
    {"isolation": "AUTOCOMMIT"},
    {"read_only": 1},
    {"deferrable": True},
    {"timeout": 0},
    {"acquire_timeout": 0},
    {"connections": 0},
    {"connections": 1.5},
    {"timeout": -1},
    {"lock_timeout": float("nan")},
    {"statement_timeout": float("inf")},
    {"timeout": "5"},
    {"timeout": True},
    {"name": 5},
    {"isolaton": "SERIALIZABLE"},
    {"isolation": ["SERIALIZABLE"]},
]


async def test_a_bad_value_is_refused_where_it_is_written(face: Face) -> None:
    """By `uow(...)` itself and by the decorator, not at the first statement."""
    events = pool_events(face.uow)
    face.uow(read_only=True, timeout=1)  # accepted, which says nothing about equal values
    for options in BAD:
        (option,) = options
        with pytest.raises(ConfigurationError, match=option):
            face.uow(**options)
        with pytest.raises(ConfigurationError, match=option):
            face.uow.transactional(**options)
    assert events == []


async def test_settings_cost_one_statement(postgres_face: Face) -> None:
    """All of them go in one round trip after BEGIN; a unit without options sends none."""
    sent = statements(postgres_face.uow)
    async with both(postgres_face.uow()) as tx:
        await result(tx.execute(text("SELECT 1")))
    assert len(sent) == 1
    options: dict[str, Any] = {"isolation": "SERIALIZABLE", "timeout": 30, "lock_timeout": 1}
    async with both(postgres_face.uow(**options)) as tx:
        await result(tx.execute(text("SELECT 1")))
    assert len(sent) == 3


def _milliseconds(setting: str) -> int:
    for unit, factor in (("ms", 1), ("s", 1000), ("min", 60_000)):
        if setting.removesuffix(unit).isdigit():
            return int(setting.removesuffix(unit)) * factor
    raise AssertionError(setting)

"""A sound configuration, and variations of it, for the tests of the validator's rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unitofwork.policies.sizing import (
    EngineFacts,
    Facts,
    MySQLFacts,
    PoolerFacts,
    ProcessFacts,
    ServerFacts,
    SQLiteFacts,
)

ENGINE = EngineFacts(
    backend="postgresql",
    driver="asyncpg",
    is_async=True,
    server="db:5432",
    database="shop",
    pool_class="AsyncAdaptedQueuePool",
    pool_size=5,
    max_overflow=0,
    pool_timeout=10.0,
    pool_recycle=1800,
    pre_ping=False,
    checks_idle=True,
    lifo=True,
    prepared_statements=100,
    unique_statement_names=False,
)
PROCESS = ProcessFacts(workers=2, replicas=3, in_event_loop=True)
SERVER = ServerFacts(
    product="PostgreSQL",
    version=(18,),
    max_connections=100,
    reserved=3,
    others=12,
    own=0,
    role_limit=-1,
    role_others=0,
    database_limit=-1,
    database_others=0,
    lock_timeout=4.0,
    statement_timeout=0.0,
    idle_in_transaction_timeout=8.0,
    transaction_timeout=0.0,
    idle_timeout=0.0,
    deadlock_timeout=1.0,
    client_check_interval=0.5,
    keepalives_idle=60.0,
    keepalives_interval=10.0,
    keepalives_count=6,
    isolation="READ COMMITTED",
    read_only=False,
    in_recovery=False,
)
POOLER = PoolerFacts(
    version=(1, 21, 0),
    mode="transaction",
    default_pool_size=20,
    max_client_conn=1000,
    clients_of_others=0,
    max_db_connections=0,
    max_prepared_statements=200,
    query_wait_timeout=10.0,
)
SQLITE = ServerFacts(
    product="SQLite",
    sqlite=SQLiteFacts(in_memory=False, journal_mode="wal", busy_timeout=5.0),
)
MARIADB = ServerFacts(
    product="MariaDB",
    max_connections=100,
    reserved=0,
    others=0,
    role_limit=-1,
    database_limit=-1,
    lock_timeout=4.0,
    idle_timeout=28800.0,
    isolation="REPEATABLE READ",
    read_only=False,
    mysql=MySQLFacts(rollback_on_timeout=True, galera_state="Synced", galera_ready=True),
)

Change = dict[str, Any]


def sound(
    engine: Change | None = None,
    process: Change | None = None,
    server: Change | ServerFacts | None = None,
    pooler: Change | None = None,
    **top: Any,
) -> Facts:
    """The sound configuration with these changes; `pooler={}` puts a sound one in between."""
    return Facts(
        engine=replace(ENGINE, **engine or {}),
        process=replace(PROCESS, **process or {}),
        server=server if isinstance(server, ServerFacts) else replace(SERVER, **server or {}),
        pooler=None if pooler is None else replace(POOLER, **pooler),
        sqlalchemy=top.pop("sqlalchemy", (2, 1, 9)),
        **top,
    )


def on_sqlite(engine: Change | None = None, **sqlite: Any) -> Facts:
    """The sound configuration on a file."""
    assert SQLITE.sqlite is not None
    on_file = {"backend": "sqlite", "driver": "aiosqlite", "server": "a.db", **(engine or {})}
    return sound(engine=on_file, server=replace(SQLITE, sqlite=replace(SQLITE.sqlite, **sqlite)))


def on_mariadb(server: Change | None = None, **mysql: Any) -> Facts:
    """The sound configuration on MariaDB."""
    assert MARIADB.mysql is not None
    facts = replace(MARIADB, mysql=replace(MARIADB.mysql, **mysql), **server or {})
    return sound(engine={"backend": "mysql", "driver": "asyncmy"}, server=facts)

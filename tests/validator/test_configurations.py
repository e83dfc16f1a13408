"""Each bad configuration is flagged with its code, and with no other; each good one is clean."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy.pool import NullPool, StaticPool
from tests.validator.rig import SOUND_POOL, SOUND_ROLE, Cluster, Configuration

C = Configuration
#: One generation at a time, so that the sums are small.
ALONE = {"workers": 1, "replicas": 1, "generations": 1}
#: asyncpg without prepared statements, but for those with a name that nobody else gives.
NO_CACHE = {
    "connect_args": {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
    }
}
NO_SESSION_SETTINGS = {
    "session_settings": {
        "application_name": "app",
        "lock_timeout": None,
        "idle_in_transaction_session_timeout": None,
        "client_connection_check_interval": None,
    }
}
TRANSACTION = {"pool_mode": "transaction"}
SESSION = {"pool_mode": "session"}

#: The fleet against the server: max_connections 30 - 3 reserved - 1 in use = 26.
FLEET = [
    C(name="the defaults", fleet={"workers": 2, "replicas": 1}),
    C(
        name="twelve processes of SQLAlchemy's size",
        fleet={"workers": 4, "replicas": 3},
        engine={"pool_size": 20, "max_overflow": 10},
        codes=("fleet-too-large", "overflow-churn"),
    ),
    C(name="the last one fits", engine={"pool_size": 26}, fleet=ALONE),
    C(name="one too many", engine={"pool_size": 27}, fleet=ALONE, codes=("fleet-too-large",)),
    C(name="twice of the last one", engine={"pool_size": 13}),
    C(name="too many while deploying", engine={"pool_size": 14}, codes=("rolling-deploy",)),
    C(name="beside others", engine={"pool_size": 16}, fleet=ALONE, others=10),
    C(
        name="too many beside others",
        engine={"pool_size": 17},
        fleet=ALONE,
        others=10,
        codes=("fleet-too-large",),
    ),
    C(
        name="its own instances are not others",
        engine={"pool_size": 26, "session_settings": {"application_name": "service:2"}},
        fleet=ALONE,
        own=10,
    ),
    C(
        name="within the role's limit",
        engine={"pool_size": 8},
        fleet=ALONE,
        setup=("alter role {0} connection limit 8",),
    ),
    C(
        name="above the role's limit",
        engine={"pool_size": 9},
        fleet=ALONE,
        setup=("alter role {0} connection limit 8",),
        codes=("fleet-too-large",),
    ),
    C(
        name="within the database's limit",
        engine={"pool_size": 8},
        fleet=ALONE,
        setup=("alter database service connection limit 8",),
    ),
    C(
        name="above the database's limit",
        engine={"pool_size": 9},
        fleet=ALONE,
        setup=("alter database service connection limit 8",),
        codes=("fleet-too-large",),
    ),
    # 40 - 5 for superusers - 5 for whom it is granted - 1 in use
    C(name="16, the last one", server="cluster16", engine={"pool_size": 29}, fleet=ALONE),
    C(
        name="16, into what is reserved",
        server="cluster16",
        engine={"pool_size": 30},
        fleet=ALONE,
        codes=("fleet-too-large",),
    ),
    C(
        name="16, allowed into what is reserved",
        server="cluster16",
        engine={"pool_size": 34},
        fleet=ALONE,
        setup=("grant pg_use_reserved_connections to {0}",),
    ),
    C(
        name="no limit at all",
        engine={"pool_size": 0},
        codes=("unlimited-pool",),
    ),
    C(
        name="overflow without limit",
        engine={"max_overflow": -1},
        codes=("unlimited-pool",),
    ),
    C(name="two engines, one database", engines=2, codes=("several-engines",)),
]

POOL = [
    C(name="NullPool", engine={"poolclass": NullPool}, codes=("null-pool",)),
    C(name="StaticPool", engine={"poolclass": StaticPool}, codes=("static-pool",)),
    C(name="overflow", engine={"max_overflow": 3}, codes=("overflow-churn",)),
    C(name="a long wait", engine={"pool_timeout": 30}, codes=("pool-timeout",)),
    C(name="as many units as connections", fleet={**ALONE, "concurrency": 5}),
    C(
        name="more units than connections",
        fleet={**ALONE, "concurrency": 6},
        codes=("pool-below-concurrency",),
    ),
    C(
        name="nested units that can go on",
        engine={"pool_size": 6},
        fleet={**ALONE, "concurrency": 5, "connections": 2},
    ),
    C(
        name="nested units that can't",
        engine={"pool_size": 5},
        fleet={**ALONE, "concurrency": 5, "connections": 2},
        codes=("nesting",),
    ),
    C(
        name="recycled in time",
        engine={"pool_recycle": 500},
        setup=("alter role {0} set idle_session_timeout = '10min'",),
    ),
    C(
        name="recycled after the server's limit",
        setup=("alter role {0} set idle_session_timeout = '10min'",),
        codes=("recycle",),
    ),
    C(
        name="recycled after the load balancer's limit",
        server="cluster16",
        fleet={**ALONE, "idle_limit": 350},
        codes=("recycle",),
    ),
    C(name="a plain engine, with care", plain=True, engine=SOUND_POOL, setup=SOUND_ROLE),
    C(
        name="a plain engine that never looks",
        plain=True,
        engine={**SOUND_POOL, "pool_pre_ping": False},
        setup=SOUND_ROLE,
        codes=("liveness",),
    ),
    C(
        name="a sync engine",
        driver="psycopg",
        server="cluster16",
    ),
    C(
        name="a sync engine in an event loop",
        driver="psycopg",
        in_loop=True,
        engine={"pool_size": 5},
        codes=("pool-below-threads", "sync-in-loop"),
    ),
]

SESSIONS = [
    C(
        name="a server as it comes",
        plain=True,
        engine=SOUND_POOL,
        codes=("client-check", "idle-in-transaction", "lock-timeout"),
    ),
    C(
        name="a lock waits longer than the statement",
        setup=("alter role {0} set statement_timeout = '3s'",),
        codes=("timeout-order",),
    ),
    C(name="timeouts in order", setup=("alter role {0} set statement_timeout = '6s'",)),
    C(
        name="an isolation that nobody asked for",
        server="cluster16",
        setup=("alter role {0} set default_transaction_isolation = 'serializable'",),
        codes=("isolation",),
    ),
    C(
        name="an isolation that was asked for",
        setup=("alter role {0} set default_transaction_isolation = 'serializable'",),
        engine={"isolation_level": "SERIALIZABLE"},
    ),
    C(name="AUTOCOMMIT", engine={"isolation_level": "AUTOCOMMIT"}, codes=("isolation",)),
    C(
        name="read-only",
        setup=("alter role {0} set default_transaction_read_only = on",),
        codes=("read-only",),
    ),
    C(
        name="read-only, and meant so",
        setup=("alter role {0} set default_transaction_read_only = on",),
        engine={"execution_options": {"postgresql_readonly": True}},
    ),
]

#: Through PgBouncer, whose own pool of 20 fits the server.
POOLERS = [
    C(name="session mode", pooler=SESSION),
    C(name="session mode, 16, psycopg", server="cluster16", driver="psycopg", pooler=SESSION),
    C(
        name="transaction mode, asyncpg's caches",
        pooler=TRANSACTION,
        engine=NO_SESSION_SETTINGS,
        setup=SOUND_ROLE,
        codes=("pooler-prepared",),
    ),
    C(
        name="transaction mode, no caches",
        pooler=TRANSACTION,
        engine={**NO_CACHE, **NO_SESSION_SETTINGS},
        setup=SOUND_ROLE,
    ),
    C(
        name="transaction mode, psycopg prepares",
        driver="psycopg",
        pooler=TRANSACTION,
        engine=NO_SESSION_SETTINGS,
        setup=SOUND_ROLE,
        codes=("pooler-prepared",),
    ),
    C(
        name="transaction mode, psycopg does not prepare",
        server="cluster16",
        driver="psycopg",
        pooler=TRANSACTION,
        engine={"connect_args": {"prepare_threshold": None}, **NO_SESSION_SETTINGS},
        setup=SOUND_ROLE,
    ),
    C(
        name="transaction mode, seen by its behaviour",
        pooler=TRANSACTION,
        console=False,
        engine={**NO_CACHE, **NO_SESSION_SETTINGS},
        setup=SOUND_ROLE,
    ),
    C(
        name="transaction mode, seen by its behaviour, psycopg prepares",
        driver="psycopg",
        pooler=TRANSACTION,
        console=False,
        engine=NO_SESSION_SETTINGS,
        setup=SOUND_ROLE,
        codes=("pooler-prepared",),
    ),
    C(name="session mode, seen by its behaviour", pooler=SESSION, console=False),
    C(
        name="settings per session in transaction mode",
        pooler=TRANSACTION,
        engine=NO_CACHE,
        codes=("pooler-session-settings",),
    ),
    C(
        name="statement mode",
        driver="psycopg",
        pooler={"pool_mode": "statement"},
        codes=("pooler-statement-mode",),
    ),
    C(
        name="more clients than the pooler takes",
        pooler={**SESSION, "max_client_conn": 9},
        fleet=ALONE,
        engine={"pool_size": 10},
        codes=("fleet-too-large",),
    ),
    C(
        name="a pooler too large for the server",
        pooler={**SESSION, "default_pool_size": 27},
        codes=("pooler-size",),
    ),
    C(
        name="session mode for more than its pool",
        pooler={**SESSION, "default_pool_size": 4},
        codes=("pooler-size",),
    ),
    C(
        name="a pooler that lets wait too long",
        pooler={**SESSION, "query_wait_timeout": 120},
        codes=("pooler-wait",),
    ),
]

MARIADB = [
    C(name="MariaDB", fleet={"workers": 4, "replicas": 1}),
    C(name="MariaDB, the last one fits", fleet=ALONE, engine={"pool_size": 50}),
    C(
        name="MariaDB, one too many",
        fleet=ALONE,
        engine={"pool_size": 51},
        codes=("fleet-too-large",),
    ),
    C(
        name="MariaDB, above everybody's limit",
        settings={"max_user_connections": 8},
        fleet=ALONE,
        engine={"pool_size": 9},
        codes=("fleet-too-large",),
    ),
    C(
        name="MariaDB, above this user's limit",
        limits="with max_user_connections 8",
        fleet=ALONE,
        engine={"pool_size": 9},
        codes=("fleet-too-large",),
    ),
    C(
        name="MariaDB, recycled after the server's limit",
        settings={"wait_timeout": 600},
        codes=("recycle",),
    ),
    C(
        name="MariaDB, a lock waits longer than the pool",
        settings={"innodb_lock_wait_timeout": 50},
        codes=("timeout-order",),
    ),
    C(
        name="MariaDB, an isolation that nobody asked for",
        settings={"tx_isolation": "READ-COMMITTED"},
        codes=("isolation",),
    ),
    C(name="MariaDB, read-only", settings={"read_only": 1}, codes=("read-only",)),
]


def check(configuration: Configuration, request: pytest.FixtureRequest) -> None:
    findings = configuration.findings(request.getfixturevalue(configuration.server))
    counted = sorted({each.code for each in findings if each.severity != "info"})
    assert counted == sorted(configuration.codes), "\n".join(map(str, findings))


@pytest.mark.parametrize(
    "configuration", [*FLEET, *POOL, *SESSIONS, *POOLERS], ids=lambda each: each.name
)
def test_postgresql(configuration: Configuration, request: pytest.FixtureRequest) -> None:
    """PostgreSQL 16 and 18, also behind PgBouncer."""
    check(configuration, request)


@pytest.mark.parametrize("configuration", MARIADB, ids=lambda each: each.name)
def test_mariadb(configuration: Configuration, request: pytest.FixtureRequest) -> None:
    """MariaDB, through its sync driver."""
    check(replace(configuration, server="mariadb", driver="pymysql"), request)


@pytest.mark.parametrize(
    ("view", "unknown"), [("pg_stat_activity", "others"), ("pg_settings", "max_connections")]
)
def test_what_may_not_be_read(cluster18: Cluster, view: str, unknown: str) -> None:
    """It is reported as unknown: neither assumed, nor in the way of the other facts."""
    server = cluster18.server
    server.psql(f"revoke select on {view} from public", cluster18.database)
    try:
        findings = C(name=view, plain=True, engine=SOUND_POOL, fleet=ALONE).findings(cluster18)
    finally:
        server.psql(f"grant select on {view} to public", cluster18.database)
    found = {each.code: each.message for each in findings}
    assert unknown in found["unknown-facts"]
    assert "fleet-too-large" not in found
    assert ("lock-timeout" in found) == (view != "pg_settings")

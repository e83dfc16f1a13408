"""Each rule of the startup validator: a configuration that it finds, and one that it lets be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.sizing import ENGINE, on_mariadb, on_sqlite, sound

from unitofwork.policies.sizing import RULES, Facts, judge

TWIN = replace(ENGINE)
NAMES = {"prepared_statements": 0, "unique_statement_names": True}
OLD_POOLER = {"version": (1, 18, 0), "max_prepared_statements": 0}
UNKNOWN_POOLER = {"version": (), "max_prepared_statements": None, "known_from": "behaviour"}
STANDBY = {"in_recovery": True, "read_only": True}
SESSION = frozenset({"lock_timeout"})

#: By code: what is found, with words that its message must have; and what is not.
BAD: dict[str, list[tuple[Facts, str]]] = {
    "fleet-too-large": [
        (
            sound(process={"workers": 4}, engine={"pool_size": 20, "max_overflow": 10}),
            "4 workers x 3 replicas x (20 + 10) = 360 > 100 - 3 reserved - 12 in use = 85",
        ),
        (sound(engine={"pool_size": 15}), "2 workers x 3 replicas x 15 = 90 > "),
        (sound(server={"role_limit": 31, "role_others": 2}), "> 31 - 2 in use = 29"),
        (sound(server={"database_limit": 29}), "> 29 (the limit of this database)"),
        (sound(pooler={"max_client_conn": 40, "clients_of_others": 11}), "> 40 - 11 in use = 29"),
        (sound(process={"other_engines": (replace(ENGINE, pool_size=20),)}), "x (5 + 20) = 150"),
        (on_mariadb({"role_limit": 29}), "> 29"),
    ],
    "rolling-deploy": [
        (sound(engine={"pool_size": 8}), "2 generations x 2 workers x 3 replicas x 8 = 96 > "),
    ],
    "unlimited-pool": [
        (sound(engine={"pool_size": 0}), "no limit"),
        (sound(engine={"max_overflow": -1}), "no limit"),
    ],
    "several-engines": [(sound(process={"other_engines": (TWIN,)}), "2 engines")],
    "unknown-facts": [
        (sound(process={"replicas": None}), "replicas"),
        (sound(server={"others": None}), "others"),
        (sound(pooler={"max_client_conn": None}), "max_client_conn of PgBouncer"),
    ],
    "null-pool": [
        (sound(engine={"pool_class": "NullPool", "pool_size": None}), "NullPool"),
    ],
    "static-pool": [
        (sound(engine={"pool_class": "StaticPool"}), "whole process"),
        (sound(engine={"pool_class": "SingletonThreadPool"}), "each thread"),
        (on_sqlite({"pool_class": "StaticPool"}), "whole process"),
    ],
    "overflow-churn": [(sound(engine={"max_overflow": 1}), "max_overflow=1")],
    "pool-below-threads": [
        (
            sound(engine={"is_async": False}, process={"threads": 40, "in_event_loop": False}),
            "40 - 5 = 35",
        ),
    ],
    "pool-below-concurrency": [(sound(process={"concurrency": 6}), "6 - 5 = 1")],
    "nesting": [
        (sound(process={"connections": 6}), "can never begin"),
        (sound(process={"connections": 2, "concurrency": 5}), "5 x (2 - 1) + 1 = 6 > 5"),
    ],
    "pool-timeout": [(sound(engine={"pool_timeout": 30.0}), "30 s > 10 s")],
    "recycle": [
        (sound(server={"idle_timeout": 600.0}), "1800 s against 600 s"),
        (sound(process={"idle_limit": 350.0}, engine={"pool_recycle": -1}), "never against 350 s"),
        (sound(process={"idle_limit": 1800.0}), "1800 s against 1800 s"),
    ],
    "liveness": [(sound(engine={"checks_idle": False}), "restart")],
    "sync-in-loop": [(sound(engine={"is_async": False}), "event loop")],
    "timeout-order": [
        (sound(server={"lock_timeout": 9.0}), "lock_timeout 9 s is not below idle_in"),
        (sound(server={"deadlock_timeout": 4.0}), "deadlock_timeout 4 s is not below lock"),
        (sound(server={"statement_timeout": 3.0}), "lock_timeout 4 s is not below statement"),
        (sound(process={"request_timeout": 10.0}), "pool_timeout 10 s is not below the request"),
        (sound(server={"transaction_timeout": 8.0}), "not below transaction_timeout 8 s"),
        (on_mariadb({"lock_timeout": 50.0}), "innodb_lock_wait_timeout 50 s"),
        (on_sqlite(busy_timeout=20.0), "busy_timeout 20 s is not below pool_timeout"),
    ],
    "lock-timeout": [(sound(server={"lock_timeout": 0.0}), "lock_timeout is 0")],
    "idle-in-transaction": [(sound(server={"idle_in_transaction_timeout": 0.0}), "is 0")],
    "client-check": [(sound(server={"client_check_interval": 0.0}), "is 0")],
    "keepalives": [
        (
            sound(server={"keepalives_idle": 7200, "keepalives_interval": 75}),
            "7200 s + 6 x 75 s = 7650 s",
        ),
    ],
    "isolation": [
        (sound(engine={"isolation": "AUTOCOMMIT"}), "AUTOCOMMIT"),
        (sound(server={"isolation": "SERIALIZABLE"}), "asks for nothing"),
        (sound(engine={"isolation": "SERIALIZABLE"}), "asks for SERIALIZABLE"),
        (sound(engine={"isolation": "SERIALIZABLE", "read_only": True}, server=STANDBY), "standby"),
        (on_mariadb({"isolation": "READ COMMITTED"}), "asks for nothing"),
    ],
    "read-only": [
        (sound(server={"read_only": True}), "read-only for this role"),
        (sound(server=STANDBY), "in recovery"),
    ],
    "pooler-prepared": [
        (sound(pooler=OLD_POOLER), "keeps prepared statements"),
        (sound(engine={"driver": "psycopg"}, pooler=OLD_POOLER), "psycopg"),
        (sound(engine={"prepared_statements": 0}, pooler=OLD_POOLER), "asyncpg"),
        (sound(pooler={"max_prepared_statements": 0}), "keeps prepared statements"),
        (sound(pooler=UNKNOWN_POOLER), "could not be read"),
    ],
    "pooler-session-settings": [
        (sound(server={"session_settings": SESSION}, pooler={}), "lock_timeout"),
    ],
    "pooler-statement-mode": [(sound(pooler={"mode": "statement"}), "statement mode")],
    "pooler-sessions": [(sound(pooler={}), "LISTEN")],
    "pooler-size": [
        (sound(pooler={"default_pool_size": 86}), "86 > 100 - 3 reserved - 12 in use = 85"),
        (sound(pooler={"mode": "session"}), "2 workers x 3 replicas x 5 = 30 > 20"),
        (
            sound(pooler={"mode": "session", "default_pool_size": 40, "max_db_connections": 29}),
            "= 30 > 29",
        ),
    ],
    "pooler-wait": [
        (sound(pooler={"query_wait_timeout": 120.0}), "120 s"),
        (sound(pooler={"query_wait_timeout": 0.0}), "without limit"),
    ],
    "unreachable": [(sound(unreachable="refused"), "refused")],
    "access-denied": [(sound(denied="no such database"), "no such database")],
    "sqlalchemy-version": [
        (sound(sqlalchemy=(2, 0, 55)), "2.0.55 < 2.0.56"),
        (sound(sqlalchemy=(2, 1, 6)), "2.1.6 < 2.1.7"),
    ],
    "echo": [(sound(engine={"echo": True}), "echo is on")],
    "galera": [
        (on_mariadb(galera_state="Donor/Desynced"), "Donor"),
        (on_mariadb(galera_ready=False), "off"),
    ],
    "rollback-on-timeout": [(on_mariadb(rollback_on_timeout=False), "1205")],
    "sqlite-journal": [(on_sqlite(journal_mode="delete"), "delete")],
    "sqlite-busy-timeout": [(on_sqlite(busy_timeout=0.0), "is 0")],
    "recommendation": [(sound(), "pool_size=5; room: ")],
}
GOOD: dict[str, list[Facts]] = {
    "fleet-too-large": [
        sound(engine={"pool_size": 14}),  # 84 of 85
        sound(server={"role_limit": 30}),
        sound(server={"max_connections": None}),
        sound(pooler={"max_client_conn": 30}, server={"max_connections": 10}),
        sound(process={"other_engines": (replace(ENGINE, server="replica:5432", pool_size=99),)}),
        on_sqlite({"pool_size": 500}),
    ],
    "rolling-deploy": [
        sound(engine={"pool_size": 7}),  # 84 of 85
        sound(engine={"pool_size": 14}, process={"generations": 1}),
        sound(engine={"pool_size": 15}),  # too large by itself: said once
    ],
    "unlimited-pool": [sound(), on_sqlite({"pool_size": 0})],
    "several-engines": [
        sound(process={"other_engines": (replace(ENGINE, server="replica:5432"),)}),
        sound(process={"other_engines": (replace(ENGINE, database="other"),)}),
    ],
    "unknown-facts": [sound(), sound(pooler={}), on_sqlite()],
    "null-pool": [
        sound(engine={"pool_class": "NullPool"}, pooler={}),
        on_sqlite({"pool_class": "NullPool"}),
    ],
    "static-pool": [sound(), on_sqlite({"pool_class": "StaticPool"}, in_memory=True)],
    "overflow-churn": [sound(), on_sqlite({"max_overflow": 10})],
    "pool-below-threads": [
        sound(engine={"is_async": False}, process={"threads": 5}),
        sound(process={"threads": 40}),  # an async engine is not used from threads
    ],
    "pool-below-concurrency": [sound(process={"concurrency": 5})],
    "nesting": [
        sound(process={"connections": 1, "concurrency": 100}),
        sound(process={"connections": 2, "concurrency": 4}),
        sound(process={"connections": 5}),
    ],
    "pool-timeout": [sound(), sound(engine={"pool_timeout": None})],
    "recycle": [sound(process={"idle_limit": 1801.0}), sound(engine={"pool_recycle": -1})],
    "liveness": [
        sound(engine={"checks_idle": False, "pre_ping": True}),
        sound(engine={"checks_idle": None}),
        sound(engine={"checks_idle": False, "pool_class": "NullPool"}),
    ],
    "sync-in-loop": [
        sound(),
        sound(engine={"is_async": False}, process={"in_event_loop": False}),
    ],
    "timeout-order": [
        sound(process={"request_timeout": 30.0}, server={"statement_timeout": 6.0}),
        sound(server={"transaction_timeout": 9.0}),
        sound(server={"lock_timeout": None, "idle_in_transaction_timeout": None}),
        on_mariadb(),
    ],
    "lock-timeout": [sound(), sound(server={"lock_timeout": None}), on_mariadb()],
    "idle-in-transaction": [sound(), on_mariadb()],
    "client-check": [sound(), sound(server={"client_check_interval": None})],  # 13 has none
    "keepalives": [sound(), sound(server={"keepalives_idle": None})],
    "isolation": [
        sound(),
        sound(engine={"isolation": "SERIALIZABLE"}, server={"isolation": "SERIALIZABLE"}),
        on_mariadb(),
        on_sqlite(),
    ],
    "read-only": [sound(), sound(engine={"read_only": True}, server=STANDBY)],
    "pooler-prepared": [
        sound(pooler={}),
        sound(engine=NAMES, pooler=OLD_POOLER),
        sound(engine={"driver": "psycopg", "prepared_statements": 0}, pooler=OLD_POOLER),
        sound(pooler={**OLD_POOLER, "mode": "session"}),
        sound(),
    ],
    "pooler-session-settings": [
        sound(server={"session_settings": SESSION}),
        sound(server={"session_settings": SESSION}, pooler={"mode": "session"}),
        sound(pooler={}),
    ],
    "pooler-statement-mode": [sound(pooler={})],
    "pooler-sessions": [sound(), sound(pooler={"mode": "session"})],
    "pooler-size": [
        sound(pooler={"default_pool_size": 85}),
        sound(pooler={"mode": "session", "default_pool_size": 30}),
        sound(pooler={"default_pool_size": None}),
    ],
    "pooler-wait": [sound(pooler={}), sound(pooler={"query_wait_timeout": None})],
    "unreachable": [sound()],
    "access-denied": [sound()],
    "sqlalchemy-version": [sound(sqlalchemy=(2, 0, 56)), sound(sqlalchemy=(2, 1, 7))],
    "echo": [sound()],
    "galera": [on_mariadb(), on_mariadb(galera_state=None, galera_ready=None)],
    "rollback-on-timeout": [on_mariadb(), on_mariadb(rollback_on_timeout=None)],
    "sqlite-journal": [on_sqlite(), on_sqlite(journal_mode="memory", in_memory=True)],
    "sqlite-busy-timeout": [on_sqlite(), on_sqlite(busy_timeout=0.0, in_memory=True)],
    "recommendation": [on_sqlite(), sound(server={"max_connections": 13})],
}
ERRORS = {
    *("fleet-too-large", "unlimited-pool", "pooler-prepared", "pooler-statement-mode"),
    *("pooler-size", "unreachable", "access-denied", "sqlalchemy-version", "galera"),
}
INFOS = {
    *("unknown-facts", "keepalives", "pooler-sessions", "echo", "rollback-on-timeout"),
    "recommendation",
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(code, case, id=f"{code}-{number}")
        for code, found in table.items()
        for number, case in enumerate(found)
    ]


def test_every_rule_has_a_bad_and_a_good_case() -> None:
    """And there is no case of a rule that does not exist."""
    assert set(BAD) == set(GOOD) == set(RULES)


@pytest.mark.parametrize(("code", "case"), cases(BAD))
def test_what_is_bad_is_found(code: str, case: tuple[Facts, str]) -> None:
    """Once, with the sum or the reason, and with a line to change."""
    facts, words = case
    (finding,) = [one for one in judge(facts) if one.code == code]
    assert words in finding.message
    assert finding.remedy
    assert "None" not in finding.message


@pytest.mark.parametrize(("code", "facts"), cases(GOOD))
def test_what_is_good_is_let_be(code: str, facts: Facts) -> None:
    """Also at the very border, and where the fact that decides is unknown."""
    assert [str(one) for one in judge(facts) if one.code == code] == []


@pytest.mark.parametrize("facts", [sound(), sound(pooler={}), on_sqlite(), on_mariadb()])
def test_a_sound_configuration_is_clean(facts: Facts) -> None:
    """Neither an error nor a warning."""
    assert [str(one) for one in judge(facts) if one.severity != "info"] == []


def test_severities() -> None:
    """Errors are what will fail, infos what is only good to know."""
    found = {rule.code: rule.severity for rule in RULES.values()}
    assert {code for code, severity in found.items() if severity == "error"} == ERRORS
    assert {code for code, severity in found.items() if severity == "info"} == INFOS


@pytest.mark.parametrize(
    ("facts", "code", "severity"),
    [
        (sound(engine={"isolation": "AUTOCOMMIT"}), "isolation", "error"),
        (sound(process={"connections": 6}), "nesting", "error"),
        (sound(pooler=UNKNOWN_POOLER), "pooler-prepared", "warning"),
    ],
)
def test_severities_that_depend(facts: Facts, code: str, severity: str) -> None:
    """What can never work is an error; what is only suspected is a warning."""
    assert {one.severity for one in judge(facts) if one.code == code} == {severity}


def test_errors_come_first() -> None:
    """Then warnings, then infos."""
    found = judge(sound(engine={"pool_size": 0, "pool_timeout": 30.0, "echo": True}))
    order = [("error", "warning", "info").index(one.severity) for one in found]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


def test_nothing_known_is_nothing_found() -> None:
    """A rule needs its facts: none of them guesses."""
    nothing = Facts(engine=replace(ENGINE, pool_size=None, pool_timeout=None, checks_idle=None))
    assert judge(nothing) == []

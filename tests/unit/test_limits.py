"""Limits for exchanges with a server: what ends in the watchdog's thread itself."""

from __future__ import annotations

import threading

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from unitofwork.sql.limits import Limit


def test_a_limit_may_end_while_the_watchdog_looks_at_another() -> None:
    """A garbage collection there may end an abandoned unit: nobody waits for the lock forever."""
    dialect = PGDialect_psycopg()
    abandoned = Limit(60.0, dialect, lambda: None).__enter__()
    ended = threading.Event()

    def find() -> None:
        abandoned.__exit__(None, None, None)
        ended.set()

    late = Limit(0.0, dialect, find).__enter__()
    assert ended.wait(20)
    late.__exit__(None, None, None)

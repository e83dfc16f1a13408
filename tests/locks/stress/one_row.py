"""Deadlocks and waits of PostgreSQL's own: about one and the same row, whoever holds what.

docs/locks.md, "One row", says how they come about. No order of locks has a part in them, so they
are told apart from those that there must not be.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict, deque
from collections.abc import Collection
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext
from tests.support.probe import ServerProbe

from unitofwork import AsyncUnitOfWork
from unitofwork.core.locks.refusal import asked_for
from unitofwork.policies.locks.book import Strength, Wants
from unitofwork.policies.locks.order import Resource
from unitofwork.sql.sqlstates import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE
from unitofwork.sql.symptoms import sqlstate_in
from unitofwork.sql.waits import processes_in, telling_of

WRITES = re.compile(r"while (?:updating|deleting) tuple (\(\d+,\d+\)) in relation \"(\w+)\"")
#: How the version of a row is locked that one waits to write, and by which processes that are still
#: at it: the lock of the waiter is still told when its statement has failed. A lock that has ended
#: is never put beside a new one (MultiXactIdExpand), so both were there at once.
LOCKERS = """
    SELECT m.mode, l.pid FROM {table}, pg_get_multixact_members(xmax) m
    LEFT JOIN pg_locks l ON l.transactionid = m.xid AND l.mode = 'ExclusiveLock'
    WHERE {condition} AND xmax::text::bigint > 0
"""
ENDS = {Strength.KEY_SHARE, Strength.UPDATE}


class Asked(NamedTuple):
    """What a unit asks for by a statement, and holds when it sends it."""

    wants: Wants
    held: frozenset[Resource]


class OneRow:
    """Counts such deadlocks and waits among the units of an asyncpg engine."""

    def __init__(self, uow: AsyncUnitOfWork, probe: ServerProbe) -> None:
        self._home = uow._home
        self._probe = probe
        # The last two of each process: one that was let go of by the victim's end may have sent
        # its next statement before the victim learns of it.
        self._sent: dict[int, deque[Asked]] = defaultdict(lambda: deque(maxlen=2))
        self.deadlocks = 0
        #: Waits of a write for a row that the server let two lock at once, FOR UPDATE and FOR KEY
        #: SHARE: as far as the row still shows both.
        self.waits = 0
        event.listen(uow.engine.sync_engine, "before_cursor_execute", self._sends)
        event.listen(uow.engine.sync_engine, "handle_error", self._failed)

    def _sends(self, connection: Connection, *_: Any) -> None:
        unit = self._home._by_connection.get(connection)
        if unit is not None:
            driver: Any = connection.connection.driver_connection
            asked = Asked(dict(asked_for(unit)), frozenset(unit.book.held))
            self._sent[driver.get_server_pid()].append(asked)

    def _failed(self, context: ExceptionContext) -> None:
        if sqlstate_in(context.original_exception) == DEADLOCK_DETECTED:
            victim, *others = processes_in(context.original_exception)
            told = [list(self._sent[victim])[-1:], *(self._sent[each] for each in others)]
            self.deadlocks += any(map(ask_for_one_row, itertools.product(*told)))
        if sqlstate_in(context.original_exception) == LOCK_NOT_AVAILABLE:
            found = WRITES.match(telling_of(context.original_exception).context or "")
            if found is not None and context.connection is not None:
                driver: Any = context.connection.connection.driver_connection
                self.waits += self._has_two(*found.groups(), own=driver.get_server_pid())

    def _has_two(self, place: str, table: str, own: int) -> bool:
        """Whether the waiter has it FOR UPDATE, and another one FOR KEY SHARE."""
        try:
            lockers = self._probe.execute(
                LOCKERS.format(table=table, condition=f"ctid = '{place}'")
            )
        except psycopg.Error:  # what has locked it is one transaction, or none
            return False
        is_own = any(mode == "forupd" and pid in (None, own) for mode, pid in lockers)
        return is_own and any(mode == "keysh" and pid not in (None, own) for mode, pid in lockers)


def ask_for_one_row(asked: Collection[Asked]) -> bool:
    """Whether all ask for a row that none holds, one for KEY SHARE and one for UPDATE of it."""
    common = set.intersection(*(set(each.wants) for each in asked))
    return any(
        {each.wants[row] for each in asked} >= ENDS
        for row in common
        if not any(row in each.held for each in asked)
    )

"""Deadlocks of PostgreSQL's own: those that ask for one and the same row, and hold nothing of it.

docs/locks.md, "What remains", says how they come about. No order of locks has a part in them, so
they are told apart from the deadlocks that there must not be.
"""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext

from unitofwork import AsyncUnitOfWork
from unitofwork.core.locks.refusal import asked_for
from unitofwork.policies.locks.book import Strength, Wants
from unitofwork.policies.locks.order import Resource
from unitofwork.sql.sqlstates import DEADLOCK_DETECTED
from unitofwork.sql.symptoms import sqlstate_in
from unitofwork.sql.waits import processes_in

ENDS = {Strength.KEY_SHARE, Strength.UPDATE}


class Asked(NamedTuple):
    """What a unit asks for by a statement, and holds when it sends it."""

    wants: Wants
    held: frozenset[Resource]


class OneRow:
    """Counts such deadlocks among the units of an asyncpg engine."""

    def __init__(self, uow: AsyncUnitOfWork) -> None:
        self._home = uow._home
        # The last two of each process: one that was let go of by the victim's end may have sent
        # its next statement before the victim learns of it.
        self._sent: dict[int, deque[Asked]] = defaultdict(lambda: deque(maxlen=2))
        self.count = 0
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
            self.count += any(map(ask_for_one_row, itertools.product(*told)))


def ask_for_one_row(asked: Collection[Asked]) -> bool:
    """Whether all ask for a row that none holds, one for KEY SHARE and one for UPDATE of it."""
    common = set.intersection(*(set(each.wants) for each in asked))
    return any(
        {each.wants[row] for each in asked} >= ENDS
        for row in common
        if not any(row in each.held for each in asked)
    )

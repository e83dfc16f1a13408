"""Deadlocks of PostgreSQL's own: two that ask for one and the same row, and hold nothing of it.

docs/locks.md, "What remains", says how they come about. No order of locks has a part in them, so
they are told apart from the deadlocks that there must not be.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.probe import ServerProbe

from unitofwork import AsyncUnitOfWork
from unitofwork.core.unit import Unit
from unitofwork.policies.locks.book import Strength

#: Seconds between two looks: a circle lasts for the server's deadlock_timeout.
PAUSE = 0.2
ENDS = {Strength.KEY_SHARE, Strength.UPDATE}
WAITS = (
    "SELECT pid, unnest(pg_blocking_pids(pid)) FROM pg_stat_activity "
    "WHERE wait_event = 'transactionid'"
)


class OneRow:
    """Looks for such circles among the units of an asyncpg engine while they are there."""

    def __init__(self, uow: AsyncUnitOfWork, probe: ServerProbe) -> None:
        self._uow = uow
        self._probe = probe
        #: The pairs of units that were in one.
        self.seen: set[frozenset[Unit]] = set()

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(PAUSE)
            self._look()

    def _look(self) -> None:
        waits = set(self._probe.execute(WAITS))
        circles = [(one, two) for one, two in waits if one < two and (two, one) in waits]
        units = {_process(unit): unit for unit in list(self._uow._home.running)} if circles else {}
        for one, two in circles:
            if one in units and two in units and ask_for_one_row(units[one], units[two]):
                self.seen.add(frozenset((units[one], units[two])))


def ask_for_one_row(one: Unit, two: Unit) -> bool:
    """Whether one asks for KEY SHARE and the other for UPDATE of a row that neither holds."""
    first, second = one.asking, two.asking
    return any(
        {first[row], second[row]} == ENDS
        for row in first.keys() & second.keys()
        if row not in one.book.held and row not in two.book.held
    )


def _process(unit: Unit) -> int | None:
    connection = unit.connection
    if connection is None or connection.closed or connection.invalidated:
        return None
    driver: Any = connection.connection.driver_connection
    process: int = driver.get_server_pid()
    return process

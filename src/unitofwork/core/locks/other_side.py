"""Who else was in a deadlock: the server tells its victim no more than the numbers of processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ...sql.waits import processes_in

if TYPE_CHECKING:
    from ..unit import Unit

log = logging.getLogger("unitofwork.locks")


def tell_other_side(unit: Unit, connection: Connection) -> None:
    """Roll back, ask what the other processes of the unit's deadlock do now, and note the answer.

    What they did when it happened is in the server's log. Raises nothing of the database's.
    """
    error, unit.deadlock = unit.deadlock, None
    others = [] if error is None else processes_in(error)[1:]  # the first is the victim
    if error is None or not others or connection.closed or connection.invalidated:
        return
    try:
        found = _ask(connection, others)
    except Exception as failed:
        log.info("unit %r: can't ask who else was in the deadlock: %r", unit.name, failed)
        return
    listed = "".join(
        f"\n    process {pid}: application {application!r}, {state or 'state unknown'}, "
        f"query: {' '.join((query or 'not to be seen by this role').split())[:500]}"
        for pid, application, state, query in found
    )
    error.add_note(
        "  The other side of the deadlock, as it was just after the rollback:"
        + (listed or f"\n    process {', '.join(map(str, others))}: gone")
    )


def _ask(connection: Connection, processes: Sequence[int]) -> list[Any]:
    driver = connection.connection
    driver.rollback()
    cursor = driver.cursor()
    try:
        cursor.execute(
            "SELECT pid, application_name, state, query FROM pg_stat_activity "
            f"WHERE pid IN ({', '.join(map(str, processes))}) ORDER BY pid"
        )
        return list(cursor.fetchall())
    finally:
        cursor.close()
        driver.rollback()

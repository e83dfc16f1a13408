"""Locks to take first, in order: what was asked for, held before a release, or learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ...policies.locks.book import Strength, Wants
from ...policies.locks.order import NAMES, name
from ...sql.row_locks import Wait
from ...sql.table_locks import lock_tables
from .acquire import allow_waits, locking, take, take_planned
from .names import asked_names

if TYPE_CHECKING:
    from ..unit import Unit

#: After so many refused attempts the unit keeps all others out of its tables: then each further
#: refusal must come from a table that it had not met, of which there are finitely many.
SERIAL_AFTER = 4
#: Of those units there is one at a time, so that they don't get in each other's way.
SERIAL = name(("unitofwork", "serial mode"))


def lock_first(unit: Unit, connection: Connection) -> None:
    """Take them, as the transaction has just begun."""
    _lock_first(unit, connection)
    for savepoint in unit.savepoints:
        # It is sent only now, although the session has begun it before.
        unit.savepoints[savepoint] = unit.book.mark()


def _lock_first(unit: Unit, connection: Connection) -> None:
    if not locks_first(unit):
        return
    wanted = unit.book.missing({**asked_names(unit), **wanted_first(unit)})
    if not wanted:
        return
    is_inside = unit.book.floor is not None and unit.book.floor() is not None
    if unit.story is None or unit.story.refusals < SERIAL_AFTER or is_inside:
        # What units around it hold may make some of them late.
        take_planned(unit, connection, unit.book.plan(wanted))
        return
    names = {resource: strength for resource, strength in wanted.items() if resource.rank == NAMES}
    rows = {one: strength for one, strength in sorted(wanted.items()) if one.rank != NAMES}
    if rows and unit.book.top is None:
        names[SERIAL] = Strength.UPDATE
    take_planned(unit, connection, unit.book.plan(names))
    if rows:
        _shut_others_out(unit, connection, rows)
        take(unit, connection, rows, Wait.BLOCK)


def wanted_first(unit: Unit) -> Wants:
    """What to lock before the transaction's first statement."""
    if unit.relock:
        return unit.relock
    return unit.story.wanted if unit.story is not None else {}


def locks_first(unit: Unit) -> bool:
    """Whether the transaction's first statement takes locks before anything else."""
    has_any = bool(unit.settings.lock_names or wanted_first(unit))
    return has_any and unit.home.rules.locks_rows


def _shut_others_out(unit: Unit, connection: Connection, wanted: Wants) -> None:
    """Keep all others out of the tables of `wanted`, and of those before them.

    An INSERT has the lock of its own table before that of a table that it refers to, whatever their
    order: so a wait with a table held must be a short one.
    """
    # Those below, too: a query on several tables holds the last while it waits in the first one.
    tables = unit.home.tables.up_to(max(resource.rank for resource in wanted))
    allow_waits(unit, connection)  # the names' query has limited them
    with locking(unit, wanted):
        connection.execute(lock_tables(tables))

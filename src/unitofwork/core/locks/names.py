"""Names that a unit takes before anything else, above READ COMMITTED before its snapshot."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Table

from ...errors import ConfigurationError
from ...policies.locks.book import Strength, Wants
from ...policies.locks.order import Resource, name
from .acquire import locking
from .keys import forms_of_columns

if TYPE_CHECKING:
    from ..unit import Unit

SNAPSHOTS = ("REPEATABLE READ", "SERIALIZABLE")


def name_of_value(
    table: Table, columns: tuple[Column[Any], ...], values: tuple[Any, ...]
) -> Resource:
    """The name of a unique value, or of a key that the client chooses."""
    plain, _ = forms_of_columns(columns).read(values)
    # The two sides of a relationship list the same columns in different orders.
    parts = sorted(zip((column.name for column in columns), plain, strict=True))
    return name((table.fullname, *itertools.chain(*zip(*parts, strict=True))))


def asked_names(unit: Unit) -> Wants:
    """The unit's `lock_names`, in the global order."""
    return dict.fromkeys(sorted(map(name, unit.settings.lock_names)), Strength.UPDATE)


def hold_names(unit: Unit, connection: Connection, undo: list[Any]) -> None:
    """Take the names for the session, where a transaction's own would come too late.

    A locking statement above READ COMMITTED has its snapshot before it waits, so what it waited
    for has changed since: serialization failure. The names are given back at the checkin, after
    the COMMIT. Raises `ConfigurationError` inside of a unit that holds locks.
    """
    rules = unit.home.rules
    if not rules.locks_rows or rules.isolation(connection, unit.settings) not in SNAPSHOTS:
        return
    if unit.book.top is not None:
        raise ConfigurationError(
            f"Unit {unit.name!r} takes lock_names before its snapshot, inside of a unit that holds "
            "locks: waiting for them could end in a circle.",
            "give the names to the outer unit.",
        )
    names = asked_names(unit)
    keys = [each.order[0] for each in names]
    undo.append(rules.drop_names)
    with locking(unit, names):
        rules.hold_names(connection, keys, unit.settings, unit.remaining())
    for resource, strength in names.items():
        unit.book.record(resource, strength, unit.opened_at)

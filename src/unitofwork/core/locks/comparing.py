"""Rows that a flush overwrites, locked and compared with what the unit has read, in one query."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select, true
from sqlalchemy.orm import Mapper

from ...policies.locks.book import Wants
from ...sql.row_locks import Step, Wait, load_statement
from ..reads import Difference, ReadRow, differences, names_of
from .acquire import Parameters, connection_of, take_and_load
from .row_keys import row_keys

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def lock_and_compare(
    tx: CoreTransaction, wants: Wants, suspects: Sequence[ReadRow]
) -> list[Difference] | None:
    """Lock `wants` and say what has changed of `suspects`; None, and nothing done, if it can't.

    It can where all are rows of one table, locked alike and in order, the suspects among them.
    """
    unit = tx.unit
    plan = unit.book.plan(wants)
    kinds = {(resource.rank, strength) for resource, strength in plan.in_order.items()}
    mappers = {row.mapper for row in suspects}
    if plan.late or len(kinds) != 1 or len(mappers) != 1:
        return None
    (mapper,), ((_, strength),) = mappers, kinds
    keys = row_keys(mapper)
    if len(keys) != 1 or not keys[0].is_whole:
        return None
    (row_key,) = keys
    asked = {unit.home.tables.row(row_key.table, row_key.of(row.key)) for row in suspects}
    if not asked <= plan.in_order.keys():
        return None
    resources = list(plan.in_order)
    names = names_of(suspects)

    def send(step: Step, limited: bool, parameters: Parameters) -> Sequence[Any]:
        statement = _statement(mapper, names, step, limited)
        return connection_of(tx).execute(statement, parameters).all()

    found = take_and_load(unit, row_key.table, strength, resources, send)
    now = {row_key.back(key): values for key, values in found.items()}
    return list(differences(mapper, suspects, names, now))


@functools.lru_cache(maxsize=256)
def _statement(
    mapper: Mapper[Any], names: tuple[str, ...], step: Step, limited: bool
) -> Select[Any]:
    locked, done, facts = load_statement(step, Wait.BLOCK, limited=limited)
    columns = [mapper.column_attrs[name].columns[0] for name in names]
    # A column of its own name each, for two attributes may have the same one.
    wanted = [locked.c[column.key].label(f"c{n}") for n, column in enumerate(columns)]
    rows = select(*wanted, *facts).select_from(done.outerjoin(locked, true()))
    return rows.order_by(locked.c.uow_place)

"""Statements through the session that write: each kind gets its locks in order, or is sent raw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Delete, Insert, Result, Update
from sqlalchemy.orm import ORMExecuteState

from .acquire import connection_of
from .bulk import execute_change
from .by_key import execute_by_key
from .declared import is_declared
from .dml import target_of
from .parts import writes_elsewhere
from .sorting import sort_rows
from .tables import translated
from .upserts import execute_insert

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: Databases whose rows are locked in the order that an INSERT names them, and not by queries.
_SORTED = ("mysql", "mariadb")


def execute_write(state: ORMExecuteState) -> Result[Any] | None:
    """Run the statement with its locks taken in order; None leaves it to SQLAlchemy as it is."""
    tx = cast("CoreTransaction", state.session)
    statement = state.statement
    if not isinstance(statement, (Update, Delete, Insert)) or translated(state.execution_options):
        return None
    rules = tx.unit.home.rules
    sorts = rules.dialect.name in _SORTED and isinstance(statement, Insert)
    target = target_of(statement) if rules.locks_rows or sorts else None
    if target is None:
        return None
    if sorts and isinstance(statement, Insert):
        if statement.select is None:
            ordered = sort_rows(statement, state.parameters, target)
            state.statement, state.parameters = ordered.statement, ordered.parameters
        return None
    if writes_elsewhere(statement) or is_declared(tx, target):
        return None
    if state.execution_options.get("autoflush", True):
        # First of all, because what it writes may be among the rows. There is no public name.
        tx._autoflush()
    # Its first statement locks what earlier attempts have learnt: the book is to be read after it.
    connection_of(tx)
    if isinstance(statement, Insert):
        return execute_insert(tx, state, statement, target)
    if state.parameters and not isinstance(state.parameters, Mapping):
        return execute_by_key(tx, state, statement, target)
    return execute_change(tx, state, statement, target)

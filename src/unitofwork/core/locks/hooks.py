"""The session events that the locks hang on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Result, event
from sqlalchemy.orm import ORMExecuteState, SessionTransaction
from sqlalchemy.sql.dml import UpdateBase

from ..transaction import CoreTransaction
from .again import lock_first
from .flush import lock_before, note_after
from .writing import execute_write


@event.listens_for(CoreTransaction, "after_begin")
def _begun(
    session: CoreTransaction, transaction: SessionTransaction, connection: Connection
) -> None:
    if transaction.parent is None:
        lock_first(session.unit, connection)


@event.listens_for(CoreTransaction, "before_flush")
def _about_to_flush(session: CoreTransaction, *_: object) -> None:
    lock_before(session)


@event.listens_for(CoreTransaction, "after_flush_postexec")
def _flushed(session: CoreTransaction, *_: object) -> None:
    note_after(session)


@event.listens_for(CoreTransaction, "do_orm_execute")
def _about_to_execute(state: ORMExecuteState) -> Result[Any] | None:
    return execute_write(state) if isinstance(state.statement, UpdateBase) else None

"""A savepoint as a block: what failed inside is undone, the rest of the unit goes on."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING

from sqlalchemy.orm import SessionTransaction

from .soundness import unsound
from .unit import Failure

if TYPE_CHECKING:
    from .transaction import CoreTransaction

log = logging.getLogger("unitofwork.unit")


class Savepoint:
    """SAVEPOINT at `enter`, RELEASE or ROLLBACK TO at `leave`; the block form for the sync face."""

    def __init__(self, tx: CoreTransaction) -> None:
        self._tx = tx
        self._nested: SessionTransaction | None = None
        self._outer_doom: Failure | None = None
        self._commits = self._rollbacks = 0

    def __enter__(self) -> None:
        self.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave(error)

    def enter(self) -> None:
        """Set the savepoint; pending changes are flushed before it."""
        unit = self._tx.unit
        self._nested = self._tx.begin_nested()
        self._outer_doom, unit.doom = unit.doom, None
        self._commits, self._rollbacks = len(unit.on_commit), len(unit.on_rollback)

    def leave(self, error: BaseException | None) -> None:
        """Keep the work since, or undo it if the block was left by `error`.

        Raises `SilentRollbackError` if a joined block inside had failed and that was swallowed.
        """
        unit = self._tx.unit
        doom, unit.doom = unit.doom, self._outer_doom
        if unit.ended or self._nested is None:
            return
        try:
            if error is None:
                self._release(doom)
        except BaseException:
            self._roll_back()
            raise
        if error is not None:
            self._roll_back()

    def _release(self, doom: Failure | None) -> None:
        unit = self._tx.unit
        unit.begin_use()
        try:
            silent = unsound(self._tx) if doom is None else unit.silent_rollback(doom)
            if silent is not None:
                raise silent
            self._tx.flush()
            assert self._nested is not None
            self._nested.commit()
        finally:
            unit.end_use()

    def _roll_back(self) -> None:
        unit = self._tx.unit
        # The work is undone, so its commit callbacks must not run and its rollback ones must.
        del unit.on_commit[self._commits :]
        unit.on_undone += unit.on_rollback[self._rollbacks :]
        del unit.on_rollback[self._rollbacks :]
        unit.take_turn()
        try:
            assert self._nested is not None
            self._nested.rollback()
        except Exception as failed:
            # The connection is gone, and the unit with it; the cause is on its way already.
            log.warning("unit %r: ROLLBACK TO SAVEPOINT failed: %r", unit.name, failed)
        finally:
            unit.end_use()

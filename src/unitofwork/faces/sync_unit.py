"""The block of a sync unit."""

from __future__ import annotations

import inspect
import logging
from types import TracebackType
from typing import Any

from sqlalchemy import Engine

from ..core import admission, current
from ..core.block import Block
from ..core.ending import finish, roll_back
from ..core.home import Home
from ..core.savepoint import Savepoint
from ..core.transaction import Transaction
from ..core.unit import Unit
from ..policies.admission import GateError
from ..policies.propagation import Decision
from ..settings import UnitSettings
from ..types import Place

log = logging.getLogger("unitofwork.unit")


class SyncUnit(Block):
    """`with uow() as tx:`"""

    def __init__(
        self,
        engine: Engine,
        home: Home,
        settings: UnitSettings,
        opened_at: Place,
        name: str | None = None,
    ) -> None:
        super().__init__(home, settings, opened_at, name)
        self._engine = engine
        self._savepoint: Savepoint | None = None

    def __enter__(self) -> Transaction:
        decision = self._begin()
        if decision is Decision.OPEN:
            return self._begin_unit()
        tx: Transaction = self.unit.tx
        if decision is Decision.SAVEPOINT:
            self._savepoint = tx.savepoint()
            try:
                self._savepoint.enter()
            except BaseException:
                self._left()
                raise
        return tx

    def _begin_unit(self) -> Transaction:
        unit = self.unit
        try:
            admit(unit)
            unit.tx = tx = Transaction(self._engine, unit=unit)
        except BaseException:
            self._not_begun()
            raise
        return tx

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raised: BaseException | None = None
        try:
            self._end(error)
        except BaseException as failed:
            raised = failed
        try:
            if self._stopped_by_server(raised or error):
                raise self.unit.timed_out() from (raised or error)
        finally:
            self._left()
        if raised is not None:
            raise raised

    def _end(self, error: BaseException | None) -> None:
        match self._decision:
            case Decision.OPEN:
                self._end_unit(error)
            case Decision.SAVEPOINT:
                assert self._savepoint is not None
                self._savepoint.leave(error)
            case _ if error is not None:
                self._joined_failed(error)

    def _end_unit(self, error: BaseException | None) -> None:
        tx: Transaction = self.unit.tx
        try:
            finish(tx, error)
        finally:
            # KeyboardInterrupt can strike between any two steps of finish().
            if not self.unit.ended:
                roll_back(tx)
            call_back(self.unit)


def admit(unit: Unit) -> None:
    """Wait for the unit's permits. Raises `AcquireTimeoutError` or `NestedUnitError`."""
    gate = admission.place_in_tree(unit)
    if gate is None:
        return
    waiting: Any = gate
    try:
        waiting.acquire(unit.settings.connections or 1, deadline=unit.acquire_deadline())
    except GateError as error:
        if unit.is_late():
            raise unit.timed_out() from None
        raise admission.not_admitted(unit, error) from None
    admission.grant(unit, gate)


def call_back(unit: Unit) -> None:
    """Run the callbacks that the outcome asks for, in order; one that fails stops no other."""
    current.leave(unit)
    for callback in unit.callbacks_due():
        try:
            result = callback()
            if inspect.iscoroutine(result):
                result.close()
                log.error(
                    "unit %r: callback %r is async; a sync unit can't await it", unit.name, callback
                )
        except Exception:
            log.exception(
                "unit %r was %s, but its callback %r failed",
                unit.name,
                unit.outcome.value,
                callback,
            )

"""The block of a sync unit."""

from __future__ import annotations

import inspect
import logging
from contextvars import copy_context
from types import TracebackType

from sqlalchemy import Engine

from ..core import current
from ..core.block import Block
from ..core.ending import conclude, finish, is_in_doubt, roll_back
from ..core.home import Home
from ..core.savepoint import Savepoint
from ..core.stopping import end_limit, statement_limit
from ..core.unit import Unit
from ..errors import CommitUnknownError
from ..policies.propagation import Decision
from ..settings import UnitSettings
from ..sql.limits import Limit
from ..types import Place
from .sync_transaction import Transaction, admit, verify

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
        self.engine = engine
        self._tx: Transaction
        self._savepoint: Savepoint | None = None
        self._limit: Limit | None = None

    def __enter__(self) -> Transaction:
        decision = self._begin()
        if self._settings.timeout is not None:
            self._limit = statement_limit(self.unit).__enter__()
        if decision is Decision.OPEN:
            return self._begin_unit()
        tx: Transaction = self.unit.tx
        self._limit_statements()
        if decision is Decision.SAVEPOINT:
            self._savepoint = tx.savepoint()
            try:
                self._savepoint.enter()
            except BaseException as error:
                self._left(error)
                raise
        return tx

    def _begin_unit(self) -> Transaction:
        unit = self.unit
        try:
            admit(unit)
            unit.tx = tx = self._tx = Transaction(self.engine, unit=unit)
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
        self._disarm()
        cause = self._in_time(error)
        try:
            self._end(cause)
        except BaseException as failed:
            raised = self._in_time(failed)
        finally:
            self._left(cause)
        if raised is not None:
            raise raised
        if cause is not None and cause is not error:
            raise cause

    def _in_time(self, error: BaseException | None) -> BaseException | None:
        """`error` in the user's terms: the end of the unit's time is a `UnitTimeoutError`."""
        late = self._stopped_by_server(error) or (error is None and self.unit.is_late())
        if error is not None and self._limit is not None:
            connecting = error is self.unit.connect_error and self.unit.is_late()
            late = late or self._limit.fired or connecting
        if not late or self.unit.ended:
            return error
        timed_out = self.unit.timed_out()
        timed_out.__cause__ = error
        return timed_out

    def _disarm(self) -> None:
        if self._limit is not None:
            self._limit.__exit__(None, None, None)

    def _left(self, error: BaseException | None = None) -> None:
        self._disarm()  # also where the block could not be entered
        super()._left(error)
        if error is None and self._decision is not Decision.OPEN:
            self._limit_statements()

    def _limit_statements(self) -> None:
        """Have the server stop a statement at the deadline: nothing else could in a thread.

        Only in a joined block, whose time differs from what was set when the unit began. After
        an error nothing is set: the transaction is aborted, or rolled back to before.
        """
        unit = self.unit
        if self._settings.timeout is None or unit.connection is None or unit.ended:
            return
        unit.begin_use()
        try:
            unit.home.rules.limit_statements(unit.connection, unit.settings, unit.remaining())
        finally:
            unit.end_use()

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
        tx = self._tx
        try:
            rolls_back = error is not None or self.unit.must_roll_back()
            with end_limit(self.unit, rolls_back=rolls_back):
                finish(tx, error)
        except CommitUnknownError as unknown:
            if not is_in_doubt(self.unit):
                raise
            conclude(self.unit, unknown, copy_context().run(verify, self.unit))
        finally:
            # KeyboardInterrupt can strike between any two steps of finish().
            if not self.unit.ended:
                roll_back(tx)
            call_back(self.unit)


def call_back(unit: Unit) -> None:
    """Run the callbacks that the outcome asks for, in order; one that fails stops no other."""
    current.leave(unit.link)
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

"""The block of an async unit."""

from __future__ import annotations

import asyncio
import inspect
import logging
from types import TracebackType

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from ..core import current
from ..core.block import Block
from ..core.cancellation import run_to_end
from ..core.ending import (
    commit_unknown,
    conclude,
    finish,
    has_pending_changes,
    is_in_doubt,
    needs_database,
)
from ..core.home import Home
from ..core.unit import Unit
from ..errors import CommitUnknownError
from ..policies.propagation import Decision
from ..settings import UnitSettings
from ..types import Outcome, Place
from .async_transaction import AsyncSavepoint, AsyncTransaction, EndLimits, admit, verify

log = logging.getLogger("unitofwork.unit")


class AsyncUnit(Block):
    """`async with uow() as tx:`"""

    def __init__(
        self,
        engine: AsyncEngine,
        home: Home,
        settings: UnitSettings,
        opened_at: Place,
        name: str | None = None,
    ) -> None:
        super().__init__(home, settings, opened_at, name)
        self.engine = engine
        self._tx: AsyncTransaction
        self._savepoint: AsyncSavepoint | None = None
        self._timer: asyncio.Timeout | None = None

    async def __aenter__(self) -> AsyncTransaction:
        decision = self._begin()
        if decision is Decision.OPEN:
            return await self._begin_unit()
        tx: AsyncTransaction = self.unit.tx
        if decision is Decision.SAVEPOINT:
            self._savepoint = tx.savepoint()
            try:
                await self._savepoint.__aenter__()
            except BaseException:
                self._left()
                raise
        if self._settings.timeout is not None:
            self._timer = await asyncio.timeout(self.unit.remaining()).__aenter__()
        return tx

    async def _begin_unit(self) -> AsyncTransaction:
        unit = self.unit
        try:
            if unit.deadline is not None:
                self._timer = await asyncio.timeout(unit.remaining()).__aenter__()
            await admit(unit)
            unit.tx = tx = self._tx = AsyncTransaction(self.engine, unit=unit)
        except BaseException as error:
            self._not_begun()
            if self._timer is not None and await _took(self._timer, error):
                raise unit.timed_out() from error
            raise
        return tx

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cause: BaseException | None = error
        if error is not None or (self._timer is not None and self._timer.expired()):
            cause = await self._in_time(error)
        raised: BaseException | None = None if cause is error else cause
        try:
            await (self._end_unit if self._decision is Decision.OPEN else self._end_part)(cause)
        except BaseException as failed:
            raised = await self._in_time(failed)
        else:
            if self._timer is not None:
                await self._in_time(cause)
        self._left()
        if raised is not None:
            raise raised

    async def _in_time(self, error: BaseException | None) -> BaseException | None:
        """`error` in the user's terms: the end of the unit's time is a `UnitTimeoutError`."""
        timer, self._timer = self._timer, None
        if timer is None:
            late = self._stopped_by_server(error)
        else:
            expired = timer.expired()
            # Its cancellation may have been swallowed in the block, but the time is over.
            late = await _took(timer, error) or (expired and error is None)
        if not late:
            return error
        timed_out = self.unit.timed_out()
        timed_out.__cause__ = error
        return timed_out

    async def _end_part(self, error: BaseException | None) -> None:
        if self._savepoint is not None:
            await self._savepoint.__aexit__(type(error) if error else None, error, None)
        elif error is not None:
            self._joined_failed(error)

    async def _end_unit(self, error: BaseException | None) -> None:
        unit, session = self.unit, self._tx.sync_session
        if error is None and not unit.must_roll_back() and has_pending_changes(session):
            try:
                await self._tx.flush()  # may still be cancelled, unlike what follows
            except BaseException as failed:
                await run_to_end(self._finish(failed))
                raise
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(None)
        if needs_database(session):
            await run_to_end(self._finish(error))
        else:
            try:
                finish(session, error)
            finally:
                if unit.callbacks_due():
                    await run_to_end(call_back(unit))

    async def _finish(self, error: BaseException | None) -> None:
        unit: Unit = self.unit
        limits = EndLimits(unit, rolls_back=error is not None or unit.must_roll_back())
        try:
            await limits.keep(greenlet_spawn(finish, self._tx.sync_session, error))
        except CommitUnknownError as unknown:
            if not is_in_doubt(unit):
                raise
            conclude(unit, unknown, await verify(unit))
        except TimeoutError as late:
            if not limits.expired():
                raise  # UnitTimeoutError, or the driver's own
            self._server_did_not_answer(error, late)
        finally:
            await call_back(unit)

    def _server_did_not_answer(self, error: BaseException | None, late: TimeoutError) -> None:
        """The connection was closed instead; raise what the caller would not learn otherwise."""
        unit = self.unit
        log.warning("unit %r: the server did not answer at its end", unit.name)
        if unit.outcome is Outcome.UNKNOWN:
            raise commit_unknown(unit) from late
        if error is not None or unit.rollback_only or unit.outcome is Outcome.COMMITTED:
            return
        raise unit.silent_rollback(unit.doom) if unit.doom is not None else late


async def _took(timer: asyncio.Timeout, error: BaseException | None) -> bool:
    """Whether `error` is the cancellation by the unit's own timer."""
    try:
        await timer.__aexit__(type(error) if error else None, error, None)
    except TimeoutError:
        return True
    return False


async def call_back(unit: Unit) -> None:
    """Run the callbacks that the outcome asks for, in order; one that fails stops no other."""
    current.leave(unit.link)
    for callback in unit.callbacks_due():
        try:
            result = callback()
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception(
                "unit %r was %s, but its callback %r failed",
                unit.name,
                unit.outcome.value,
                callback,
            )

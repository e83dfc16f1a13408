"""The block of an async unit, and its transaction."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from ..core import admission, current
from ..core.block import Block
from ..core.cancellation import run_to_end
from ..core.ending import commit_unknown, finish, has_pending_changes, needs_database
from ..core.home import Home
from ..core.places import caller
from ..core.reads import Recheck
from ..core.release import check_recheck, check_released, release, resume
from ..core.savepoint import Savepoint
from ..core.transaction import UnitView
from ..core.unit import Unit
from ..policies.admission import GateError
from ..policies.propagation import Decision
from ..settings import UnitSettings
from ..types import Outcome, Place
from .sync_transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("unitofwork.unit")

#: Seconds for a ROLLBACK, or for a COMMIT past the unit's timeout, before the connection is
#: closed instead. A server that answers at all answers a ROLLBACK at once.
END_TIMEOUT = 5.0


class AsyncTransaction(UnitView, AsyncSession):
    """The `tx` of an async unit: an `AsyncSession` whose transaction the block begins and ends."""

    sync_session_class = Transaction
    sync_session: Transaction

    def __init__(self, engine: AsyncEngine, *, unit: Unit) -> None:
        super().__init__(engine, unit=unit)
        self.unit = unit

    def savepoint(self) -> AsyncSavepoint:
        """`async with tx.savepoint():` a part of the unit that is undone alone.

        An exception that leaves the block undoes the work since its beginning; catch it outside.
        Raises `SilentRollbackError` at its end if a joined block inside failed unseen.
        """
        return AsyncSavepoint(self)

    def released(self, *, commit: bool = False, recheck: Recheck = "raise") -> AsyncReleased:
        """`async with tx.released():` hold nothing while waiting for the outside world.

        The transaction ends and the connection goes back to the pool; attributes that were loaded
        stay readable, any other use of `tx` raises `TransactionReleasedError`. Raises
        `UnsavedWorkError` if writes or locks would be lost, unless `commit`, which commits them.
        Afterwards the rows that were read are read again: `recheck` says whether a change raises
        `StaleReadError` ("raise"), is taken over ("refresh") or is not looked for ("ignore").
        If the block fails, the unit stays released and is rolled back.
        """
        check_recheck(recheck)
        return AsyncReleased(self, commit, recheck)

    async def release(self, *, commit: bool = False) -> None:
        """The first half of `released()`, for code that can't use a block."""
        self.unit.check_usable()
        # Half a release would leave the connection to no one: it is not interrupted.
        await run_to_end(self._release(commit, caller()))

    async def _release(self, commit: bool, place: Place) -> None:
        limit = asyncio.timeout(_patience(self.unit, rolls_back=not commit))
        try:
            async with limit:
                await self.run_sync(lambda _: release(self.sync_session, commit, place))
        except TimeoutError as late:
            if limit.expired() and self.unit.outcome is Outcome.UNKNOWN:
                raise commit_unknown(self.unit) from late
            raise

    async def reacquire(self, *, recheck: Recheck = "raise") -> None:
        """The second half of `released()`. Raises `StaleReadError`, `AcquireTimeoutError`."""
        check_recheck(recheck)
        check_released(self.unit)
        await admit(self.unit)
        await self.run_sync(lambda _: resume(self.sync_session, recheck))

    async def outside(
        self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Await `function(*args, **kwargs)` while the unit is released; see `released()`.

        Its result is kept: where the unit is run again and gets to the same call with the same
        arguments, the call is not made a second time.
        """
        story, call = self.unit.story, (args, kwargs)
        kept = story.kept_result(function, call) if story is not None else None
        if kept is not None:
            result: T = kept.result
            return result
        async with self.released():
            result = await function(*args, **kwargs)
            if story is not None:
                story.keep(function, call, result)
        return result


class AsyncReleased:
    """The block form of release and reacquire."""

    def __init__(self, tx: AsyncTransaction, commit: bool, recheck: Recheck) -> None:
        self._tx = tx
        self._commit = commit
        self._recheck: Recheck = recheck

    async def __aenter__(self) -> None:
        await self._tx.release(commit=self._commit)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self._tx.reacquire(recheck=self._recheck)


class AsyncSavepoint:
    """The block form of a savepoint."""

    def __init__(self, tx: AsyncTransaction) -> None:
        self._tx = tx
        self._savepoint = Savepoint(tx.sync_session)

    async def __aenter__(self) -> None:
        await self._tx.run_sync(lambda _: self._savepoint.enter())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leaving = self._tx.run_sync(lambda _: self._savepoint.leave(error))
        await (leaving if error is None else run_to_end(leaving))


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
            await self._end(cause)
        except BaseException as failed:
            raised = await self._in_time(failed)
        else:
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

    async def _end(self, error: BaseException | None) -> None:
        match self._decision:
            case Decision.OPEN:
                await self._end_unit(error)
            case Decision.SAVEPOINT:
                assert self._savepoint is not None
                await self._savepoint.__aexit__(type(error) if error else None, error, None)
            case _ if error is not None:
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
        rolls_back = error is not None or unit.must_roll_back()
        limit = asyncio.timeout(_patience(unit, rolls_back))
        try:
            async with limit:
                await self._tx.run_sync(lambda _: finish(self._tx.sync_session, error))
        except TimeoutError as late:
            if not limit.expired():
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


def _patience(unit: Unit, rolls_back: bool) -> float | None:
    """Seconds that the server gets for the end of a transaction."""
    if rolls_back:
        return END_TIMEOUT
    remaining = unit.remaining()
    return None if remaining is None else max(remaining, END_TIMEOUT)


async def admit(unit: Unit) -> None:
    """Wait for the unit's permits. Raises `AcquireTimeoutError` or `NestedUnitError`."""
    gate = admission.place_in_tree(unit)
    if gate is None:
        return
    # A free gate is passed without a turn of the event loop.
    if not gate.try_acquire(unit.settings.connections or 1):
        waiting: Any = gate
        unit.is_waiting = True
        try:
            await waiting.acquire(unit.settings.connections or 1, deadline=unit.acquire_deadline())
        except GateError as error:
            raise admission.not_admitted(unit, error) from None
        finally:
            unit.is_waiting = False
    admission.grant(unit, gate)


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

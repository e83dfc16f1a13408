"""The `tx` of an async unit: the core's session, awaited, and what waits for the gate."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, Unpack

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import greenlet_spawn

from ..core import admission, current
from ..core.cancellation import run_to_end
from ..core.ending import (
    commit_unknown,
    conclude,
    is_in_doubt,
)
from ..core.places import caller
from ..core.reads import Recheck
from ..core.release import check_recheck, check_released, release, resume, was_released
from ..core.savepoint import Savepoint
from ..core.settling import not_verified, verified
from ..core.stopping import end_limit
from ..core.transaction import UnitView
from ..core.unit import Unit
from ..errors import CommitUnknownError
from ..policies.admission import GateError
from ..policies.end_limits import for_commit, for_rollback
from ..sql.limits import Limit
from ..types import LockOptions, Outcome, Place
from .sync_transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")


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

    def released(
        self, *, commit: bool = False, relock: bool = False, recheck: Recheck = "raise"
    ) -> AsyncReleased:
        """`async with tx.released():` hold nothing while waiting for the outside world.

        The transaction ends and the connection goes back to the pool; attributes that were loaded
        stay readable, any other use of `tx` raises `TransactionReleasedError`. Raises
        `UnsavedWorkError` if writes or locks would be lost, unless `commit`, which commits them;
        `relock` then takes the same locks again on return, in order, before anything else.
        Afterwards the rows that were read are read again: `recheck` says whether a change raises
        `StaleReadError` ("raise"), is taken over ("refresh") or is not looked for ("ignore").
        If the block fails, the unit stays released and is rolled back.
        """
        check_recheck(recheck)
        return AsyncReleased(self, commit, relock, recheck)

    async def release(self, *, commit: bool = False, relock: bool = False) -> None:
        """The first half of `released()`, for code that can't use a block."""
        self.unit.check_usable()
        # Half a release would leave the connection to no one: it is not interrupted.
        await run_to_end(self._release(commit, relock, caller()))

    async def _release(self, commit: bool, relock: bool, place: Place) -> None:
        limits = EndLimits(self.unit, rolls_back=not commit)
        session = self.sync_session
        try:
            await limits.keep(greenlet_spawn(release, session, commit, relock, place))
        except CommitUnknownError as unknown:
            if not is_in_doubt(self.unit):
                raise
            outcome = await verify(self.unit)
            if outcome is not Outcome.COMMITTED:
                conclude(self.unit, unknown, outcome)
            self.unit.committed_before = True
            was_released(self.sync_session, place)
        except TimeoutError as late:
            if limits.expired() and self.unit.outcome is Outcome.UNKNOWN:
                raise commit_unknown(self.unit) from late
            raise

    async def reacquire(self, *, recheck: Recheck = "raise") -> None:
        """The second half of `released()`. Raises `StaleReadError`, `AcquireTimeoutError`."""
        check_recheck(recheck)
        check_released(self.unit)
        await admit(self.unit)
        await greenlet_spawn(resume, self.sync_session, recheck)

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

    # --- row locks: the sync session's, awaited

    async def lock(self, entity: type[T], key: Any, **how: Unpack[LockOptions]) -> T:
        """Load and lock one row; see `lock_many`. A composite key is a tuple.

        With `skip_locked` a row that another transaction holds is a `RowNotFoundError` too.
        """
        return await greenlet_spawn(self.sync_session.lock, entity, key, **how)

    async def lock_many(
        self, entity: type[T], keys: Iterable[Any], **how: Unpack[LockOptions]
    ) -> list[T]:
        """Load and lock rows, sorted by primary key, so that no two units wait in a circle.

        Returns the objects in the order of `keys`, fresh from the database. `strength`: of the
        lock; the default is that of an UPDATE of plain columns; "update" before a delete or a
        change of key or unique columns. `timeout`: seconds that each lock is waited for (None:
        `lock_timeout`); `nowait`: none at all, and the database's error; `skip_locked`: leave
        out what others hold. Raises `RowNotFoundError`, `LateLockError` (the rows come before
        some that are held, and are not free), `UnsavedWorkError` (a row has changes not flushed).
        """
        return await greenlet_spawn(self.sync_session.lock_many, entity, keys, **how)

    async def lock_across(
        self, wanted: Mapping[type[Any], Iterable[Any]], **how: Unpack[LockOptions]
    ) -> dict[type[Any], list[Any]]:
        """`lock_many` for rows of several classes at once: `{Account: [1, 2], Order: [9]}`."""
        return await greenlet_spawn(self.sync_session.lock_across, wanted, **how)

    async def lock_where(self, statement: Select[tuple[T]], **how: Unpack[LockOptions]) -> list[T]:
        """Load and lock the rows that a select of one class finds; options as for `lock_many`.

        They still match when they are locked. `skip_locked=True` makes a queue:
        `select(Job).where(...).order_by(Job.id).limit(10)` gives each worker other jobs.
        """
        return await greenlet_spawn(self.sync_session.lock_where, statement, **how)

    async def lock_name(  # the time limit is the server's
        self,
        *parts: Any,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """Take a named lock until the end of the transaction: `lock_name("invoices", 2026)`.

        It orders what has no row yet: numbers to be given out, unique values to be inserted.
        Names come before all rows in the order, so take them first. Raises `LateLockError`.
        """
        await greenlet_spawn(self.sync_session.lock_name, *parts, timeout=timeout)


class AsyncReleased:
    """The block form of release and reacquire."""

    def __init__(self, tx: AsyncTransaction, commit: bool, relock: bool, recheck: Recheck) -> None:
        self._tx = tx
        self._commit = commit
        self._relock = relock
        self._recheck: Recheck = recheck

    async def __aenter__(self) -> None:
        await self._tx.release(commit=self._commit, relock=self._relock)

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
        await greenlet_spawn(self._savepoint.enter)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leaving = greenlet_spawn(self._savepoint.leave, error)
        await (leaving if error is None else run_to_end(leaving))


class EndLimits:
    """For the end of a transaction: by its socket, or where that is not known by a timeout."""

    def __init__(self, unit: Unit, rolls_back: bool) -> None:
        self._limit = end_limit(unit, rolls_back=rolls_back)
        self._timeout: asyncio.Timeout | None = None
        if not Limit.is_known(unit.home.engine.dialect):
            remaining = unit.remaining()
            seconds = for_rollback(remaining) if rolls_back else for_commit(remaining)
            self._timeout = asyncio.timeout(seconds)

    async def keep(self, work: Awaitable[None]) -> None:
        """Await `work` within them."""
        if self._timeout is None:
            with self._limit:
                await work
        else:
            async with self._timeout:
                await work

    def expired(self) -> bool:
        """Whether the timeout has cut the work short."""
        return self._timeout is not None and self._timeout.expired()


async def verify(unit: Unit) -> Outcome:
    """Ask the application about an unknown COMMIT."""
    # In the end's own task, and so in a context of its own: it may open units there.
    current.leave(unit.link)
    ask = unit.settings.verify
    try:
        answer = None if ask is None else ask()
        if inspect.isawaitable(answer):
            answer = await answer
    except Exception as error:
        return not_verified(unit, error)
    except BaseException:
        unit.end(Outcome.UNKNOWN)
        raise
    return verified(unit, answer)


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

"""The `tx` of a sync unit: what waits for the gate is added to the core's session."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from ..core import admission, current
from ..core.ending import conclude, is_in_doubt
from ..core.places import caller
from ..core.reads import Recheck
from ..core.release import check_recheck, check_released, release, resume, was_released
from ..core.settling import not_verified, verified
from ..core.stopping import end_limit
from ..core.transaction import CoreTransaction
from ..core.unit import Unit
from ..errors import CommitUnknownError
from ..policies.admission import GateError
from ..types import Outcome

P = ParamSpec("P")
T = TypeVar("T")


class Transaction(CoreTransaction):
    """The `tx` of a sync unit: a `Session` whose transaction the block begins and ends."""

    def released(
        self, *, commit: bool = False, relock: bool = False, recheck: Recheck = "raise"
    ) -> Released:
        """`with tx.released():` hold nothing while waiting for the outside world.

        The transaction ends and the connection goes back to the pool; attributes that were loaded
        stay readable, any other use of `tx` raises `TransactionReleasedError`. Raises
        `UnsavedWorkError` if writes or locks would be lost, unless `commit`, which commits them;
        `relock` then takes the same locks again on return, in order, before anything else.
        Afterwards the rows that were read are read again: `recheck` says whether a change raises
        `StaleReadError` ("raise"), is taken over ("refresh") or is not looked for ("ignore").
        If the block fails, the unit stays released and is rolled back.
        """
        check_recheck(recheck)
        return Released(self, commit, relock, recheck)

    def release(self, *, commit: bool = False, relock: bool = False) -> None:
        """The first half of `released()`, for code that can't use a block."""
        place = caller()
        try:
            with end_limit(self.unit, rolls_back=not commit):
                release(self, commit, relock, place)
        except CommitUnknownError as unknown:
            if not is_in_doubt(self.unit):
                raise
            outcome = copy_context().run(verify, self.unit)
            if outcome is not Outcome.COMMITTED:
                conclude(self.unit, unknown, outcome)
            self.unit.committed_before = True
            was_released(self, place)

    def reacquire(self, *, recheck: Recheck = "raise") -> None:
        """The second half of `released()`. Raises `StaleReadError`, `AcquireTimeoutError`."""
        check_recheck(recheck)
        check_released(self.unit)
        admit(self.unit)
        resume(self, recheck)

    def outside(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function(*args, **kwargs)` while the unit is released; see `released()`.

        Its result is kept: where the unit is run again and gets to the same call with the same
        arguments, the call is not made a second time.
        """
        story, call = self.unit.story, (args, kwargs)
        kept = story.kept_result(function, call) if story is not None else None
        if kept is not None:
            result: T = kept.result
            return result
        with self.released():
            result = function(*args, **kwargs)
            if story is not None:
                story.keep(function, call, result)
        return result


class Released:
    """The block form of release and reacquire."""

    def __init__(self, tx: Transaction, commit: bool, relock: bool, recheck: Recheck) -> None:
        self._tx = tx
        self._commit = commit
        self._relock = relock
        self._recheck: Recheck = recheck

    def __enter__(self) -> None:
        self._tx.release(commit=self._commit, relock=self._relock)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._tx.reacquire(recheck=self._recheck)


def admit(unit: Unit) -> None:
    """Wait for the unit's permits. Raises `AcquireTimeoutError` or `NestedUnitError`."""
    gate: Any = admission.place_in_tree(unit)
    if gate is None:
        return
    unit.is_waiting = True
    try:
        gate.acquire(unit.settings.connections or 1, deadline=unit.acquire_deadline())
    except GateError as error:
        if unit.is_late():
            raise unit.timed_out() from None
        raise admission.not_admitted(unit, error) from None
    finally:
        unit.is_waiting = False
    admission.grant(unit, gate)


def verify(unit: Unit) -> Outcome:
    """Ask the application about an unknown COMMIT, in a context where the unit is not current."""
    current.leave(unit.link)
    ask = unit.settings.verify
    try:
        answer = None if ask is None else ask()
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError(f"a sync unit can't await {ask!r}")
    except Exception as error:
        return not_verified(unit, error)
    except BaseException:
        unit.end(Outcome.UNKNOWN)
        raise
    return verified(unit, answer)

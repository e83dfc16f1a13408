"""The `tx` of a sync unit: what waits for the gate is added to the core's session."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from ..core import admission
from ..core.places import caller
from ..core.reads import Recheck
from ..core.release import check_recheck, check_released, release, resume
from ..core.transaction import CoreTransaction
from ..core.unit import Unit
from ..policies.admission import GateError

P = ParamSpec("P")
T = TypeVar("T")


class Transaction(CoreTransaction):
    """The `tx` of a sync unit: a `Session` whose transaction the block begins and ends."""

    def released(self, *, commit: bool = False, recheck: Recheck = "raise") -> Released:
        """`with tx.released():` hold nothing while waiting for the outside world.

        The transaction ends and the connection goes back to the pool; attributes that were loaded
        stay readable, any other use of `tx` raises `TransactionReleasedError`. Raises
        `UnsavedWorkError` if writes or locks would be lost, unless `commit`, which commits them.
        Afterwards the rows that were read are read again: `recheck` says whether a change raises
        `StaleReadError` ("raise"), is taken over ("refresh") or is not looked for ("ignore").
        If the block fails, the unit stays released and is rolled back.
        """
        check_recheck(recheck)
        return Released(self, commit, recheck)

    def release(self, *, commit: bool = False) -> None:
        """The first half of `released()`, for code that can't use a block."""
        release(self, commit, caller())

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

    def __init__(self, tx: Transaction, commit: bool, recheck: Recheck) -> None:
        self._tx = tx
        self._commit = commit
        self._recheck: Recheck = recheck

    def __enter__(self) -> None:
        self._tx.release(commit=self._commit)

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

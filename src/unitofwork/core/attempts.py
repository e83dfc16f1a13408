"""What is kept and put back between the attempts of one unit."""

from __future__ import annotations

import copy
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import exc, inspect
from sqlalchemy.orm import InstanceState

from ..errors import ConfigurationError, LateLockError, RetriesExceededError
from ..policies.locks.book import Strength, stronger
from ..policies.locks.order import Resource
from ..policies.retrying import Fate, RetryBudget, RetryPolicy
from ..sql.sqlstates import DEADLOCK_DETECTED, IN_FAILED_TRANSACTION, LOCK_NOT_AVAILABLE
from ..sql.symptoms import fate_of_error, sqlstate_in
from .unit import Unit

#: SQLSTATE deadlock_detected and lock_not_available.
LOCK_TROUBLE = frozenset({DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE})

#: One for the process: an outage is common to all its units.
BUDGET = RetryBudget()


_instant = False


def set_testing(on: bool = True) -> None:
    """Retry without waiting: for tests. Attempts and their limits stay as they are."""
    global _instant
    _instant = on


def pause(seconds: float) -> float:
    """How long to really wait."""
    return 0.0 if _instant else seconds


class Attempt(NamedTuple):
    """A failed attempt: the error that ended it, and how long it took, in seconds."""

    error: BaseException
    seconds: float


@dataclass(slots=True)
class _Kept:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    result: Any


class Story:
    """All attempts of one unit."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.failed: list[Attempt] = []
        self.needs_new_connections = False
        #: Locks that refused attempts have held or asked for; the next one takes them first.
        self.wanted: dict[Resource, Strength] = {}
        #: Attempts that ended because a late lock was refused; because of a wait that the
        #: tripwire or the detector ended.
        self.refusals = self.trips = 0
        self._kept: list[_Kept] = []
        self._next = 0
        self._began = self._first_began = time.monotonic()
        self._around: BaseException | None = None

    def seconds(self, now: float) -> float:
        """Since the first attempt began."""
        return now - self._first_began

    @property
    def number(self) -> int:
        """Of the attempt that is running, from 1."""
        return len(self.failed) + 1

    def begin_attempt(self) -> None:
        """The next attempt starts."""
        self._began = time.monotonic()
        self._next = 0
        self._around = sys.exception()
        if not self.failed:
            self._first_began = self._began
            BUDGET.earn()

    def attempt_failed(self, error: BaseException, unit: Unit) -> bool:
        """Note a failure; whether the unit may be run again for it."""
        self.failed.append(Attempt(error, time.monotonic() - self._began))
        fate = self._fate(error, unit)
        undecided = fate in (Fate.UNDECIDED, Fate.NEVER)
        if undecided and self.policy.on is not None and self.policy.on(error):
            fate = Fate.RETRY
        if fate is Fate.RETRY_ON_NEW_CONNECTIONS and unit.settings.read_only:
            return False  # the unit itself had asked for a read-only transaction
        if fate in (Fate.NEVER, Fate.UNDECIDED, Fate.FINAL):
            return False
        if unit.committed_before:
            error.add_note(
                f"Unit {unit.name!r} was not run again: it had committed a part at "
                "release(commit=True), which a second run would do twice."
            )
            return False
        if fate is not Fate.RETRY and not BUDGET.spend():
            error.add_note(
                f"Unit {unit.name!r} was not run again: the retry budget of the process is spent "
                "(the database is in trouble; retries may add a tenth to its load)."
            )
            return False
        self.needs_new_connections = fate is Fate.RETRY_ON_NEW_CONNECTIONS
        if fate is Fate.RETRY:
            self._learn(error, unit)
        return True

    def _learn(self, error: BaseException, unit: Unit) -> None:
        """Have the next attempt lock first, in order, what this one held and asked for."""
        refused = isinstance(error, LateLockError)
        tripped = not refused and sqlstate_in(error) in LOCK_TROUBLE
        self.refusals += refused
        self.trips += tripped
        if refused or tripped:
            stronger(self.wanted, unit.wanted)
            stronger(self.wanted, unit.book.strengths())

    @property
    def may_go_on_at_once(self) -> bool:
        """Whether the next attempt waits for what stopped this one by itself, in order."""
        return isinstance(self.failed[-1].error, LateLockError)

    def _fate(self, error: BaseException, unit: Unit) -> Fate:
        if error is unit.refusal and sqlstate_in(error) == LOCK_NOT_AVAILABLE:
            return Fate.NEVER  # the answer that nowait=True or timeout= have asked for
        fate = fate_of_error(error, self._around)
        if fate is Fate.UNDECIDED and error is unit.connect_error:
            return Fate.RETRY_WITHIN_BUDGET if _is_of_database(error) else fate
        aborted = fate is Fate.UNDECIDED and sqlstate_in(error) == IN_FAILED_TRANSACTION
        failed = unit.failed_statement.error if aborted and unit.failed_statement else None
        # "current transaction is aborted": the failure that was swallowed before decides.
        return fate if failed is None else fate_of_error(failed, self._around)

    def exceeded(self, name: str) -> RetriesExceededError:
        """The error after the last attempt."""
        listed = "".join(
            f"\n  {number}. after {attempt.seconds:.3f} s: {type(attempt.error).__name__}: "
            f"{' '.join(str(attempt.error).split())[:160]}"
            for number, attempt in enumerate(self.failed, 1)
        )
        error = RetriesExceededError(
            f"Unit {name!r} failed {len(self.failed)} times, each time with an error that a "
            f"further attempt may not meet:{listed}",
            "look at what the units contend for (same rows in different orders, long units); more "
            "attempts only hide it.",
            attempts=tuple(self.failed),
        )
        error.__cause__ = self.failed[-1].error
        return error

    # --- results of external calls, which are not made again

    def kept_result(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Kept | None:
        """What an earlier attempt got from the same call at the same point, if it did."""
        if self._next >= len(self._kept):
            return None
        kept = self._kept[self._next]
        if kept.function != function or kept.arguments != arguments:
            del self._kept[self._next :]  # this attempt goes another way
            return None
        self._next += 1
        return kept

    def keep(self, function: Callable[..., Any], arguments: tuple[Any, ...], result: Any) -> None:
        """Remember the result of a call for later attempts."""
        try:
            as_given = copy.deepcopy(arguments)  # the caller may change a list afterwards
        except Exception:
            return  # then it can't be told whether a later call is the same one
        self._kept.append(_Kept(function, as_given, result))
        self._next = len(self._kept)


class Arguments:
    """The arguments of a call as first given: mutable ones are put back before each attempt.

    Raises `ConfigurationError` for what a second attempt could not be given again.
    """

    def __init__(self, name: str, args: Iterable[Any], kwargs: dict[str, Any]) -> None:
        self._name = name
        #: Each mutable container, at any depth, with its content.
        self._saved: dict[int, tuple[Any, Any]] = {}
        for value in (*args, *kwargs.values()):
            self._remember(value)

    def restore(self) -> None:
        """In place, so that the caller's own references see it too."""
        for container, content in self._saved.values():
            container.clear()
            if isinstance(container, (dict, set)):
                container.update(content)
            else:
                container.extend(content)

    def _remember(self, value: Any) -> None:
        if isinstance(value, (list, dict, set, bytearray, deque)):
            if id(value) in self._saved:
                return
            self._saved[id(value)] = (value, copy.copy(value))
        if isinstance(value, (list, tuple, set, frozenset, deque)):
            for each in value:
                self._remember(each)
        elif isinstance(value, dict):
            for each in value.values():
                self._remember(each)
        elif not isinstance(value, _PLAIN):
            self._refuse(value)

    def _refuse(self, value: Any) -> None:
        if isinstance(value, (Iterator, AsyncIterator)):
            raise ConfigurationError(
                f"{self._name}() was given an iterator ({type(value).__name__}), which a second "
                "attempt would find used up.",
                "pass a list, or switch retries off with retry=None.",
            )
        if isinstance(inspect(value, raiseerr=False), InstanceState):
            raise ConfigurationError(
                f"{self._name}() was given a mapped object ({type(value).__name__}) from outside "
                "of its unit; a second attempt has a new session, which would not know of its "
                "changes.",
                "pass its key and load it inside, or call it inside the unit that has the object, "
                "or switch retries off with retry=None.",
            )


def _is_of_database(error: BaseException) -> bool:
    # asyncpg lets the socket's own errors through where there is no connection yet.
    return isinstance(error, (exc.OperationalError, exc.InterfaceError, OSError))


#: Not worth a look.
_PLAIN = (str, bytes, int, float, bool, type(None))

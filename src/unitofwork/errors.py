"""Every error and warning of the library; `docs/errors.md` explains each code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .types import Outcome, Place


class UnitOfWorkError(Exception):
    """Base of all errors of this library.

    `what` says what happened, `remedy` what to do next, `code` names the section of the errors
    page. Further facts are attributes, which each subclass declares.
    """

    code: ClassVar[str] = "unitofwork"

    def __init__(self, what: str, remedy: str = "", **fields: Any) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self._fields = fields
        for name, value in fields.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        remedy = f"\n  What to do: {self.remedy}" if self.remedy else ""
        return f"{self.what}{remedy}\n  Explained at: docs/errors.md#{self.code}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (Celery, multiprocessing): keep the fields.
        return (_rebuild, (type(self), self.what, self.remedy, self._fields))


def _rebuild(
    kind: type[UnitOfWorkError], what: str, remedy: str, fields: dict[str, Any]
) -> UnitOfWorkError:
    return kind(what, remedy, **fields)


class ConfigurationError(UnitOfWorkError):
    """An option, engine or decorated function that can't work; found before any I/O."""

    code = "configuration"


class PoolSizingError(ConfigurationError):
    """The pools of the fleet don't fit the server."""

    code = "pool-sizing"
    findings: tuple[Any, ...] = ()


class NoUnitError(UnitOfWorkError):
    """There is no unit here: this task (thread) opened none."""

    code = "no-unit"


class TransactionStateError(UnitOfWorkError):
    """A call that the state of the unit doesn't allow, such as use after its end."""

    code = "transaction-state"
    name: str
    opened_at: Place | None = None


class TransactionReleasedError(TransactionStateError):
    """The unit is released: it holds no connection until it is reacquired."""

    code = "transaction-released"


class PropagationError(UnitOfWorkError):
    """Options that contradict the unit that this task is already in."""

    code = "propagation"
    outer_name: str | None = None
    outer_opened_at: Place | None = None


class NestedUnitError(UnitOfWorkError):
    """A unit tree asked for more connections than it reserved."""

    code = "nested-unit"
    outer_opened_at: Place | None = None
    inner_opened_at: Place | None = None


class ConcurrentUseError(UnitOfWorkError):
    """Two tasks (threads) used one transaction at the same time."""

    code = "concurrent-use"
    here: Place | None = None
    there: Place | None = None


class AcquireTimeoutError(UnitOfWorkError, TimeoutError):
    """No connection became free within `acquire_timeout`, or too many units wait for one already.

    That is at `max_waiting`, or by `Shedding`.
    """

    code = "acquire-timeout"
    waited: float
    stats: Any = None
    holders: tuple[Any, ...] = ()


class PoolDeadlockError(UnitOfWorkError):
    """Every holder of a connection waits for another one: none can ever come back."""

    code = "pool-deadlock"
    holders: tuple[Any, ...] = ()


class UnsavedWorkError(UnitOfWorkError):
    """Release, or a lock that loads rows anew, would lose changes that are not saved yet."""

    code = "unsaved-work"
    pending: tuple[str, ...] = ()


class StaleReadError(UnitOfWorkError):
    """A row that the unit had read was changed by someone else meanwhile."""

    code = "stale-read"
    rows: tuple[Any, ...] = ()


class RowNotFoundError(UnitOfWorkError):
    """A row that was asked for does not exist."""

    code = "row-not-found"
    missing: tuple[Any, ...] = ()


class LateLockError(UnitOfWorkError):
    """A row lock out of order was refused; run the unit again with the rows declared first.

    `wanted`: what was asked for; `held`: what the unit held at or above that.
    """

    code = "late-lock"
    wanted: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


class UnorderedWriteError(UnitOfWorkError):
    """`strict_locks=True` refused a statement whose row locks can't be ordered."""

    code = "unordered-write"
    statement: str = ""
    place: Place | None = None


class SilentRollbackError(UnitOfWorkError):
    """The block ended well, but its work could only be rolled back: an error was swallowed in it.

    `swallowed` is that error where it is known, `raised_at` the user's line that it came from.
    """

    code = "silent-rollback"
    swallowed: BaseException | None = None
    raised_at: Place | None = None


class CommitUnknownError(UnitOfWorkError):
    """The connection was lost while COMMIT was under way; it may or may not have happened."""

    code = "commit-unknown"
    name: str
    outcome: Outcome


class RetriesExceededError(UnitOfWorkError):
    """Every attempt failed with a retryable error."""

    code = "retries-exceeded"
    attempts: tuple[Any, ...] = ()


class UnitTimeoutError(UnitOfWorkError, TimeoutError):
    """The unit ran longer than its `timeout`; it was rolled back."""

    code = "unit-timeout"
    name: str
    timeout: float


class ConnectionLeakWarning(ResourceWarning):
    """A connection whose owner is gone was never returned."""


class HeldWhileWaitingWarning(UserWarning):
    """A connection is held while its task waits for something else than the database."""

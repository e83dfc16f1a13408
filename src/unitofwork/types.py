"""The public values: outcomes, options, places, holders, counts, findings."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypedDict

#: Of a row lock; PostgreSQL's four, of which the third is what an UPDATE takes.
LockStrength = Literal["key_share", "share", "no_key_update", "update"]
IsolationLevel = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


class Outcome(enum.Enum):
    """How a unit ended. While it runs its outcome is `PENDING`."""

    PENDING = "pending"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    #: The connection was lost while COMMIT was under way: the server may have done either.
    UNKNOWN = "unknown"


class Propagation(enum.StrEnum):
    """What a unit does about the unit that its task is already in."""

    REQUIRED = "required"
    REQUIRES_NEW = "requires_new"
    NESTED = "nested"
    MANDATORY = "mandatory"
    NEVER = "never"


#: Answers whether an unknown COMMIT has happened; None if it can't tell. A sync unit can't await.
Verify = Callable[[], bool | Awaitable[bool | None] | None]
PropagationName = Literal["required", "requires_new", "nested", "mandatory", "never"]


class Options(TypedDict, total=False):
    """The keyword options of a unit; times in seconds."""

    propagation: Propagation | PropagationName
    isolation: IsolationLevel | None
    read_only: bool | None
    deferrable: bool | None
    timeout: float | None
    acquire_timeout: float | None
    lock_timeout: float | None
    statement_timeout: float | None
    connections: int | None
    confirm_commit: bool | None
    guard_reads: bool | None
    strict_locks: bool | None
    lock_names: Sequence[Any] | None
    verify: Verify | None
    name: str | None


class LockOptions(TypedDict, total=False):
    """The keyword options of a lock call; `timeout` in seconds."""

    strength: LockStrength
    nowait: bool
    skip_locked: bool
    timeout: float | None


class RetriedOptions(Options, total=False):
    """The same, where the unit may be run again."""

    retry: Any


class Place(NamedTuple):
    """A line in the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A connection that is out; times in seconds."""

    #: Label of the unit; None for a connection that was taken beside units.
    unit: str | None
    #: The task or thread.
    task: str
    held_for: float
    #: Since the last statement ended; 0 during one.
    idle_for: float
    #: Where the connection was checked out.
    acquired_at: Place
    #: Where its task or thread is now; None if that is gone.
    waiting_at: Place | None
    last_statement: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Counts of one engine's pool and gate: the first six now, the others since the start."""

    #: Connections that the pool keeps, and how many more it may open; None for no limit.
    size: int | None
    overflow: int | None
    checked_out: int
    #: Permits of the gate in use: units that hold, or are about to check out, a connection.
    admitted: int
    waiting: int
    running_units: int
    #: Units that passed the gate, gave up at their `acquire_timeout`, were shed, were refused.
    granted: int
    timeouts: int
    shed: int
    refused: int
    #: Spent in line, in seconds: by all together, and the longest.
    wait_seconds: float
    max_wait_seconds: float
    committed: int
    rolled_back: int
    unknown: int
    #: Locks asked for out of order that were not free; waits for locks that nobody had put in
    #: order, ended by the tripwire; deadlocks that the server's detector has ended.
    late_locks: int
    uncovered_waits: int
    deadlocks: int


class StaleColumn(NamedTuple):
    """A column that changed under the unit; `column` None: the whole row is gone."""

    table: str
    key: tuple[Any, ...]
    column: str | None
    old: Any
    new: Any

    def __str__(self) -> str:
        what = "the row" if self.column is None else self.column
        return f"{self.table} {self.key!r}: {what} was {self.old!r}, is {self.new!r}"


class _Current:
    def __repr__(self) -> str:
        return "CURRENT"


#: Default of a parameter that `@transactional` fills with the transaction of the unit.
CURRENT: Final[Any] = _Current()


Severity = Literal["error", "warning", "info"]
ValidateMode = Literal["error", "warn", "off"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the validator found: `code` names the section of docs/validator.md."""

    code: str
    severity: Severity
    #: What is wrong, with the sum written out.
    message: str
    #: The line to change.
    remedy: str
    #: The number to set in it, where it is one of connections per process.
    pool_size: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.severity} {self.code}: {self.message}\n  What to do: {self.remedy}\n"
            f"  Explained at: docs/validator.md#{self.code}"
        )


class Fleet(TypedDict, total=False):
    """What a process can't see of its fleet; times in seconds."""

    #: Processes per replica, and replicas; else WEB_CONCURRENCY, gunicorn's or uvicorn's options.
    workers: int | None
    replicas: int | None
    #: Generations connected at once during a deployment: 2, unless the old one stops first.
    generations: int | None
    #: Units that run at once in this process, and the most connections of one tree of units.
    concurrency: int | None
    connections: int | None
    request_timeout: float | None
    #: How long a firewall or load balancer on the way lets a connection be idle.
    idle_limit: float | None
    #: Units per second of the whole fleet, and the seconds that one takes.
    throughput: float | None
    transaction_time: float | None

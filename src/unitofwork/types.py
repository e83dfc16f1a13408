"""The small public values: outcome, propagation, isolation, place."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypedDict

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
    name: str | None


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

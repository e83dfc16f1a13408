"""The small public values: outcome, propagation, isolation, place."""

from __future__ import annotations

import enum
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
    lock_timeout: float | None
    statement_timeout: float | None
    name: str | None


class Place(NamedTuple):
    """A line in the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


class _Current:
    def __repr__(self) -> str:
        return "CURRENT"


#: Default of a parameter that `@transactional` fills with the transaction of the unit.
CURRENT: Final[Any] = _Current()

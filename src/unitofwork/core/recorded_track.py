"""What the recorder knows of one transaction: what it holds, its savepoints, who has it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..policies.lock_graph import LockClass, Taken
from ..types import Place
from .holders import Hold
from .recorded_rows import Mark, Rows, RowsSeen

if TYPE_CHECKING:
    from ..sql.lock_requests import Statement


class State:
    """What a transaction holds, the same object for all that hold the same.

    A statement that was sent before in this state leads to the state that is remembered for it.
    """

    __slots__ = ("after", "held")

    def __init__(self, held: tuple[Taken, ...]) -> None:
        self.held = held
        self.after: dict[Any, State] = {}


class By(enum.IntEnum):
    """Who has written a statement."""

    ANYONE = 0
    #: SQLAlchemy, in a unit: its locks were taken before, or are in order, or their wait is short.
    UNIT = 1
    #: The unit itself, to take locks: the text tells which of them are waited for.
    LOCK_QUERY = 2


#: To look up a member of an enumeration takes as long as all else on the way to it (Python 3.11).
ANYONE, UNIT, LOCK_QUERY = By


class Savepoint(NamedTuple):
    """What was held, and seen, when it was set."""

    name: str
    state: State
    rows: Mark


class Way(NamedTuple):
    """A statement, and all that it depends on what it adds to a state."""

    statement: Statement
    #: The unit's name, or where the transaction began.
    origin: str | Place | None
    by: By
    #: Whether it is part of a flush of SQLAlchemy's.
    flushes: bool
    rows: tuple[Rows, ...]


@dataclass(slots=True)
class Track:
    """One transaction."""

    state: State
    #: Who has the connection, if that is known.
    hold: Hold | None = None
    #: The unit's name; without a unit the place where the transaction began to lock.
    origin: str | Place | None = None
    rows: RowsSeen = field(default_factory=RowsSeen)
    #: The last is the innermost.
    savepoints: list[Savepoint] = field(default_factory=list)
    #: Named locks of the session, which stay when the transaction ends.
    stays: set[LockClass] = field(default_factory=set)

    def savepoint(self, name: str) -> int | None:
        """Where the innermost savepoint of that name is, if it is known."""
        places = range(len(self.savepoints) - 1, -1, -1)
        return next((at for at in places if self.savepoints[at].name == name), None)

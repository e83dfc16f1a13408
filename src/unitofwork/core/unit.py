"""The state of one unit: whose it is, what went wrong in it, how it ended."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection
from sqlalchemy.orm import InstanceState, SessionTransaction

from ..errors import (
    ConcurrentUseError,
    SilentRollbackError,
    TransactionReleasedError,
    TransactionStateError,
    UnitTimeoutError,
)
from ..policies.locks.book import NOTHING, Book, Mark, Strength, Wants
from ..policies.locks.order import Resource
from ..policies.statements import Effect
from ..settings import UnitSettings
from ..types import Outcome, Place
from . import admission, places

if TYPE_CHECKING:
    from .admission import Tree
    from .attempts import Story
    from .current import Link
    from .home import Home
    from .locks.footprint import Footprint
    from .reads import ReadRow

Callback = Callable[[], Any]
log = logging.getLogger("unitofwork.unit")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that the user's code may have swallowed, and the line it came from."""

    error: BaseException | None
    place: Place | None
    what: str


class Unit:
    """One transaction of one task (thread). Both faces' `tx` show it to the user."""

    def __init__(
        self,
        home: Home,
        settings: UnitSettings,
        *,
        name: str,
        opened_at: Place,
        owner: places.Actor,
    ) -> None:
        self.home = home
        self.settings = settings
        self.name = name
        self.opened_at = opened_at
        self.owner: places.Actor = owner
        #: How contexts know the unit while it runs.
        self.link: Link | None = None
        self.outcome = Outcome.PENDING
        self.ended = False
        #: Seconds, and the moment on the monotonic clock that they end at; a joined block may
        #: narrow both while it runs.
        self.timeout = settings.timeout
        self.deadline = None if settings.timeout is None else time.monotonic() + settings.timeout
        #: The permits that the unit holds or shares.
        self.tree: Tree | None = None
        #: The session that the user holds, of the face that opened the unit.
        self.tx: Any = None
        #: In line for a connection: at the gate, or for room in the pool.
        self.is_waiting = False
        #: What kept the unit from getting its connection: nothing can have been done then.
        self.connect_error: Exception | None = None
        #: The connection from the first statement on.
        self.connection: Connection | None = None
        #: The user asked for the connection itself: statements may have failed unseen there.
        self.connection_was_lent = False
        self.commit_was_sent = False
        #: By which the server knows the transaction, if the unit has learnt it before COMMIT.
        self.transaction_id: str | None = None
        #: What it is asking for at the moment; what of that was not there, and may have come since.
        self.asking: Wants = NOTHING
        self.absent: Wants = NOTHING
        #: Trying for a late lock, whose refusal has an error of its own.
        self.is_trying = False
        #: What a lock call failed with whose caller had said how long it may wait.
        self.refusal: BaseException | None = None
        #: The error that made the unit the victim of a deadlock, until the other side is known.
        self.deadlock: BaseException | None = None
        #: The first failed statement since the transaction was last known to be sound.
        self.failed_statement: Failure | None = None
        #: A joined block that failed; the unit must not commit the half of its work.
        self.doom: Failure | None = None
        self.rollback_only = False
        #: Where the unit was released; None while it may use its connection.
        self.released_at: Place | None = None
        #: A part was committed at a release: the unit can't be undone as a whole any more.
        self.committed_before = False
        #: The statements that have written or locked.
        self.unsaved: dict[tuple[Effect, str], None] = {}
        #: A statement called functions, which may have written.
        self.may_have_written = False
        #: What the unit had read before it was released, or under a lock that a savepoint let go;
        #: as far as not checked and locked since.
        self.rows_read: list[ReadRow] = []
        #: By object and attribute, what a release has committed: as written, and as stored.
        self.stored_as: dict[InstanceState[Any], dict[str, tuple[Any, Any]]] = {}
        #: The locks of the transaction, as far as the library knows.
        self.book = Book()
        #: The units around it, whose locks last longer than its own.
        self.around: tuple[Unit, ...] = ()
        #: Where the book stood at each savepoint.
        self.savepoints: dict[SessionTransaction, Mark] = {}
        #: What a refused request shows that the next attempt should lock first.
        self.wanted: dict[Resource, Strength] = {}
        #: Locks of the transaction before a release, to be taken again.
        self.relock: Wants = {}
        #: What the flush that is under way locks and writes.
        self.flushing: Footprint | None = None
        #: A statement was sent whose locks are not in the book.
        self.sent_unordered = False
        #: Sending a lock query of the library's own.
        self.is_locking = False
        #: The session's lock_timeout as the server wrote it, once a lock query has told.
        self.session_lock_timeout: str | None = None
        #: Whether a lock query may have left a short lock_timeout behind; and surely has.
        self.waits_are_limited = self.tripwire_is_set = False
        #: The objects that were loaded.
        self.loaded: list[object] = []
        #: The attempts that this one is part of, where it may be run again.
        self.story: Story | None = None
        self.attempt = 1
        asked = settings.guard_reads
        #: Whether what a flush overwrites must still be what the unit has read.
        self.guards_reads = home.locking.guard_reads if asked is None else asked
        #: What the watch has found and the unit is to be stopped for.
        self.violation: Warning | None = None
        self.on_commit: list[Callback] = []
        self.on_rollback: list[Callback] = []
        #: on_rollback callbacks of savepoints that were rolled back: due at any end of the unit.
        self.on_undone: list[Callback] = []
        self._turn = threading.Lock()
        self._user: places.Actor | None = None
        self._depth = 0
        self._called_at: Place | None = None

    def __repr__(self) -> str:
        if self.ended:
            state = self.outcome.value
        elif self.released_at is not None:
            state = f"released at {self.released_at}"
        elif self.is_waiting:
            state = "waiting for a connection"
        else:
            state = "running" if self.connection is not None else "running, no statement yet"
        return f"unit {self.name!r}: {state}; opened at {self.opened_at}"

    @functools.cached_property
    def fresh(self) -> WeakKeyDictionary[InstanceState[Any], frozenset[str]]:
        """The objects that nobody else can outdate any more, see locks/fresh.py.

        With the attributes of which that came too late.
        """
        return WeakKeyDictionary()

    # --- use, one task (thread) at a time

    def begin_use(self) -> None:
        """Claim the unit for this task (thread); `end_use` gives it back. Nests.

        Raises `ConcurrentUseError` while another one is at it, `TransactionStateError` after the
        end, `UnitTimeoutError` past the deadline; all before any I/O.
        """
        me = places.actor()
        if self._user is me:
            self._depth += 1
        else:
            self.check_usable()
            self._claim(me)

    def take_turn(self) -> None:
        """`begin_use` also for what must be sent past the deadline: a rollback."""
        me = places.actor()
        if self._user is me:
            self._depth += 1
        else:
            self._claim(me)

    def _claim(self, me: places.Actor) -> None:
        # A lock, because two threads may ask at the same instant; it is never waited for.
        if not self._turn.acquire(blocking=False):
            raise self._concurrent_use()
        self._user = me
        self._depth = 1

    def end_use(self) -> None:
        """Undo one `begin_use` or `take_turn`."""
        self._depth -= 1
        if not self._depth:
            self._user = self._called_at = None
            self._turn.release()

    def is_in_use(self) -> bool:
        """Whether this task (thread) is inside of a call of the session's."""
        return self._depth > 0 and self._user is places.actor()

    def called_from(self, place: Place) -> None:
        """The user's line that the present use came from was just found."""
        if self._depth:
            self._called_at = place

    def called_at(self) -> Place:
        """The user's line that the present use came from, which is looked for once."""
        place = self._called_at
        if place is None:
            place = places.caller()
            self.called_from(place)
        return place

    def check_usable(self) -> None:
        """Raise unless a statement may be sent."""
        if self.ended:
            raise TransactionStateError(
                f"Unit {self.name!r} has ended ({self.outcome.value}); its transaction was used "
                f"afterwards, at {places.caller()}.\n  It was opened at {self.opened_at}.",
                "read what you need inside the block, or open a new unit for further work.",
                name=self.name,
                opened_at=self.opened_at,
            )
        if self.released_at is not None:
            raise TransactionReleasedError(
                f"Unit {self.name!r} is released, since {self.released_at}; it holds no "
                f"connection, and its transaction was used at {places.caller()}.",
                "read what you need before the release, or go on after the block "
                "(after reacquire()).",
                name=self.name,
                opened_at=self.opened_at,
            )
        if self.violation is not None:
            raise self.violation
        if self.deadline is not None and self.is_late():
            raise self.timed_out()

    @property
    def is_strict(self) -> bool:
        """Whether writes whose locks can't be ordered are refused."""
        asked = self.settings.strict_locks
        return self.home.locking.strict_locks if asked is None else asked

    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def patience(self) -> float:
        """Seconds to wait for a connection."""
        return self.settings.acquire_timeout or admission.ACQUIRE_TIMEOUT

    def acquire_deadline(self) -> float:
        """When to stop waiting for a connection, on the monotonic clock."""
        latest = time.monotonic() + self.patience()
        return latest if self.deadline is None else min(latest, self.deadline)

    def timed_out(self) -> UnitTimeoutError:
        """The error of a unit that is past its deadline."""
        return UnitTimeoutError(
            f"Unit {self.name!r} ran longer than its timeout of {self.timeout} s.\n"
            f"  It was opened at {self.opened_at}.",
            "make the unit shorter (no external calls inside), or give it a longer timeout.",
            name=self.name,
            timeout=self.timeout,
        )

    def _concurrent_use(self) -> ConcurrentUseError:
        other = self._user
        there = None if other is None else places.position_of(other)
        here = places.caller()
        return ConcurrentUseError(
            f"The transaction of unit {self.name!r} was used by two at once:\n"
            f"  {places.actor_name(places.actor())} at {here}\n"
            f"  {places.actor_name(other)} at {there or 'a place unknown'}\n"
            f"  One connection carries one statement at a time.",
            "await one after the other, or open a unit of its own in each task (thread).",
            here=here,
            there=there,
        )

    def busy_elsewhere(self) -> ConcurrentUseError | None:
        """The error if another task (thread) is in the middle of a statement now."""
        user = self._user
        return self._concurrent_use() if user is not None and user is not places.actor() else None

    def is_connecting(self) -> bool:
        """Whether the unit is on its way to its connection right now."""
        return self._user is not None and self.connection is None

    # --- what went wrong

    def statement_failed(self, error: BaseException, statement: str | None) -> None:
        """Remember the first failure: it is the one that later errors only follow from."""
        if self.failed_statement is None:
            what = "a statement failed" if statement is None else f"failed: {_short(statement)}"
            self.failed_statement = Failure(error, places.caller(), what)

    def sent(self, statement: str, effect: Effect) -> None:
        """A statement is on its way: note what a rollback would lose of it."""
        if effect is Effect.UNSURE:
            self.may_have_written = True
        else:
            self.unsaved[effect, statement] = None

    def unsaved_work(self) -> list[str]:
        """What the transaction has written or locked, in the words of its statements."""
        return [f"{effect.value}: {_short(statement)}" for effect, statement in self.unsaved]

    def savepoint_rolled_back(self, savepoint: SessionTransaction) -> None:
        """ROLLBACK TO SAVEPOINT makes an aborted transaction sound again."""
        self.failed_statement = None
        self.tripwire_is_set = False  # settings go back with it too
        self.flushing = None
        mark = self.savepoints.pop(savepoint, None)
        if mark is not None:
            self.book.back_to(mark)

    def joined_block_failed(self, error: BaseException) -> None:
        """A block that had joined this unit was left by an exception."""
        if self.doom is None:
            self.doom = Failure(error, places.raised_at(error), "a block that joined it failed")

    def silent_rollback(self, failure: Failure | None) -> SilentRollbackError:
        """The error for an end that looks like success but had to be a rollback."""
        error = failure.error if failure else None
        place = failure.place if failure else None
        what = failure.what if failure else "a statement failed on the connection that was lent out"
        raised = SilentRollbackError(
            f"Unit {self.name!r} was rolled back, although its block ended without an error:\n"
            f"  {what}\n"
            f"  swallowed: {type(error).__name__}: {_short(str(error))}\n"
            f"  raised at: {place or 'a place unknown'}\n"
            f"  The server can only roll such a transaction back; nothing of the unit was kept.",
            "let the error leave the block, or put the part that may fail into "
            "`async with tx.savepoint():` and catch the error outside of it.",
            swallowed=error,
            raised_at=place,
        )
        raised.__cause__ = error
        return raised

    # --- the end

    def must_roll_back(self) -> bool:
        """Whether the unit can't be committed any more, whatever its block does."""
        return self.rollback_only or self.doom is not None

    def end(self, outcome: Outcome) -> None:
        """Settle the outcome, once."""
        if not self.ended:
            self.outcome = outcome
            self.ended = True
            try:
                self.home.forget(self)
            finally:  # KeyboardInterrupt can strike in between; the permit must not be lost
                admission.leave(self)
            if self.link is not None:
                self.link.unit = None
            self.tx = None
            self.loaded, self.rows_read = [], []
            self.__dict__.pop("fresh", None)
            self.stored_as = {}
            self.savepoints.clear()
            log.debug("unit %r %s", self.name, outcome.value)

    def callbacks_due(self) -> list[Callback]:
        """What to call after the end, in order of registration."""
        match self.outcome:
            case Outcome.COMMITTED:
                return [*self.on_undone, *self.on_commit]
            case Outcome.ROLLED_BACK:
                return [*self.on_undone, *self.on_rollback]
            case _:  # nothing true can be told to a callback about an unknown commit
                return []


def _short(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"

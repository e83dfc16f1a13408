"""What is known of each connection that is out: who has it, since when, where, doing what."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

from sqlalchemy.pool import Pool

from ..types import Holder, Place
from . import places

if TYPE_CHECKING:
    from .unit import Unit


#: Where a connection's `info` has it.
HOLD = "unitofwork_hold"


@dataclass(slots=True, eq=False)
class Hold:
    """One connection while it is checked out. Written by the holder, read by the watch."""

    owner: ReferenceType[places.Actor]
    owner_name: str
    thread_id: int
    #: The engine may have another one by the time the connection comes back.
    pool: Pool
    acquired_at: Place
    since: float = field(default_factory=time.monotonic)
    unit: Unit | None = None
    last_statement: str | None = None
    #: When the last statement ended, or the checkout if there was none; None during one.
    idle_since: float | None = field(default_factory=time.monotonic)
    #: When the watch last saw the owner inside a database call.
    busy_at: float = 0.0
    reported: bool = False

    @classmethod
    def by_caller(cls, pool: Pool) -> Hold:
        """The one who checks a connection of `pool` out now."""
        who = places.actor()
        return cls(ref(who), places.actor_name(who), threading.get_ident(), pool, places.caller())

    def statement_begins(self, statement: str | None) -> None:
        """The holder is about to send it."""
        self.last_statement = statement
        self.idle_since = None

    def statement_ends(self) -> None:
        """Its answer, or an error, is here."""
        self.idle_since = time.monotonic()

    def owner_is_gone(self) -> bool:
        """Whether the task or thread that took the connection has ended."""
        who = self.owner()
        if isinstance(who, threading.Thread):
            return not who.is_alive()
        return who is None or who.done()

    def stack(self) -> list[FrameType]:
        """Where the owner is now, outermost frame first."""
        who = self.owner()
        return [] if who is None else places.stack_of(who, self.thread_id)

    def waiting_at(self) -> Place | None:
        """Where the owner is now, in the user's code."""
        return places.position_in(self.stack(), self.acquired_at)

    def belongs_to(self, unit: Unit) -> None:
        """The connection was taken for `unit`, perhaps by a helper task of its owner's."""
        self.unit = unit
        if self.owner() is not unit.owner:
            self.owner = ref(unit.owner)
            self.owner_name = places.actor_name(unit.owner)

    def seen(self, now: float) -> Holder:
        """As the user sees it."""
        return Holder(
            unit=self.unit.name if self.unit is not None else None,
            task=self.owner_name,
            held_for=now - self.since,
            idle_for=0.0 if self.idle_since is None else now - self.idle_since,
            acquired_at=self.acquired_at,
            waiting_at=self.waiting_at(),
            last_statement=self.last_statement,
        )


def describe(holder: Holder) -> str:
    """One line for messages."""
    unit = f"unit {holder.unit!r}" if holder.unit else "no unit"
    idle = f", idle for {holder.idle_for:.2f} s" if holder.idle_for else ", in a statement"
    statement = (
        f"; last: {' '.join(holder.last_statement.split())[:80]}" if (holder.last_statement) else ""
    )
    return (
        f"{holder.task} ({unit}) for {holder.held_for:.2f} s{idle}, taken at {holder.acquired_at}, "
        f"now at {holder.waiting_at or 'an end unknown'}{statement}"
    )

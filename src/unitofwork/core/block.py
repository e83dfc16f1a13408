"""What a `with uow():` block decides on entry and exit; the faces add only the waiting."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

from ..errors import ConfigurationError, NoUnitError, PropagationError, TransactionStateError
from ..policies.locks.order import name as name_to_lock
from ..policies.propagation import Decision, contradictions, decide
from ..settings import UnitSettings
from ..sql.symptoms import sqlstate_in
from ..types import Outcome, Place
from . import current, places
from .home import Home
from .locks.around import floor
from .unit import Unit

#: query_canceled (statement_timeout) and transaction_timeout.
STOPPED_BY_TIMEOUT = frozenset({"57014", "25P04"})


class Block:
    """One entry of a block: a unit of its own, or a part in the unit that is running."""

    def __init__(self, home: Home, settings: UnitSettings, opened_at: Place, name: str | None):
        self._home = home
        self._settings = settings
        self._opened_at = opened_at
        self._name = settings.name or name
        self._entered = False
        self._decision = Decision.OPEN
        self._outer_timeout: tuple[float | None, float | None] = (None, None)
        self.unit: Unit

    def _begin(self) -> Decision:
        """Decide what this block is and make or find its unit. Raises before any I/O."""
        if self._entered:
            raise TransactionStateError(
                f"The block object made at {self._opened_at} was entered twice.",
                "call uow() anew for each block.",
                name=self._name or str(self._opened_at),
                opened_at=self._opened_at,
            )
        self._entered = True
        self._home.origin.check()
        outer = next((unit for unit in current.own() if unit.home is self._home), None)
        self._decision = decide(self._settings.propagation, outer is not None)
        match self._decision:
            case Decision.REFUSE_NO_UNIT:
                raise no_unit("propagation='mandatory' asks for a unit that is running already")
            case Decision.REFUSE_UNIT:
                assert outer is not None
                raise _refused(outer, ["propagation='never' asks that there be none"])
            case Decision.JOIN | Decision.SAVEPOINT:
                assert outer is not None
                found = contradictions(self._settings, outer.settings)
                if found:
                    raise _refused(outer, found)
                self.unit = outer
                self._narrow_timeout(outer)
            case Decision.OPEN:
                self._open()
        return self._decision

    def _open(self) -> None:
        around = current.ancestors()
        if self._home.closed and not around:
            raise ConfigurationError(
                f"The unit of work is shut down: a unit was opened at {self._opened_at}, but the "
                "lifespan is over.",
                "stop taking work before the lifespan ends, or enter it again.",
            )
        self._home.rules.check(self._settings)
        for parts in self._settings.lock_names:
            name_to_lock(parts)  # raises for what is none
        place = self._opened_at
        self.unit = Unit(
            self._home,
            self._settings,
            name=self._name or _name_of(place),
            opened_at=place,
            owner=places.actor(),
        )
        if around:
            self.unit.around = around
            self.unit.book.floor = functools.partial(floor, self.unit)
        self._home.remember(self.unit)
        self.unit.link = current.enter(self.unit)

    def _not_begun(self) -> None:
        """The unit was opened, but could not begin: there is nothing to end."""
        self.unit.end(Outcome.ROLLED_BACK)
        self._left()

    def _narrow_timeout(self, unit: Unit) -> None:
        self._outer_timeout = unit.timeout, unit.deadline
        asked = self._settings.timeout
        if asked is not None:
            deadline = time.monotonic() + asked
            if unit.deadline is None or deadline < unit.deadline:
                unit.timeout, unit.deadline = asked, deadline

    def _joined_failed(self, error: BaseException) -> None:
        """A block that had joined was left by `error`: its failure is the whole unit's."""
        if not self.unit.ended:
            self.unit.joined_block_failed(error)

    def _stopped_by_server(self, error: BaseException | None) -> bool:
        """Whether the server ended a statement because the unit's time was over."""
        if error is None or not self.unit.is_late():
            return False
        return sqlstate_in(error) in STOPPED_BY_TIMEOUT

    def _left(self, error: BaseException | None = None) -> None:
        """The last step of every exit; `error`: what left the block."""
        if self._decision is Decision.OPEN:
            current.leave(self.unit.link)
        else:
            self.unit.timeout, self.unit.deadline = self._outer_timeout


@functools.lru_cache(maxsize=4096)
def _name_of(place: Place) -> str:
    return f"{os.path.basename(place.file)}:{place.line}"


def no_unit(why: str) -> NoUnitError:
    """The error where a unit is needed and this task (thread) has none."""
    around = next(iter(current.ancestors()), None)
    who = places.actor_name(places.actor())
    if around is None:
        return NoUnitError(
            f"There is no unit here: {why}.\n  Asked by {who} at {places.caller()}.",
            "open one around this: `async with uow() as tx:`, `with uow() as tx:` or "
            "@transactional.",
        )
    return NoUnitError(
        f"There is no unit here: {why}.\n  Asked by {who} at {places.caller()}.\n"
        f"  Unit {around.name!r}, opened at {around.opened_at}, is "
        f"{places.actor_name(around.owner)}'s, or another engine's; it is not joined silently.",
        "open a unit in this task (thread) too, or do the work in the one that has it.",
    )


def _refused(outer: Unit, why: list[str]) -> PropagationError:
    listed = "".join(f"\n  - {reason}" for reason in why)
    return PropagationError(
        f"The block at {places.caller()} can't be part of unit {outer.name!r}, opened at "
        f"{outer.opened_at}:{listed}",
        "give the outer unit these options, or leave them out here, or use "
        "propagation='requires_new' for a transaction of its own.",
        outer_name=outer.name,
        outer_opened_at=outer.opened_at,
    )


def innermost() -> Any:
    """The `tx` of the unit that this task (thread) is in. Raises `NoUnitError`."""
    unit = next(iter(current.own()), None)
    if unit is None:
        raise no_unit("current() was called")
    return unit.tx

"""Room in the pool beside connections that others took: who passed the gate may still find it full.

The gate counts units only. Raw `engine.connect()` and plain sessions fill the same pool unseen by
it, so a unit looks before its checkout, instead of waiting in the pool where nobody is named.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import AcquireTimeoutError, PoolDeadlockError
from . import places
from .admission import capacity_of
from .holders import Hold, describe

if TYPE_CHECKING:
    from .home import Home
    from .unit import Unit

#: Seconds between looks; a connection that is returned tells nobody.
PAUSE = 0.005


def is_full(home: Home) -> bool:
    """Whether every connection of the pool is out."""
    capacity = capacity_of(home.engine.pool)
    return capacity is not None and home.ledger.count() >= capacity


def wait_for_room(unit: Unit) -> None:
    """Wait until the pool has a connection left; raises as `must_wait` does."""
    since = time.monotonic()
    unit.is_waiting = True
    try:
        while must_wait(unit, since):
            unit.home.pause(PAUSE)
    finally:
        unit.is_waiting = False


def must_wait(unit: Unit, since: float) -> bool:
    """Whether to look again after `PAUSE`; `since`: the first look, on the monotonic clock.

    Raises `PoolDeadlockError` as soon as no connection can ever come back, `AcquireTimeoutError`.
    """
    home = unit.home
    if not is_full(home):
        return False
    holds = [hold for hold in list(home.ledger.holds.values()) if hold.pool is home.engine.pool]
    if all(_waits_for_this_pool(home, hold) for hold in holds):
        raise _deadlock(unit)
    waited = time.monotonic() - since
    if waited >= unit.patience() or unit.is_late():
        raise _no_room(unit, waited)
    return True


def _waits_for_this_pool(home: Home, hold: Hold) -> bool:
    owner = hold.owner()
    if owner is None:
        return False
    if any(unit.owner is owner and unit.is_waiting for unit in list(home.running)):
        return True
    return places.in_pool_wait(hold.stack())


def _deadlock(unit: Unit) -> PoolDeadlockError:
    holders = unit.home.holders()
    listed = "".join(f"\n    {describe(holder)}" for holder in holders)
    return PoolDeadlockError(
        f"Unit {unit.name!r}, opened at {unit.opened_at}, waits for a connection that can never "
        f"come back: each of the {len(holders)} holders waits for another one itself.{listed}",
        "don't open a unit, or a second connection, while holding one from engine.connect() or a "
        "plain session: use the unit's own connection (`tx.connection()`).",
        holders=tuple(holders),
    )


def _no_room(unit: Unit, waited: float) -> AcquireTimeoutError:
    holders = unit.home.holders()
    beside = sum(holder.unit is None for holder in holders)
    listed = "".join(f"\n    {describe(holder)}" for holder in holders[:5])
    return AcquireTimeoutError(
        f"Unit {unit.name!r}, opened at {unit.opened_at}, got no connection within {waited:.2f} s: "
        f"all {len(holders)} are held, {beside} of them beside units.\n  longest holders:{listed}",
        "look at those that no unit holds (engine.connect(), plain sessions): return them sooner, "
        "or give them an engine of their own.",
        waited=waited,
        stats=unit.home.stats(),
        holders=tuple(holders),
    )

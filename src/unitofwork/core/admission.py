"""Permits of a unit tree: who asks the gate, who takes from the tree, who is refused at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.pool import NullPool, Pool, QueuePool, SingletonThreadPool

from ..errors import AcquireTimeoutError, ConfigurationError, NestedUnitError
from ..policies.admission import Admission, GateError, GateStats, Reservation
from . import current, places
from .holders import describe

if TYPE_CHECKING:
    from .unit import Unit

#: Seconds to wait for a connection unless the unit says otherwise.
ACQUIRE_TIMEOUT = 10.0


class Gate(Protocol):
    """What the core needs of the faces' gates; they differ in how they wait."""

    def try_acquire(self, permits: int = 1) -> bool:
        """Take permits without waiting or passing anyone in line."""

    def release(self, permits: int = 1) -> None:
        """Give permits back."""

    def stats(self) -> GateStats:
        """Counts."""


class Tree:
    """The permits that one tree of units holds at one gate, until its last unit is done."""

    def __init__(self, gate: Gate, permits: int, root: Unit) -> None:
        self.gate = gate
        self.permits = permits
        self.root = root
        self._reservation = Reservation(permits)
        self._root_is_done = False
        self._lock = threading.Lock()  # child threads of a tree take and give back; never waited on

    def take(self) -> bool:
        """Use one permit of the tree's, if one is free."""
        with self._lock:
            return not self._root_is_done and self._reservation.take()

    def give_back(self, *, root: bool = False) -> None:
        """One unit of the tree is done with its permit; the root being done dissolves the tree.

        An inner unit of a child task may outlive the root: its permit goes back when it ends.
        """
        with self._lock:
            self._reservation.give_back()
            self._root_is_done = self._root_is_done or root
            idle = self._reservation.free if self._root_is_done else 0
            self._reservation.take(idle)
        if idle:
            self.gate.release(idle)


def place_in_tree(unit: Unit) -> Gate | None:
    """Give `unit` a permit of the tree around it, or say at which gate it must ask for one.

    None: nothing more to wait for. Raises `NestedUnitError`, `ConfigurationError`; never waits.
    """
    gate = unit.home.gate()
    if gate is None:
        return None
    wanted = unit.settings.connections or 1
    capacity = capacity_of(unit.home.engine.pool) if wanted > 1 else None
    if capacity is not None and wanted > capacity:
        raise ConfigurationError(
            f"connections={wanted} can never be had: the pool has {capacity}.",
            f"reserve {capacity} or fewer, or make the pool larger.",
        )
    around = [outer for outer in current.ancestors() if outer is not unit and outer.tree]
    for outer in around:
        if outer.home is unit.home:
            tree = outer.tree
            if tree is None or not tree.take():
                raise _nested(unit, outer)
            unit.tree = tree
            return None
    if any(outer.home.rank > unit.home.rank for outer in around):
        # Against the order of engines, waiting could close a circle: take it now or not at all.
        if not gate.try_acquire(wanted):
            raise _nested(unit, around[0])
        grant(unit, gate)
        return None
    return gate


def grant(unit: Unit, gate: Gate) -> None:
    """The gate has let `unit` pass with the permits that it wanted."""
    unit.tree = Tree(gate, unit.settings.connections or 1, unit)
    unit.tree.take()


def leave(unit: Unit) -> None:
    """Give back what `unit` holds, once."""
    tree, unit.tree = unit.tree, None
    if tree is not None:
        tree.give_back(root=tree.root is unit)


def capacity_of(pool: Pool) -> int | None:
    """How many connections `pool` lends at once; None where it sets no limit."""
    if isinstance(pool, (NullPool, SingletonThreadPool)):
        return None
    if not isinstance(pool, QueuePool):
        return 1  # StaticPool and AssertionPool have one connection, for one unit at a time
    overflow: int = pool._max_overflow  # has no public name; -1 means no limit
    return None if overflow < 0 or pool.size() == 0 else pool.size() + overflow


def _nested(unit: Unit, outer: Unit) -> NestedUnitError:
    if outer.home is unit.home:
        assert outer.tree is not None
        why = f"reserved {outer.tree.permits} connection(s), and all are taken"
        remedy = (
            f"open the outer unit with connections={outer.tree.permits + 1}, or leave out "
            "propagation='requires_new' to join it, or end it before this one begins."
        )
    else:
        why = "holds a connection of another engine, which is to be taken after this one"
        remedy = (
            f"open the unit of {unit.home.engine.url.render_as_string()} first, or end the outer "
            "unit before this one begins."
        )
    return NestedUnitError(
        f"Unit {unit.name!r} needs a connection inside of unit {outer.name!r}, which {why}.\n"
        f"  outer: opened at {outer.opened_at} by {places.actor_name(outer.owner)}\n"
        f"  inner: opened at {unit.opened_at} by {places.actor_name(unit.owner)}\n"
        "  Waiting for it while holding one would sooner or later stop the whole pool.",
        remedy,
        outer_opened_at=outer.opened_at,
        inner_opened_at=unit.opened_at,
    )


def not_admitted(unit: Unit, error: GateError) -> AcquireTimeoutError:
    """What the gate's refusal means to the user."""
    home, stats = unit.home, error.stats
    holders = home.holders()
    listed = "".join(f"\n    {describe(holder)}" for holder in holders[:5]) or " none"
    connecting = sum(running.is_connecting() for running in list(home.running))
    match error.reason:
        case Admission.REFUSED:
            what = f"was refused at once: {stats.waiting} were waiting already (max_waiting)"
        case Admission.SHED:
            what = f"was turned away after {error.waited:.2f} s: the pool is overloaded (shedding)"
        case _:
            what = f"got no connection within {error.waited:.2f} s"
    if connecting and not holders:
        why = "the database is unreachable or does not accept connections: all that passed the "
        why += f"gate ({connecting}) are still connecting"
        remedy = "look at the database and the network to it; a larger pool would not help."
    else:
        why = f"all connections are held ({connecting} units are still connecting)"
        remedy = (
            "look at the holders: release() around external calls, make their units shorter, or "
            "make the pool larger if they are all busy in the database."
        )
    return AcquireTimeoutError(
        f"Unit {unit.name!r}, opened at {unit.opened_at}, {what}.\n"
        f"  {stats.in_use} of {stats.capacity} permits in use, {stats.waiting} waiting; {why}.\n"
        f"  longest holders:{listed}",
        remedy,
        waited=error.waited,
        stats=home.stats(),
        holders=tuple(holders),
    )

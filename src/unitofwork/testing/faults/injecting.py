"""Counts what a unit sends, through SQLAlchemy's events, and injects a fault at one point."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.util import await_only

from unitofwork import AsyncUnitOfWork, ConfigurationError, UnitOfWork

from .acts import acts_for
from .points import SITES, Fault, Point, Site


class Injector:
    """Injects one fault at a time into the units of an engine; counts whatever it sees.

    Listens to the engine from `attach` to `detach`; acts only from `start` to `stop`.
    """

    def __init__(self, uow: AsyncUnitOfWork | UnitOfWork, slow: float) -> None:
        self._is_async = isinstance(uow, AsyncUnitOfWork)
        self._engine = uow.engine.sync_engine if isinstance(uow, AsyncUnitOfWork) else uow.engine
        self._acts = acts_for(self._engine)
        self._slow = slow
        self._watching = False
        self._point: Point | None = None
        #: The statement that is to meet a fault, by its context, and which one.
        self._due: tuple[Any, Fault] | None = None
        self.counts: Counter[Site] = Counter()
        #: Whether the fault was injected, and into which statement.
        self.done = False
        self.where = ""
        #: What can be injected here.
        self.faults: tuple[Fault, ...] = (*self._acts.faults, "slow_checkout")
        if self._is_async:
            self.faults += ("cancel",)
        # The dialect's events are the only ones whose errors SQLAlchemy takes for the driver's, but
        # they tell of its own questions to the server, at the first connect, too.
        self._listeners = (
            ("before_cursor_execute", self._at_statement),
            ("do_execute", self._instead),
            ("do_executemany", self._instead),
            ("do_execute_no_params", self._instead_of_bare),
            ("commit", self._at_commit),
            ("checkout", self._at_checkout),
        )

    def attach(self) -> None:
        """Listen to the engine."""
        for name, listener in self._listeners:
            event.listen(self._engine, name, listener)

    def detach(self) -> None:
        """Listen no more."""
        for name, listener in self._listeners:
            event.remove(self._engine, name, listener)

    def start(self, point: Point | None) -> None:
        """Count from zero, and inject the fault of `point` when it is reached."""
        self._point, self._watching, self._due = point, True, None
        self.counts, self.done, self.where = Counter(), False, ""

    def stop(self) -> None:
        """What is sent from now on is not the unit's."""
        self._watching = False

    def _reached(self, site: Site) -> Fault | None:
        if not self._watching:
            return None
        self.counts[site] += 1
        point = self._point
        if point is None or point.site != site or point.number != self.counts[site]:
            return None
        # Once: what the fault itself sends must not meet it again.
        self._point = None
        self.done = True
        return point.fault

    def _at_statement(
        self, _c: Any, _cursor: Any, statement: str, _given: Any, context: Any, _many: bool
    ) -> None:
        fault = self._reached("statement")
        if fault is not None:
            self._due = (context, fault)
            self.where = " ".join(statement.split())[:100]

    def _instead(self, cursor: Any, statement: str, _given: Any, context: Any) -> None:
        due = self._due
        if due is not None and due[0] is context:
            self._due = None
            connection = context.root_connection
            self.done = self._acts.at_statement(due[1], connection, cursor, statement)

    def _instead_of_bare(self, cursor: Any, statement: str, context: Any) -> None:
        self._instead(cursor, statement, None, context)

    def _at_commit(self, connection: Connection) -> None:
        fault = self._reached("commit")
        if fault is not None:
            self.done = self._acts.at_commit(fault, connection)

    def _at_checkout(self, *_: object) -> None:
        if self._reached("checkout") is None:
            return
        if self._is_async:
            await_only(asyncio.sleep(self._slow))
        else:
            time.sleep(self._slow)


@contextlib.contextmanager
def inject(
    uow: AsyncUnitOfWork | UnitOfWork,
    fault: Fault,
    at: int = 1,
    *,
    site: Site | None = None,
    slow: float = 0.1,
) -> Iterator[Injector]:
    """`with inject(uow, "deadlock", 3):` one fault at the `at`-th statement (COMMIT, checkout).

    To see one finding again, in a debugger. Yields an object whose `done` tells whether it was
    injected, `where` into which statement, and `counts` how much was sent.

    Args:
        at: from 1, counted from here over all connections of the engine.
        site: "statement" or "commit", for faults that can strike at both.
        slow: seconds that a slow checkout takes.

    Raises:
        ConfigurationError: the database can't have this fault, or not at this site; for "cancel",
            which is not the engine's, use `unitofwork.testing.cancel_at`.
    """
    injector = Injector(uow, slow)
    sites = SITES.get(fault, ())
    if fault not in injector.faults or fault == "cancel" or site not in (None, *sites):
        raise ConfigurationError(
            f"The fault {fault!r} can't be injected here (site={site!r}).",
            f"choose among {', '.join(each for each in injector.faults if each != 'cancel')}.",
        )
    injector.attach()
    injector.start(Point(fault, site or sites[0], at))
    try:
        yield injector
    finally:
        injector.stop()
        injector.detach()

"""What all units of one engine share: its gate, ledger, running units and listeners."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry, Pool, QueuePool

from ..errors import ConfigurationError
from ..policies.shedding import Shedding
from ..settings import UnitSettings
from ..sql import DatabaseRules, Restore, rules_for
from ..sql.drivers import cancel_key
from ..types import Holder, Outcome, PoolStats
from .admission import Gate, capacity_of
from .ledger import Ledger
from .locks.declared import AlsoWritten
from .locks.names import hold_names
from .locks.raw import report
from .locks.tables import Tables
from .origin import Origin
from .recorder import Recorder
from .statements import watch_statements
from .stopping import CANCEL_KEY, limit_connecting, stop_query
from .unit import Unit

_RESTORE = "unitofwork_restore"
log = logging.getLogger("unitofwork.pool")


def _set_or_drop(options: Mapping[str, Any], connection: Connection) -> None:
    # SQLAlchemy's own way to set these at connect loses the connection if that is cancelled.
    try:
        connection.execution_options(**options)
    except BaseException:
        stop_query(connection, None)
        connection.invalidate()
        connection.close()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRules:
    """How the units of an engine are admitted."""

    max_waiting: int | None = None
    shedding: Shedding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Locking:
    """How the units of an engine lock rows."""

    #: The lines of the pinned lock-order file.
    order: tuple[str, ...] = ()
    guard_reads: bool = False
    strict_locks: bool = False
    #: Whether unique values and keys that clients choose are locked by name before an INSERT.
    unique_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How the face of an engine waits: the only thing that the core asks of it."""

    gate: Callable[[int, AdmissionRules], Gate]
    #: For some seconds, from inside of SQLAlchemy's sync code.
    pause: Callable[[float], None]


class Home:
    """One per engine, however many `UnitOfWork` objects use it."""

    _homes: ClassVar[WeakValueDictionary[int, Home]] = WeakValueDictionary()
    _making = threading.Lock()
    _ranks = itertools.count()

    def __init__(
        self, engine: Engine, waiting: Waiting, admission: AdmissionRules, locking: Locking
    ) -> None:
        self.engine = engine
        #: The order in which a tree of units may wait for several engines.
        self.rank = next(self._ranks)
        self.rules: DatabaseRules = rules_for(engine.dialect)
        #: Their order is that of the locks.
        self.tables = Tables(locking.order)
        self.locking = locking
        self.recorder: Recorder | None = None
        #: By class: rows that triggers write beside its own.
        self.also_written: list[tuple[type[Any], AlsoWritten]] = []
        self.ledger = Ledger(engine)
        self.origin = Origin(engine)
        self.admission = admission
        #: Other threads add and take away: iterate over list(running), which is made in one step.
        self.running: set[Unit] = set()
        #: The lifespan is over: what runs may end, nothing new begins.
        self.closed = False
        self.ended: Counter[Outcome] = Counter()
        #: By kind: what kept units from their locks.
        self.lock_trouble: Counter[str] = Counter()
        self._by_connection: dict[Connection, Unit] = {}
        self._engines: dict[tuple[Any, ...], Engine] = {}
        self._waiting = waiting
        self.pause = waiting.pause
        self._gate: tuple[Pool, Gate | None] | None = None
        event.listen(engine, "handle_error", self._on_error)
        watch_statements(engine, self.ledger)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "checkin", self._on_checkin)
        limit_connecting(engine)

    @classmethod
    def of(
        cls,
        engine: Engine,
        waiting: Waiting,
        admission: AdmissionRules | None,
        locking: Locking | None,
    ) -> Home:
        """The home of `engine`; copies made by `execution_options` share it with their origin.

        Raises `ConfigurationError` if it is there already with other rules.
        """
        with cls._making:
            # Copies share the dialect, and nothing else does. The home keeps its engine alive, and
            # is kept alive by the engine's listeners, so the id can't be another's.
            home = cls._homes.get(id(engine.dialect))
            if home is None:
                home = cls(engine, waiting, admission or AdmissionRules(), locking or Locking())
                cls._homes[id(engine.dialect)] = home
        for asked, has in ((admission, home.admission), (locking, home.locking)):
            if asked is not None and asked != has:
                raise ConfigurationError(
                    f"This engine has a unit of work already, with {has}; another one asks for "
                    f"{asked}.",
                    "one gate and one lock order serve an engine: give these options once, or "
                    "the same.",
                )
        return home

    def record_locks(self) -> None:
        """Have the order of locks recorded from now on. Raises `ConfigurationError`."""
        if self.recorder is None:
            self.recorder = Recorder(self.engine).attach()

    def gate(self) -> Gate | None:
        """Where units are admitted; None where the pool sets no limit."""
        pool = self.engine.pool
        if self._gate is None or self._gate[0] is not pool:
            # engine.dispose() makes a new pool: its gate knows nothing of those still out.
            capacity = capacity_of(pool)
            made = None if capacity is None else self._waiting.gate(capacity, self.admission)
            self._gate = (pool, made)
        return self._gate[1]

    def engine_for(self, settings: UnitSettings) -> Engine:
        """The engine, or a copy on the same pool whose BEGIN carries the unit's characteristics."""
        options = self.rules.begin_options(settings)
        if not options:
            return self.engine
        key = tuple(options.items())
        if key not in self._engines:
            copy = self.engine.execution_options()
            event.listen(copy, "engine_connect", functools.partial(_set_or_drop, options))
            self._engines[key] = copy
        return self._engines[key]

    # --- the life of a unit, as far as the engine is concerned

    def remember(self, unit: Unit) -> None:
        """The unit has begun."""
        self.running.add(unit)

    def adopt(self, unit: Unit, connection: Connection) -> None:
        """The unit's transaction has just got its connection: make the settings hold on it."""
        unit.connection = connection
        self._by_connection[connection] = unit
        hold = self.ledger.hold_of(connection)
        if hold is not None:
            hold.belongs_to(unit)
            unit.called_from(hold.acquired_at)
        undo: list[Restore] = []
        connection.info[_RESTORE] = undo
        if unit.settings.lock_names:
            hold_names(unit, connection, undo)
        restore = self.rules.begin(connection, unit.settings, unit.remaining())
        if restore is not None:
            undo.append(restore)

    def let_go(self, unit: Unit) -> None:
        """The unit has no connection any more."""
        if unit.connection is not None:
            self._by_connection.pop(unit.connection, None)
            unit.connection = None

    def forget(self, unit: Unit) -> None:
        """The unit has ended."""
        self.let_go(unit)
        self.running.discard(unit)
        self.ended[unit.outcome] += 1

    # --- looking

    def holders(self) -> list[Holder]:
        """Who holds a connection now, the longest first."""
        return self.ledger.holders()

    def stats(self) -> PoolStats:
        """The counts of pool, gate and units."""
        pool, gate = self.engine.pool, self.gate()
        counts = gate.stats() if gate is not None else None
        size = pool.size() if isinstance(pool, QueuePool) else None
        return PoolStats(
            size=size,
            overflow=None if counts is None or size is None else counts.capacity - size,
            checked_out=self.ledger.count(),
            admitted=counts.in_use if counts else len(self.running),
            waiting=counts.waiting if counts else 0,
            running_units=len(self.running),
            granted=counts.granted if counts else 0,
            timeouts=counts.timeouts if counts else 0,
            shed=counts.shed if counts else 0,
            refused=counts.refused if counts else 0,
            wait_seconds=counts.wait_seconds if counts else 0.0,
            max_wait_seconds=counts.max_wait if counts else 0.0,
            committed=self.ended[Outcome.COMMITTED],
            rolled_back=self.ended[Outcome.ROLLED_BACK],
            unknown=self.ended[Outcome.UNKNOWN],
            late_locks=self.lock_trouble["late"],
            uncovered_waits=self.lock_trouble["uncovered"],
            deadlocks=self.lock_trouble["deadlock"],
        )

    # --- listeners

    def _on_connect(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        self.origin.connection_made()
        key = cancel_key(self.engine.dialect, record.driver_connection)
        if key is not None:
            record.info[CANCEL_KEY] = key

    def _on_checkin(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        undo: list[Restore] = record.info.pop(_RESTORE, None) or []
        if undo and dbapi_connection is not None:
            try:
                for restore in undo:
                    restore(dbapi_connection)
            except Exception as error:  # the next unit must not get it like this
                log.warning("a connection could not be put back in order, closing it: %r", error)
                record.invalidate(error)

    def _on_error(self, context: ExceptionContext) -> BaseException | None:
        connection = context.connection
        instead = None
        if connection is None:
            return None
        error = context.original_exception
        unit = self._by_connection.get(connection)
        if unit is not None:
            unit.statement_failed(context.sqlalchemy_exception or error, context.statement)
            if context.sqlalchemy_exception is not None:
                instead = report(unit, context.sqlalchemy_exception, context.statement)
        if context.is_disconnect and not isinstance(error, Exception):
            # Cancelled or interrupted in the middle: SQLAlchemy drops the connection next.
            stop_query(connection, getattr(context.execution_context, "cursor", None), error)
        return instead

"""What both `UnitOfWork` classes share, and which one a bare `@transactional` means."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from typing import Any, ClassVar, Generic, Self, TypedDict, TypeVar
from weakref import WeakSet

from sqlalchemy import Engine

from ..core import current
from ..core.home import AdmissionRules, Home, Locking, Waiting
from ..core.locks.order_file import read as read_order
from ..core.locks.rows import mapper_of
from ..core.recorder import recording_wanted
from ..core.watch import ExternalAwaits, Watch, WatchRules
from ..errors import ConfigurationError
from ..policies.lock_report import LockOrderReport
from ..policies.shedding import Shedding
from ..types import Holder, PoolStats

E = TypeVar("E")
T = TypeVar("T")
log = logging.getLogger("unitofwork")


class WorkOptions(TypedDict, total=False):
    """The keyword options of `UnitOfWork` and `AsyncUnitOfWork`; `hold_warning` in seconds."""

    max_waiting: int | None
    shedding: Shedding | None
    hold_warning: float
    external_awaits: ExternalAwaits
    lock_order: str | PathLike[str] | None
    guard_reads: bool
    strict_locks: bool
    unique_names: bool
    record_locks: bool


def split_work_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the unit of work, and those of the engine."""
    own = {name: options[name] for name in options if name in WorkOptions.__annotations__}
    return own, {name: options[name] for name in options if name not in own}


class UnitsOfEngine(Generic[E]):
    """Base of `UnitOfWork` and `AsyncUnitOfWork`."""

    _all: ClassVar[WeakSet[Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._all = WeakSet()

    def __init__(
        self,
        engine: E,
        sync_engine: Engine,
        waiting: Waiting,
        *,
        max_waiting: int | None = None,
        shedding: Shedding | None = None,
        hold_warning: float = 1.0,
        external_awaits: ExternalAwaits = "warn",
        lock_order: str | PathLike[str] | None = None,
        guard_reads: bool = False,
        strict_locks: bool = False,
        unique_names: bool = False,
        record_locks: bool = False,
    ) -> None:
        self.engine = engine
        self._watch_rules = checked_watch_rules(
            WatchRules(hold_warning=hold_warning, external_awaits=external_awaits)
        )
        locking = Locking(
            order=() if lock_order is None else read_order(lock_order),
            guard_reads=guard_reads,
            strict_locks=strict_locks,
            unique_names=unique_names,
        )
        self._watch: Watch | None = None
        asked = max_waiting is not None or shedding is not None
        try:
            rules = AdmissionRules(max_waiting=max_waiting, shedding=shedding) if asked else None
            locks = None if locking == Locking() else locking
            self._home = Home.of(sync_engine, waiting, rules, locks)
            self._home.gate()
            if record_locks or recording_wanted():
                self._home.record_locks()
        except ValueError as error:
            raise ConfigurationError(
                f"This gate can't be made: {error}", "give max_waiting from 0."
            ) from error
        self._made_engine = False
        self._in_lifespan = False
        self._all.add(self)

    def __repr__(self) -> str:
        url = self._home.engine.url.render_as_string(hide_password=True)
        running = len(self._home.running)
        return f"<{type(self).__name__} {url}, {running} unit{'' if running == 1 else 's'} running>"

    def stats(self) -> PoolStats:
        """Counts of the pool, the gate and the units of this engine."""
        return self._home.stats()

    def holders(self) -> list[Holder]:
        """Who holds a connection of this engine now, the longest first; raw ones included."""
        return self._home.holders()

    def lock_order_report(self) -> LockOrderReport:
        """Which locks were taken in contradicting orders so far, with the places in the code.

        Raises `ConfigurationError` where `record_locks` is off.
        """
        if self._home.recorder is None:
            raise ConfigurationError(
                "The order of locks is not recorded on this engine.",
                "make the unit of work with record_locks=True, or set UNITOFWORK_RECORD_LOCKS=1.",
            )
        return self._home.recorder.report()

    def writes_also(self, entity: type[T], function: Callable[[T], Iterable[Any]]) -> None:
        """Declare rows that a trigger writes when an object of `entity` is written.

        `function(object)` gives pairs of a class and a key: `lambda item: [(Stat, item.kind)]`.
        They are locked with the object's own rows, in the global order, before a flush.
        Raises `ConfigurationError` if `entity` is not a mapped class.
        """
        mapper_of(entity)
        self._home.also_written.append((entity, function))

    @classmethod
    def default(cls) -> Self:
        """The one that a bare `@transactional` uses. Raises `ConfigurationError` if in doubt.

        It is that of the unit that the task is in; else the only one in its lifespan; else the
        only one there is.
        """
        everyone: list[Self] = list(cls._all)
        for unit in current.own():
            for one in everyone:
                if one._home is unit.home:
                    return one
        in_lifespan = [one for one in everyone if one._in_lifespan]
        for candidates in (in_lifespan, everyone):
            if len(candidates) == 1:
                return candidates[0]
        found = "".join(f"\n  - {one!r}" for one in everyone) or " none"
        raise ConfigurationError(
            f"Which {cls.__name__} a bare @transactional means is not clear; there are:{found}",
            "name it: @transactional(uow) or @uow.transactional.",
        )

    # --- the two ends of a lifespan; the faces wait in between

    def _start(self) -> None:
        self._home.closed = False
        self._in_lifespan = True
        self._watch = Watch(self._home, self._watch_rules)
        self._watch.start()

    def _drain(self, timeout: float) -> Iterator[float]:
        """Seconds to sleep before looking again, until no unit is running or time is up."""
        self._home.closed = True
        deadline = time.monotonic() + timeout
        while self._home.running and time.monotonic() < deadline:
            yield 0.01
        for unit in list(self._home.running):
            log.warning("shutting down while %r is still running", unit)

    def _stop(self) -> None:
        self._in_lifespan = False
        if self._watch is not None:
            self._watch.stop()


def checked_watch_rules(rules: WatchRules) -> WatchRules:
    """Refuse what can't be watched for. Raises `ConfigurationError`."""
    if rules.external_awaits not in ("warn", "raise"):
        raise ConfigurationError(
            f"external_awaits={rules.external_awaits!r} is unknown.", "use 'warn' or 'raise'."
        )
    seconds: object = rules.hold_warning
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigurationError(
            f"hold_warning={seconds!r} is not a number of seconds above 0.", "pass e.g. 1.0."
        )
    return rules

"""`UnitOfWork`: opens sync units over an `Engine`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from typing import Any, Self, TypeVar, Unpack, overload

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL

from ..core.attempts import Arguments
from ..core.home import AdmissionRules, Waiting
from ..core.places import place_of
from ..core.retried import effective, split_options
from ..errors import ConfigurationError
from ..settings import settings_from
from ..sql.engines import prepare_engine, sound_defaults
from ..types import Finding, Fleet, Options, Place, RetriedOptions, ValidateMode
from .base import UnitsOfEngine, WorkOptions, split_work_options
from .decorating import decorate_sync
from .gate_sync import SyncGate
from .sync_retry import SyncAttempts, run_attempts
from .sync_unit import SyncUnit


def _gate(capacity: int, rules: AdmissionRules) -> SyncGate:
    return SyncGate(capacity, max_waiting=rules.max_waiting, shedding=rules.shedding)


_WAITING = Waiting(gate=_gate, pause=time.sleep)
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class UnitOfWork(UnitsOfEngine[Engine]):
    """Opens units over one `Engine`, for threads. Making it does no I/O.

    Options (`WorkOptions` has their types), beside those of `from_url`:
    `max_waiting`: units that may wait for a connection; one more is refused at once. `shedding`:
    turn units away before their waits explode under overload (docs/admission.md).
    `hold_warning`: seconds that a connection may be held idle before the watch, which runs during
    the lifespan, reports it; `external_awaits="raise"` makes that an error in the unit, for tests.
    `lock_order`: path of the pinned lock-order file (docs/lock-order.md). `guard_reads`,
    `strict_locks`: what units do that don't say (docs/locks.md). `unique_names`: lock unique
    values by name before they are inserted. `record_locks`: watch the order of locks over units
    (docs/recorder.md).
    Raises `ConfigurationError` if `engine` is not an `Engine`.
    """

    def __init__(self, engine: Engine, **options: Unpack[WorkOptions]) -> None:
        if not isinstance(engine, Engine):
            raise ConfigurationError(
                f"UnitOfWork takes an Engine, not {type(engine).__name__}.",
                "make one with create_engine(), or use AsyncUnitOfWork for an AsyncEngine.",
            )
        super().__init__(engine, engine, _WAITING, **options)

    @classmethod
    def from_url(cls, url: str | URL, **options: Any) -> Self:
        """Make an engine with sound defaults; other options than these go to `create_engine`.

        `session_settings`: server settings for each connection, over the defaults; None leaves
        one out. docs/engine.md lists the defaults. The lifespan disposes this engine.
        """
        own, given = split_work_options(options)
        engine_options, session_settings = sound_defaults(url, given)
        engine = create_engine(url, **engine_options)
        prepare_engine(engine, session_settings)
        uow = cls(engine, **own)
        uow._made_engine = True
        return uow

    def __call__(self, **options: Unpack[Options]) -> SyncUnit:
        """`with uow() as tx:` opens a unit or joins the one that this thread is in.

        Raises `ConfigurationError` for options that can't hold, before any I/O.
        """
        place = place_of(sys._getframe(1))
        return SyncUnit(self.engine, self._home, settings_from(dict(options)), place)

    def attempts(self, **options: Unpack[RetriedOptions]) -> SyncAttempts:
        """`for attempt in uow.attempts(): with attempt as tx:` the block form of retry.

        The options are those of a unit, and `retry`: a `RetryPolicy`, or None for one attempt.
        Errors inside the block are retried; one of COMMIT leaves the loop, because a block that was
        left by `return` could not be run again (`run` and `@transactional` retry it).
        Raises `RetriesExceededError` when the last attempt has failed, `PropagationError` for a
        retry inside of a unit.
        """
        return self._attempts(options, place_of(sys._getframe(1)), None)

    def run(
        self, function: Callable[..., T], /, *args: Any, **options: Unpack[RetriedOptions]
    ) -> T:
        """Call `function(tx, *args)` in a unit, again where that helps; its result.

        `options` as for `attempts()`. Mutable arguments are put back before each attempt; mapped
        objects are refused (`ConfigurationError`).
        """
        name = getattr(function, "__qualname__", repr(function))
        attempts = self._attempts(options, place_of(sys._getframe(1)), name)
        arguments = Arguments(name, args, {}) if attempts.retries else None
        return run_attempts(attempts, lambda tx: function(tx, *args), arguments)

    def _attempts(self, options: Any, place: Place, name: str | None) -> SyncAttempts:
        settings, asked, given = split_options(dict(options))
        policy = effective(asked, given, place)
        return SyncAttempts(
            lambda: SyncUnit(self.engine, self._home, settings, place, name), policy
        )

    @overload
    def transactional(self, function: F, /) -> F: ...

    @overload
    def transactional(
        self, function: None = None, /, **options: Unpack[RetriedOptions]
    ) -> Callable[[F], F]: ...

    def transactional(self, function: F | None = None, /, **options: Unpack[RetriedOptions]) -> Any:
        """`@uow.transactional` or `@uow.transactional(**options)`: run the function in a unit.

        The options are those of a unit, and `retry`: by default the outermost call is run again
        after errors that leave nothing done (docs/retry.md); None switches that off.
        Raises `ConfigurationError` when decorating what can't run in a sync unit.
        """
        asked = split_options(dict(options))
        if function is None:
            return lambda function: decorate_sync(function, asked, lambda: self)
        return decorate_sync(function, asked, lambda: self)

    def validate(self, **fleet: Unpack[Fleet]) -> list[Finding]:
        """What is wrong with the pool, held against what the server really allows; errors first.

        `fleet`: what the process can't see: `workers` per replica, `replicas`, and more
        (docs/validator.md). Needs no superuser, changes nothing, takes 5 s at most. A server that
        can't be asked is a finding. Raises `ConfigurationError` for an argument that can't be.
        """
        from .validating import ask_sync, validation_of

        return ask_sync(validation_of(self, fleet))

    @contextlib.contextmanager
    def lifespan(
        self,
        *,
        validate: ValidateMode = "error",
        wait: float = 0.0,
        drain_timeout: float = 10.0,
        **fleet: Unpack[Fleet],
    ) -> Generator[Self]:
        """The life of a service: at its end running units are waited for, new ones refused.

        It starts with `validate()`, to which `workers`, `replicas` and the other facts of `fleet`
        go. `validate`: "error" refuses to start with errors, "warn" logs them, "off" asks nothing.
        `wait`: seconds to wait for a server that can't be reached yet. `drain_timeout`: seconds to
        wait for units. An engine made by `from_url` is disposed.
        Raises `PoolSizingError`, which has the findings; `ConfigurationError`.
        """
        try:
            if validate != "off":
                self._validate_at_start(validate, wait, fleet)
            self._start()
            try:
                yield self
            finally:
                for pause in self._drain(drain_timeout):
                    time.sleep(pause)
                self._stop()
        finally:
            if self._made_engine:
                self.engine.dispose()

    def _validate_at_start(self, mode: ValidateMode, wait: float, fleet: Fleet) -> None:
        from ..core.validating import act_on, check_mode
        from .validating import until_there_sync

        check_mode(mode, wait)
        act_on(until_there_sync(self, fleet, wait), mode)

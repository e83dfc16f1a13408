"""`AsyncUnitOfWork`: opens async units over an `AsyncEngine`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Self, TypeVar, Unpack, overload

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from ..core.attempts import Arguments
from ..core.home import AdmissionRules, Waiting
from ..core.places import place_of
from ..core.retried import effective, split_options
from ..errors import ConfigurationError
from ..settings import settings_from
from ..sql.engines import prepare_engine, sound_defaults
from ..types import Finding, Fleet, Options, Place, RetriedOptions, ValidateMode
from .async_retry import AsyncAttempts, run_attempts
from .async_unit import AsyncUnit
from .base import UnitsOfEngine, WorkOptions, split_work_options
from .decorating import decorate_async
from .gate_async import AsyncGate


def _gate(capacity: int, rules: AdmissionRules) -> AsyncGate:
    return AsyncGate(capacity, max_waiting=rules.max_waiting, shedding=rules.shedding)


def _pause(seconds: float) -> None:
    await_only(asyncio.sleep(seconds))


_WAITING = Waiting(gate=_gate, pause=_pause)
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class AsyncUnitOfWork(UnitsOfEngine[AsyncEngine]):
    """Opens units over one `AsyncEngine`. Making it does no I/O.

    Options (`WorkOptions` has their types), beside those of `from_url`:
    `max_waiting`: units that may wait for a connection; one more is refused at once. `shedding`:
    turn units away before their waits explode under overload (docs/admission.md).
    `hold_warning`: seconds that a connection may be held idle before the watch, which runs during
    the lifespan, reports it; `external_awaits="raise"` makes that an error in the unit, for tests.
    `lock_order`: path of the pinned lock-order file (docs/lock-order.md). `guard_reads`,
    `strict_locks`: what units do that don't say (docs/locks.md). `unique_names`: lock unique
    values by name before they are inserted. `record_locks`: watch the order of locks over units
    (docs/recorder.md).
    Raises `ConfigurationError` if `engine` is not an `AsyncEngine`.
    """

    def __init__(self, engine: AsyncEngine, **options: Unpack[WorkOptions]) -> None:
        if not isinstance(engine, AsyncEngine):
            raise ConfigurationError(
                f"AsyncUnitOfWork takes an AsyncEngine, not {type(engine).__name__}.",
                "make one with create_async_engine(), or use UnitOfWork for a sync Engine.",
            )
        super().__init__(engine, engine.sync_engine, _WAITING, **options)

    @classmethod
    def from_url(cls, url: str | URL, **options: Any) -> Self:
        """Make an engine with sound defaults; other options than these go to `create_async_engine`.

        `session_settings`: server settings for each connection, over the defaults; None leaves
        one out. docs/engine.md lists the defaults. The lifespan disposes this engine.
        """
        own, given = split_work_options(options)
        engine_options, session_settings = sound_defaults(url, given)
        engine = create_async_engine(url, **engine_options)
        prepare_engine(engine.sync_engine, session_settings)
        uow = cls(engine, **own)
        uow._made_engine = True
        return uow

    def __call__(self, **options: Unpack[Options]) -> AsyncUnit:
        """`async with uow() as tx:` opens a unit or joins the one that this task is in.

        Raises `ConfigurationError` for options that can't hold, before any I/O.
        """
        place = place_of(sys._getframe(1))
        return AsyncUnit(self.engine, self._home, settings_from(dict(options)), place)

    def attempts(self, **options: Unpack[RetriedOptions]) -> AsyncAttempts:
        """`async for attempt in uow.attempts(): async with attempt as tx:` the block form of retry.

        The options are those of a unit, and `retry`: a `RetryPolicy`, or None for one attempt.
        Errors inside the block are retried; one of COMMIT leaves the loop, because a block that was
        left by `return` could not be run again (`run` and `@transactional` retry it).
        Raises `RetriesExceededError` when the last attempt has failed, `PropagationError` for a
        retry inside of a unit.
        """
        return self._attempts(options, place_of(sys._getframe(1)), None)

    async def run(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        **options: Unpack[RetriedOptions],
    ) -> T:
        """Await `function(tx, *args)` in a unit, again where that helps; its result.

        `options` as for `attempts()`. Mutable arguments are put back before each attempt; mapped
        objects are refused (`ConfigurationError`).
        """
        name = getattr(function, "__qualname__", repr(function))
        attempts = self._attempts(options, place_of(sys._getframe(1)), name)
        arguments = Arguments(name, args, {}) if attempts.retries else None
        return await run_attempts(attempts, lambda tx: function(tx, *args), arguments)

    def _attempts(self, options: Any, place: Place, name: str | None) -> AsyncAttempts:
        settings, asked, given = split_options(dict(options))
        policy = effective(asked, given, place)
        return AsyncAttempts(
            lambda: AsyncUnit(self.engine, self._home, settings, place, name), policy
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
        Raises `ConfigurationError` when decorating what can't run in an async unit.
        """
        asked = split_options(dict(options))
        if function is None:
            return lambda function: decorate_async(function, asked, lambda: self)
        return decorate_async(function, asked, lambda: self)

    async def validate(self, **fleet: Unpack[Fleet]) -> list[Finding]:
        """What is wrong with the pool, held against what the server really allows; errors first.

        `fleet`: what the process can't see: `workers` per replica, `replicas`, and more
        (docs/validator.md). Needs no superuser, changes nothing, takes 5 s at most. A server that
        can't be asked is a finding. Raises `ConfigurationError` for an argument that can't be.
        """
        from .validating import ask_async, validation_of

        return await ask_async(validation_of(self, fleet))

    @contextlib.asynccontextmanager
    async def lifespan(
        self,
        *,
        validate: ValidateMode = "error",
        wait: float = 0.0,
        drain_timeout: float = 10.0,
        **fleet: Unpack[Fleet],
    ) -> AsyncGenerator[Self]:
        """The life of a service: at its end running units are waited for, new ones refused.

        It starts with `validate()`, to which `workers`, `replicas` and the other facts of `fleet`
        go. `validate`: "error" refuses to start with errors, "warn" logs them, "off" asks nothing.
        `wait`: seconds to wait for a server that can't be reached yet. `drain_timeout`: seconds to
        wait for units. An engine made by `from_url` is disposed.
        Raises `PoolSizingError`, which has the findings; `ConfigurationError`.
        """
        try:
            if validate != "off":
                await self._validate_at_start(validate, wait, fleet)
            self._start()
            try:
                yield self
            finally:
                for pause in self._drain(drain_timeout):
                    await asyncio.sleep(pause)
                self._stop()
        finally:
            if self._made_engine:
                await self.engine.dispose()

    async def _validate_at_start(self, mode: ValidateMode, wait: float, fleet: Fleet) -> None:
        from ..core.validating import act_on, check_mode
        from .validating import until_there_async

        check_mode(mode, wait)
        act_on(await until_there_async(self, fleet, wait), mode)

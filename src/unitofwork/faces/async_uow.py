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
from ..core.home import Rules, Waiting
from ..core.places import place_of
from ..core.retried import effective, split_options
from ..core.watch import ExternalAwaits, WatchRules
from ..errors import ConfigurationError
from ..policies.shedding import Shedding
from ..settings import settings_from
from ..sql.engines import prepare_engine, sound_defaults
from ..types import Options, Place, RetriedOptions
from .async_retry import AsyncAttempts, run_attempts
from .async_unit import AsyncUnit
from .base import UnitsOfEngine
from .decorating import decorate_async
from .gate_async import AsyncGate


def _gate(capacity: int, rules: Rules) -> AsyncGate:
    return AsyncGate(capacity, max_waiting=rules.max_waiting, shedding=rules.shedding)


def _pause(seconds: float) -> None:
    await_only(asyncio.sleep(seconds))


_WAITING = Waiting(gate=_gate, pause=_pause)
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class AsyncUnitOfWork(UnitsOfEngine[AsyncEngine]):
    """Opens units over one `AsyncEngine`. Making it does no I/O.

    `max_waiting`: units that may wait for a connection; one more is refused at once. `shedding`:
    turn units away before their waits explode under overload (docs/admission.md).
    `hold_warning`: seconds that a connection may be held idle before the watch, which runs during
    the lifespan, reports it; `external_awaits="raise"` makes that an error in the unit, for tests.
    Raises `ConfigurationError` if `engine` is not an `AsyncEngine`.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        max_waiting: int | None = None,
        shedding: Shedding | None = None,
        hold_warning: float = 1.0,
        external_awaits: ExternalAwaits = "warn",
    ) -> None:
        if not isinstance(engine, AsyncEngine):
            raise ConfigurationError(
                f"AsyncUnitOfWork takes an AsyncEngine, not {type(engine).__name__}.",
                "make one with create_async_engine(), or use UnitOfWork for a sync Engine.",
            )
        watch = WatchRules(hold_warning=hold_warning, external_awaits=external_awaits)
        super().__init__(engine, engine.sync_engine, _WAITING, max_waiting, shedding, watch)

    @classmethod
    def from_url(
        cls,
        url: str | URL,
        *,
        max_waiting: int | None = None,
        shedding: Shedding | None = None,
        hold_warning: float = 1.0,
        external_awaits: ExternalAwaits = "warn",
        **engine_options: Any,
    ) -> Self:
        """Make an engine with sound defaults; `engine_options` go to `create_async_engine`.

        `session_settings`: server settings for each connection, over the defaults; None leaves
        one out. docs/engine.md lists the defaults. The lifespan disposes this engine.
        """
        options, session_settings = sound_defaults(url, engine_options)
        engine = create_async_engine(url, **options)
        prepare_engine(engine.sync_engine, session_settings)
        uow = cls(
            engine,
            max_waiting=max_waiting,
            shedding=shedding,
            hold_warning=hold_warning,
            external_awaits=external_awaits,
        )
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
        policy = effective(self._home, asked, given, place)
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

    @contextlib.asynccontextmanager
    async def lifespan(self, *, drain_timeout: float = 10.0) -> AsyncGenerator[Self]:
        """The life of a service: at its end running units are waited for, new ones refused.

        `drain_timeout`: seconds to wait. An engine made by `from_url` is disposed.
        """
        self._start()
        try:
            yield self
        finally:
            for pause in self._drain(drain_timeout):
                await asyncio.sleep(pause)
            self._stop()
            if self._made_engine:
                await self.engine.dispose()

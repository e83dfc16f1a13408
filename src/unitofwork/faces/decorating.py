"""What `@transactional` makes of a function: checks when decorating, a unit around each call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ..core.attempts import Arguments
from ..core.retried import effective
from ..core.unit import Unit
from ..errors import ConfigurationError, PropagationError
from ..policies.retrying import RetryPolicy
from ..settings import UnitSettings
from ..types import CURRENT, Place
from .async_retry import AsyncAttempts, run_attempts
from .async_unit import AsyncUnit
from .sync_retry import SyncAttempts
from .sync_retry import run_attempts as run_attempts_in_thread
from .sync_unit import SyncUnit

F = TypeVar("F", bound=Callable[..., Any])
#: From `split_options`.
Asked = tuple[UnitSettings, RetryPolicy | None, bool]


def decorate_async(function: F, asked: Asked, uow: Callable[[], Any]) -> F:
    """Run `function` in a unit of the `AsyncUnitOfWork` that `uow` gives at each call."""
    _check_kind(function)
    if not inspect.iscoroutinefunction(function):
        raise _misfit(
            function,
            "is not async; an async unit of work can't run it",
            "write `async def`, or decorate it with a UnitOfWork over a sync Engine.",
        )
    inject = _Injection(function)
    place = _definition(function)
    settings, policy, given = asked

    @functools.wraps(function)
    async def in_unit(*args: Any, **kwargs: Any) -> Any:
        one = uow()
        retry = effective(policy, given, place)
        attempts = AsyncAttempts(
            lambda: AsyncUnit(one.engine, one._home, settings, place, inject.name), retry
        )
        arguments = None if retry is None else Arguments(inject.name, args, kwargs)
        return await run_attempts(
            attempts, lambda tx: function(*args, **inject.fill(args, kwargs, tx)), arguments
        )

    return in_unit  # type: ignore[return-value]


def decorate_sync(function: F, asked: Asked, uow: Callable[[], Any]) -> F:
    """Run `function` in a unit of the `UnitOfWork` that `uow` gives at each call."""
    _check_kind(function)
    if inspect.iscoroutinefunction(function):
        raise _misfit(
            function,
            "is async; a sync unit would end before it runs",
            "decorate it with an AsyncUnitOfWork, or write a plain `def`.",
        )
    inject = _Injection(function)
    place = _definition(function)
    settings, policy, given = asked

    @functools.wraps(function)
    def in_unit(*args: Any, **kwargs: Any) -> Any:
        one = uow()
        retry = effective(policy, given, place)
        attempts = SyncAttempts(
            lambda: SyncUnit(one.engine, one._home, settings, place, inject.name), retry
        )
        arguments = None if retry is None else Arguments(inject.name, args, kwargs)
        return run_attempts_in_thread(
            attempts, lambda tx: function(*args, **inject.fill(args, kwargs, tx)), arguments
        )

    return in_unit  # type: ignore[return-value]


class _Injection:
    """Fills the parameter whose default is CURRENT."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name: str = getattr(function, "__qualname__", repr(function))
        parameters = list(inspect.signature(function).parameters.values())
        found = [p for p in parameters if p.default is CURRENT]
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise _misfit(function, f"has several parameters = CURRENT ({names})", "keep one.")
        if found and found[0].kind is inspect.Parameter.POSITIONAL_ONLY:
            raise _misfit(
                function,
                f"takes {found[0].name} = CURRENT by position only",
                "make it a keyword parameter: put it after a `*`.",
            )
        self._keyword = found[0].name if found else None
        keyword_only = bool(found) and found[0].kind is inspect.Parameter.KEYWORD_ONLY
        self._position = None if not found or keyword_only else parameters.index(found[0])

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any], tx: Any) -> dict[str, Any]:
        """`kwargs` with `tx`; a transaction passed by hand must be that of the unit."""
        if self._keyword is None:
            return kwargs
        if self._position is not None and len(args) > self._position:
            given = args[self._position]
        else:
            given = kwargs.get(self._keyword, tx)
            kwargs = {**kwargs, self._keyword: tx}
        if given is not tx:
            unit: Unit = tx.unit
            raise PropagationError(
                f"{self.name}() was called with {self._keyword}={given!r}, which is not the "
                f"transaction of the unit that it runs in ({unit.name!r}, opened at "
                f"{unit.opened_at}).",
                f"leave {self._keyword} out: it is filled in, and the caller's unit is joined.",
                outer_name=unit.name,
                outer_opened_at=unit.opened_at,
            )
        return kwargs


def _check_kind(function: object) -> None:
    if isinstance(function, (classmethod, staticmethod)):
        kind = type(function).__name__
        raise _misfit(
            function.__func__, f"is a {kind} object", f"put @{kind} above @transactional."
        )
    if inspect.isclass(function):
        raise _misfit(function, "is a class", "decorate its methods.")
    if not callable(function):
        raise ConfigurationError(
            f"@transactional was given {function!r}, which is no function.",
            "use @transactional, @transactional(uow, ...) or @uow.transactional(...).",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _misfit(
            function,
            "is a generator function: its unit would be held for as long as the consumer takes",
            "return a list, or open units inside, around each page that is read.",
        )


def _misfit(function: Any, why: str, remedy: str) -> ConfigurationError:
    place = _definition(function)
    name = getattr(function, "__qualname__", repr(function))
    return ConfigurationError(f"@transactional: {name} {why}.\n  Defined at {place}.", remedy)


def _definition(function: Any) -> Place:
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return Place(code.co_filename, code.co_firstlineno, name) if code else Place("?", 0, name)

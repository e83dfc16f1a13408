"""`@transactional` in its three spellings, and `current()`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from .core.block import innermost
from .core.retried import split_options
from .errors import ConfigurationError
from .faces.async_uow import AsyncUnitOfWork
from .faces.decorating import decorate_async, decorate_sync
from .faces.sync_uow import UnitOfWork
from .types import RetriedOptions

F = TypeVar("F", bound=Callable[..., Any])


# A unit of work is callable too, so its overload comes before that of any function.
@overload
def transactional(
    uow: AsyncUnitOfWork | UnitOfWork | None = None, /, **options: Unpack[RetriedOptions]
) -> Callable[[F], F]: ...


@overload
def transactional(function: F, /) -> F: ...


def transactional(target: Any = None, /, **options: Any) -> Any:
    """Run a function in a unit, or in the one that its caller is in.

    `@transactional` uses the unit of work of the running unit, else the only one in its lifespan,
    else the only one there is. `@transactional(uow, **options)` names it, as does
    `@uow.transactional(**options)`. A parameter whose default is `CURRENT` gets the transaction.

    Raises `ConfigurationError` when decorating a generator function, a class, or a function that
    is sync where the unit of work is async, or the other way round.
    """
    if isinstance(target, (AsyncUnitOfWork, UnitOfWork)):
        return target.transactional(**options)
    asked = split_options(options)

    def decorate(function: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return decorate_async(function, asked, AsyncUnitOfWork.default)
        return decorate_sync(function, asked, UnitOfWork.default)

    if target is None:
        return decorate
    if options:
        raise ConfigurationError(
            f"@transactional was given {target!r} together with options.",
            "write @transactional(uow, **options), or @transactional(**options).",
        )
    return decorate(target)


def current() -> Any:
    """The transaction of the unit that this task (thread) is in. Raises `NoUnitError`.

    A child task is not in its parent's unit: it opens its own, or is handed the results.
    """
    return innermost()

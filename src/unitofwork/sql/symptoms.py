"""What drivers tell of an error: SQLSTATE and vendor codes, through every wrapper around them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from sqlalchemy import exc

from ..errors import (
    AcquireTimeoutError,
    CommitUnknownError,
    LateLockError,
    StaleReadError,
    UnitTimeoutError,
)
from ..policies.retrying import Fate, Symptom, all_of, fate_of

_OURS: dict[type[BaseException], Fate] = {
    CommitUnknownError: Fate.FINAL,  # its cause is a lost connection, but it may be done
    UnitTimeoutError: Fate.FINAL,
    AcquireTimeoutError: Fate.NEVER,
    StaleReadError: Fate.RETRY,
    LateLockError: Fate.RETRY,
}


def fate_of_error(error: BaseException, around: BaseException | None = None) -> Fate:
    """Whether the unit that `error` ended may be run again: by its whole chain of causes.

    `around`: what was being handled when the unit began; Python chains it on, but it is over.

    The first error of the chain that decides, decides: a deadlock that was wrapped in another
    error, or that a task group has raised, is still a deadlock.
    """
    for step in causes(error, around, contexts=True):
        fate = _fate_of_one(step, around)
        # A group is raised while one of its members is handled: only the members count.
        if fate is not Fate.UNDECIDED or isinstance(step, BaseExceptionGroup):
            return fate
    return Fate.UNDECIDED


def _fate_of_one(error: BaseException, around: BaseException | None) -> Fate:
    for kind, fate in _OURS.items():
        if isinstance(error, kind):
            return fate
    if isinstance(error, BaseExceptionGroup):
        members = [each for each in error.exceptions if not isinstance(each, _CANCELLED)]
        return all_of([fate_of_error(each, around) for each in members]) if members else Fate.FINAL
    if not isinstance(error, Exception):
        return Fate.FINAL  # cancelled, interrupted
    return fate_of(symptom_of(error))


_CANCELLED = (asyncio.CancelledError,)


def symptom_of(error: BaseException) -> Symptom:
    """The facts of one error, without its causes."""
    lost = isinstance(error, exc.DBAPIError) and bool(error.connection_invalidated)
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        return symptom_of(error.orig)._replace(connection_lost=lost)
    return Symptom(
        sqlstate=sqlstate_of(error),
        mysql=_mysql_code(error),
        sqlite=_code(getattr(error, "sqlite_errorcode", None)),
        connection_lost=lost,
        cached_plan=_is_cached_plan(error),
    )


def causes(
    error: BaseException, until: BaseException | None = None, *, contexts: bool = False
) -> Iterator[BaseException]:
    """The error and what it came from, each once, up to `until`: a driver's error is in `orig`.

    `contexts`: also what was being handled when it was raised.
    """
    seen: set[int] = {id(until)}
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        inner = step.orig if isinstance(step, exc.StatementError) else None
        step = inner or step.__cause__ or (step.__context__ if contexts else None)


def sqlstate_in(error: BaseException) -> str | None:
    """The SQLSTATE that the server gave, through SQLAlchemy's and the driver's wrappers."""
    states = map(sqlstate_of, causes(error))
    return next((state for state in states if state is not None), None)


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that `error` itself carries: psycopg's, asyncpg's, or SQLAlchemy's for it."""
    for name in ("sqlstate", "pgcode"):
        state = getattr(error, name, None)
        if isinstance(state, str):
            return state
    return None


def _mysql_code(error: BaseException) -> int | None:
    if type(error).__module__.partition(".")[0] not in ("pymysql", "asyncmy", "aiomysql"):
        return None
    return _code(error.args[0] if error.args else None)


def _code(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _is_cached_plan(error: BaseException) -> bool:
    # asyncpg has a class for it; psycopg tells the server's function, as message texts are
    # translated.
    if type(error).__name__ == "InvalidCachedStatementError":
        return True
    diagnosis = getattr(error, "diag", None)
    return getattr(diagnosis, "source_function", None) == "RevalidateCachedQuery"

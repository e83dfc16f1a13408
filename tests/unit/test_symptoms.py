"""What is read out of the errors of drivers, alone, in chains and in groups."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import exc

from unitofwork import (
    AcquireTimeoutError,
    CommitUnknownError,
    LateLockError,
    Outcome,
    StaleReadError,
    UnitTimeoutError,
)
from unitofwork.policies.retrying import Fate, Symptom
from unitofwork.sql.symptoms import fate_of_error, sqlstate_of, symptom_of

DEADLOCKS: list[Exception] = [
    psycopg.errors.DeadlockDetected("d"),
    asyncpg.exceptions.DeadlockDetectedError("d"),
]


def wrapped(orig: BaseException, *, lost: bool = False) -> exc.DBAPIError:
    """As SQLAlchemy raises a driver's error."""
    error = exc.OperationalError("SELECT 1", {}, orig, connection_invalidated=lost)
    error.__cause__ = orig
    return error


def mysql(package: str, code: object) -> Exception:
    """An error as PyMySQL and its async relatives make them: the code is the first argument."""
    kind = type("OperationalError", (Exception,), {"__module__": f"{package}.err"})
    made: Exception = kind(code, "text in any language")
    return made


def deadlock() -> exc.DBAPIError:
    return wrapped(psycopg.errors.DeadlockDetected("d"))


def unique() -> exc.DBAPIError:
    return wrapped(psycopg.errors.UniqueViolation("u"))


def chained(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    error.__cause__ = cause
    return error


def in_context(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    return error


def commit_unknown() -> CommitUnknownError:
    return CommitUnknownError("?", "", name="unit", outcome=Outcome.UNKNOWN)


# --- one error


@pytest.mark.parametrize("error", DEADLOCKS, ids=lambda error: type(error).__module__)
def test_sqlstate_of_a_driver(error: Exception) -> None:
    """Each driver's own error carries it, and so does what SQLAlchemy makes of it."""
    assert sqlstate_of(error) == "40P01"
    assert symptom_of(error) == Symptom(sqlstate="40P01")
    assert symptom_of(wrapped(error, lost=True)) == Symptom(sqlstate="40P01", connection_lost=True)


def test_sqlstate_is_text() -> None:
    """Attributes of that name which are something else are not taken for one."""
    error = LookupError()
    error.sqlstate = 40001  # type: ignore[attr-defined]
    error.pgcode = "40P01"  # type: ignore[attr-defined]
    assert sqlstate_of(error) == "40P01"
    assert sqlstate_of(ValueError()) is None


@pytest.mark.parametrize("package", ["pymysql", "asyncmy", "aiomysql"])
def test_mysql(package: str) -> None:
    """The error number is read from errors of these drivers only."""
    assert symptom_of(mysql(package, 1213)).mysql == 1213
    assert fate_of_error(wrapped(mysql(package, 1213))) is Fate.RETRY
    assert symptom_of(mysql(package, "1213")).mysql is None
    assert fate_of_error(mysql("accounting", 1213)) is Fate.UNDECIDED
    assert symptom_of(LookupError(1213)).mysql is None


def test_sqlite_codes_of_a_real_database(tmp_path: Path) -> None:
    """Busy is retried, a broken constraint is not: both errors are SQLite's own."""
    path = tmp_path / "one.db"
    with (
        contextlib.closing(sqlite3.connect(path, timeout=0)) as one,
        contextlib.closing(sqlite3.connect(path, timeout=0)) as two,
    ):
        one.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as busy:
            two.execute("BEGIN IMMEDIATE")
        one.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError) as broken:
            one.execute("INSERT INTO t VALUES (1)")
    assert fate_of_error(wrapped(busy.value)) is Fate.RETRY
    assert fate_of_error(wrapped(broken.value)) in (Fate.NEVER, Fate.UNDECIDED)


def test_a_lost_connection_without_a_code() -> None:
    """psycopg has no SQLSTATE for it; SQLAlchemy's mark is enough, and without it nothing is."""
    gone = psycopg.OperationalError("server closed the connection")
    assert fate_of_error(wrapped(gone, lost=True)) is Fate.RETRY_WITHIN_BUDGET
    assert fate_of_error(wrapped(gone)) is Fate.UNDECIDED


def test_cached_plan() -> None:
    """asyncpg has a class of its own for it, whose SQLSTATE alone says nothing of the kind."""
    error = asyncpg.exceptions.InvalidCachedStatementError("cached plan must not change")
    assert symptom_of(error).cached_plan
    assert fate_of_error(wrapped(error)) is Fate.RETRY
    other = psycopg.errors.FeatureNotSupported("cached plan must not change result type")
    assert fate_of_error(wrapped(other)) is Fate.NEVER  # the text alone decides nothing


# --- ours


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (commit_unknown(), Fate.FINAL),
        (UnitTimeoutError("late", "", name="unit", timeout=1.0), Fate.FINAL),
        (AcquireTimeoutError("full", "", waited=1.0), Fate.NEVER),
        (StaleReadError("stale"), Fate.RETRY),
        (LateLockError("late"), Fate.RETRY),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ours(error: Exception, fate: Fate) -> None:
    """The library's own errors decide by themselves, whatever caused them."""
    opposite = unique() if fate is Fate.RETRY else wrapped(psycopg.OperationalError(), lost=True)
    assert fate_of_error(error) is fate
    assert fate_of_error(chained(error, cause=opposite)) is fate
    assert fate_of_error(ExceptionGroup("g", [error])) is fate


def test_commit_unknown_is_never_run_again() -> None:
    """Also inside other errors, and beside retryable ones in a group."""
    unknown = chained(commit_unknown(), cause=wrapped(psycopg.OperationalError(), lost=True))
    assert isinstance(unknown, CommitUnknownError)
    assert fate_of_error(chained(LookupError(), cause=unknown)) is Fate.FINAL
    assert fate_of_error(ExceptionGroup("g", [deadlock(), unknown])) is Fate.FINAL
    assert fate_of_error(in_context(LookupError(), unknown)) is Fate.FINAL


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()],
    ids=lambda error: type(error).__name__,
)
def test_interrupts(error: BaseException) -> None:
    """What stops the task is never a reason to go on, whatever it interrupted."""
    assert fate_of_error(error) is Fate.FINAL
    assert fate_of_error(in_context(error, deadlock())) is Fate.FINAL
    assert fate_of_error(chained(error, cause=deadlock())) is Fate.FINAL


# --- chains


def test_chains() -> None:
    """An error that says nothing leads to what caused it; the first that decides, decides."""
    assert fate_of_error(ValueError()) is Fate.UNDECIDED
    assert fate_of_error(chained(ValueError(), cause=deadlock())) is Fate.RETRY
    assert fate_of_error(in_context(ValueError(), deadlock())) is Fate.RETRY
    far = chained(
        ValueError(), cause=in_context(LookupError(), chained(KeyError(), cause=unique()))
    )
    assert fate_of_error(far) is Fate.NEVER
    assert fate_of_error(in_context(unique(), deadlock())) is Fate.NEVER
    assert fate_of_error(in_context(deadlock(), unique())) is Fate.RETRY


def test_a_cause_is_nearer_than_a_context() -> None:
    """`raise X from cause` while something else was handled."""
    error = chained(ValueError(), cause=deadlock())
    assert fate_of_error(in_context(error, unique())) is Fate.RETRY


def test_orig() -> None:
    """SQLAlchemy's StatementError leads to what it wraps also where nothing was chained."""
    error = exc.StatementError("while binding", "SELECT 1", {}, deadlock())
    assert error.__cause__ is None
    assert fate_of_error(error) is Fate.RETRY


def test_in_failed_transaction_leads_to_what_failed_before() -> None:
    """25P02 only says that an earlier statement failed; that one decides."""
    assert fate_of_error(wrapped(psycopg.errors.InFailedSqlTransaction())) is Fate.UNDECIDED
    for before, fate in ((deadlock(), Fate.RETRY), (unique(), Fate.NEVER)):
        # SQLAlchemy raises from the driver's error, and that one was raised while handling.
        aborted = in_context(psycopg.errors.InFailedSqlTransaction(), before)
        assert fate_of_error(wrapped(aborted)) is fate


def test_a_circle_of_causes_ends() -> None:
    """Chains made by hand may be circles."""
    one, two = ValueError(), LookupError()
    one.__cause__, two.__cause__ = two, one
    assert fate_of_error(one) is Fate.UNDECIDED


def test_what_was_handled_around_the_unit() -> None:
    """Python chains it on to the unit's errors, but it is over; also for the members of a group."""
    around = deadlock()
    mine = in_context(ValueError(), in_context(LookupError(), around))
    assert fate_of_error(mine) is Fate.RETRY
    assert fate_of_error(mine, around) is Fate.UNDECIDED
    assert fate_of_error(BaseExceptionGroup("g", [mine]), around) is Fate.UNDECIDED
    assert fate_of_error(chained(ValueError(), cause=deadlock()), around) is Fate.RETRY


# --- groups


def test_groups() -> None:
    """Run again only if each member allows it; those that were cancelled with it don't count."""
    assert fate_of_error(ExceptionGroup("g", [deadlock()])) is Fate.RETRY
    assert fate_of_error(ExceptionGroup("g", [ExceptionGroup("h", [deadlock()])])) is Fate.RETRY
    assert fate_of_error(ExceptionGroup("g", [deadlock(), deadlock()])) is Fate.RETRY
    assert fate_of_error(ExceptionGroup("g", [deadlock(), unique()])) is Fate.NEVER
    assert fate_of_error(ExceptionGroup("g", [deadlock(), ValueError()])) is Fate.UNDECIDED
    cancelled = asyncio.CancelledError()
    assert fate_of_error(BaseExceptionGroup("g", [cancelled, deadlock()])) is Fate.RETRY
    assert fate_of_error(BaseExceptionGroup("g", [cancelled])) is Fate.FINAL
    assert fate_of_error(BaseExceptionGroup("g", [deadlock(), KeyboardInterrupt()])) is Fate.FINAL
    assert (
        fate_of_error(chained(ValueError(), cause=ExceptionGroup("g", [deadlock()]))) is Fate.RETRY
    )


async def test_a_mixed_group_is_not_decided_by_its_context() -> None:
    """A task group's body met a deadlock, a task of it an error of the user's: that one counts.

    The group's `__context__` is then the deadlock, one of its own members.
    """

    async def clean_up_fails(began: asyncio.Event) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            began.set()
            await asyncio.sleep(60)
        raise ValueError("the user's")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            began = asyncio.Event()
            group.create_task(clean_up_fails(began))
            await began.wait()
            raise deadlock()
    assert len(caught.value.exceptions) == 2
    assert isinstance(caught.value.__context__, exc.DBAPIError)
    assert fate_of_error(caught.value) in (Fate.UNDECIDED, Fate.NEVER)


MAKERS: dict[Fate, Callable[[], Exception]] = {
    Fate.RETRY: deadlock,
    Fate.RETRY_WITHIN_BUDGET: lambda: wrapped(psycopg.errors.AdminShutdown("x")),
    Fate.RETRY_ON_NEW_CONNECTIONS: lambda: wrapped(psycopg.errors.ReadOnlySqlTransaction("x")),
    Fate.UNDECIDED: ValueError,
    Fate.NEVER: unique,
    Fate.FINAL: commit_unknown,
}
RETRIED = {Fate.RETRY, Fate.RETRY_WITHIN_BUDGET, Fate.RETRY_ON_NEW_CONNECTIONS}


@given(st.lists(st.sampled_from(list(MAKERS)), min_size=1, max_size=6), st.randoms())
def test_a_group_is_run_again_only_if_each_member_allows_it(
    fates: list[Fate], random: random.Random
) -> None:
    """In any mixture, order and depth; and the budget is asked if any member needs it."""
    members: list[Exception] = [MAKERS[fate]() for fate in fates]
    random.shuffle(members)
    deep = ExceptionGroup("g", [members[0], ExceptionGroup("h", members[1:] or [deadlock()])])
    fate = fate_of_error(deep)
    assert (fate in RETRIED) is (set(fates) <= RETRIED)
    if fate is Fate.RETRY:
        assert set(fates) == {Fate.RETRY}

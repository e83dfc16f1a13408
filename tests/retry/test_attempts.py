"""The attempts of a unit: their sessions, their number, their end, and the block form."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import exc, text
from tests.contract.face import checked_out

from unitofwork import (
    CURRENT,
    Outcome,
    RetriesExceededError,
    RetryPolicy,
    UnitTimeoutError,
    set_testing,
)

from .world import QUICK, Posting, Purse, RetryFace, both, each, fail, result

FORMS = ["run", "transactional", "attempts"]


async def in_form(face: RetryFace, form: str, body: Any, **options: Any) -> Any:
    """Run `body(tx)` in one of the three forms of retry."""
    if form == "run":
        return await face.run(body, **options)
    if form == "transactional":

        async def function(*, tx: Any = CURRENT) -> Any:
            return await body(tx)

        return await result(face.decorated(function, **options)())
    options.setdefault("retry", QUICK)
    async for attempt in each(face.uow.attempts(**options)):
        async with both(attempt) as tx:
            value = await body(tx)
    return value


@pytest.mark.parametrize("form", FORMS)
async def test_each_attempt_has_a_fresh_session(face: RetryFace, form: str) -> None:
    """No object, no pending change and no flag of a failed attempt is in the next one."""
    seen = []

    async def body(tx: Any) -> str:
        assert list(tx) == []
        seen.append((tx, tx.attempt))
        purse = await result(tx.get(Purse, 1))
        assert purse.balance == 100
        purse.balance -= 1
        tx.add(Posting(amount=1))
        await result(tx.flush())
        await fail(tx, 2)
        return "done"

    assert await in_form(face, form, body) == "done"
    assert len({id(tx) for tx, _ in seen}) == 3
    assert [number for _, number in seen] == [1, 2, 3]
    assert face.balances() == [99, 100]
    assert face.postings() == [1]


@pytest.mark.parametrize("form", FORMS)
async def test_the_end_of_all_attempts(face: RetryFace, form: str) -> None:
    """RetriesExceededError carries each attempt with its error and its seconds."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        await result(tx.execute(text("SELECT pg_sleep(0.05)")))
        await fail(tx, 99)

    with pytest.raises(RetriesExceededError) as caught:
        await in_form(face, form, body)
    error = caught.value
    assert len(calls) == len(error.attempts) == QUICK.attempts
    assert all(isinstance(attempt.error, exc.DBAPIError) for attempt in error.attempts)
    assert len({id(attempt.error) for attempt in error.attempts}) == QUICK.attempts
    assert all(0.05 <= attempt.seconds < 5 for attempt in error.attempts)
    assert error.__cause__ is error.attempts[-1].error
    assert error.what.count("DBAPIError") + error.what.count("OperationalError") >= QUICK.attempts
    assert checked_out(face.uow) == 0


@pytest.mark.parametrize("form", FORMS)
async def test_one_attempt(face: RetryFace, form: str) -> None:
    """`retry=None`: the error itself; `attempts=1`: that it was the only attempt."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        await fail(tx, 99)

    with pytest.raises(exc.DBAPIError):
        await in_form(face, form, body, retry=None)
    with pytest.raises(RetriesExceededError) as caught:
        await in_form(face, form, body, retry=RetryPolicy(attempts=1))
    assert len(caught.value.attempts) == 1
    assert len(calls) == 2


async def test_an_error_that_ends_it_early(face: RetryFace) -> None:
    """A deadlock, then an error of the user's: that one arrives, as it was raised."""
    error = LookupError("mine")

    async def body(tx: Any) -> None:
        if tx.attempt == 2:
            raise error
        await fail(tx)

    with pytest.raises(LookupError) as caught:
        await face.run(body)
    assert caught.value is error


async def test_on_names_further_errors(face: RetryFace) -> None:
    """Where `on(error)` is true the unit is run again; elsewhere it is not."""

    class BusyError(Exception):
        pass

    asked = []

    def on(error: BaseException) -> bool:
        asked.append(error)
        return isinstance(error, BusyError)

    policy = RetryPolicy(attempts=4, wait_initial=0.001, wait_max=0.001, on=on)

    async def body(tx: Any) -> None:
        raise BusyError if tx.attempt < 3 else LookupError

    with pytest.raises(LookupError):
        await face.run(body, retry=policy)
    assert [type(error) for error in asked] == [BusyError, BusyError, LookupError]


async def test_on_may_name_a_unique_violation(face: RetryFace) -> None:
    """An insert that lost a race finds the row the next time: `on` can say so."""

    def lost_race(error: BaseException) -> bool:
        return isinstance(error, exc.IntegrityError)

    async def get_or_create(tx: Any) -> int:
        purse = await result(tx.get(Purse, 7))
        if purse is None:
            face.aside("INSERT INTO retry_purse VALUES (7, 70)")  # another one was faster
            tx.add(Purse(id=7, balance=0))
            await result(tx.flush())
        return int(purse.balance)

    policy = RetryPolicy(attempts=3, wait_initial=0.001, on=lost_race)
    assert await face.run(get_or_create, retry=policy) == 70


async def test_on_is_not_asked_about_interrupts(face: RetryFace) -> None:
    """Cancellation and Ctrl-C leave at once, whatever `on` would say."""
    asked, calls = [], []

    def on(error: BaseException) -> bool:
        asked.append(error)
        return True

    policy = RetryPolicy(attempts=3, on=on)

    for kind in (asyncio.CancelledError, KeyboardInterrupt, SystemExit):

        async def body(tx: Any, kind: Any = kind) -> None:
            calls.append(tx)
            await fail(tx, 0)
            raise kind

        with pytest.raises(kind):
            await face.run(body, retry=policy)
    assert len(calls) == 3
    assert asked == []


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt])
async def test_an_interrupt_while_a_deadlock_is_handled(face: RetryFace, kind: Any) -> None:
    """Its context is retryable, the interrupt is not."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        try:
            await fail(tx)
        except exc.DBAPIError:
            raise kind from None

    with pytest.raises(kind):
        await face.run(body)
    assert len(calls) == 1


# --- time


async def test_no_attempt_begins_after_the_timeout(async_face: RetryFace) -> None:
    """`RetryPolicy.timeout` holds with the waits included, however long these are."""
    began: dict[int, list[float]] = {}
    policy = RetryPolicy(attempts=50, timeout=0.3, wait_initial=2.0, wait_max=2.0)

    async def body(tx: Any, number: int) -> None:
        began.setdefault(number, []).append(time.monotonic())
        await fail(tx, 10_000)

    async def work(number: int) -> None:
        with pytest.raises(RetriesExceededError):
            await async_face.run(body, number, retry=policy)

    # Waits are random: of twelve, some would be long.
    await asyncio.gather(*(work(number) for number in range(12)))
    latest = max(times[-1] - times[0] for times in began.values())
    assert latest < 0.3 + 0.25, f"an attempt began {latest:.2f} s after the first"


async def test_the_timeout_ends_it(face: RetryFace) -> None:
    """Attempts that take long use it up before their number does."""
    policy = RetryPolicy(attempts=1000, timeout=0.4, wait_initial=0.001, wait_max=0.001)

    async def body(tx: Any) -> None:
        await result(tx.execute(text("SELECT pg_sleep(0.1)")))
        await fail(tx, 10_000)

    since = time.monotonic()
    with pytest.raises(RetriesExceededError) as caught:
        await face.run(body, retry=policy)
    assert time.monotonic() - since < 5
    assert 2 <= len(caught.value.attempts) <= 5


async def test_the_timeout_of_the_unit_is_per_attempt_and_final(face: RetryFace) -> None:
    """A unit that took longer than its own `timeout` would do so again."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        await result(tx.execute(text("SELECT pg_sleep(10)")))

    with pytest.raises(UnitTimeoutError):
        await face.run(body, timeout=0.2)
    assert len(calls) == 1


@pytest.mark.parametrize("instant", [False, True])
async def test_set_testing(face: RetryFace, instant: bool) -> None:
    """It makes the back-off instant, and leaves the number of attempts as it is."""
    set_testing(instant)
    policy = RetryPolicy(attempts=9, wait_initial=0.4, wait_max=0.4)
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        await fail(tx, 8)

    since = time.monotonic()
    await face.run(body, retry=policy)
    waited = time.monotonic() - since
    assert len(calls) == 9
    # Eight uniform waits up to 0.4 s: less than 0.2 s in all has a chance of 1 in 10 million.
    assert (waited < 1.0) if instant else (waited > 0.2)


async def test_cancelled_during_the_back_off(async_face: RetryFace) -> None:
    """The wait ends at once, no further attempt is made, and nothing is held during it."""
    calls = []
    policy = RetryPolicy(attempts=5, wait_initial=1000, wait_max=1000, timeout=10_000)

    async def body(tx: Any) -> None:
        calls.append(tx)
        await fail(tx, 99)

    task = asyncio.create_task(async_face.run(body, retry=policy))
    await async_face.until(lambda: calls and calls[0].outcome is Outcome.ROLLED_BACK)
    await asyncio.sleep(0.1)
    stats = async_face.uow.stats()
    assert (stats.checked_out, stats.admitted, stats.running_units) == (0, 0, 0)
    assert async_face.probe.in_transaction() == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(calls) == 1


# --- callbacks


@pytest.mark.parametrize("form", FORMS)
async def test_callbacks(face: RetryFace, form: str) -> None:
    """`on_commit` runs once, of the attempt that committed; `on_rollback` after each other one."""
    called = []

    async def body(tx: Any) -> None:
        number = tx.attempt
        tx.on_commit(lambda: called.append(f"commit {number}"))
        tx.on_rollback(lambda: called.append(f"rollback {number}"))
        await fail(tx, 2)

    await in_form(face, form, body)
    assert called == ["rollback 1", "rollback 2", "commit 3"]


async def test_callbacks_run_after_a_commit_that_was_refused_first(face: RetryFace) -> None:
    """COMMIT fails with 40001, then succeeds: one mail is sent, with no connection held."""
    face.plant_at_commit(1, "40001")
    out = []

    async def body(tx: Any) -> None:
        tx.add(Posting(amount=1))
        tx.on_commit(lambda: out.append(checked_out(face.uow)))

    await face.run(body)
    assert out == [0]


async def test_a_failing_callback(face: RetryFace, caplog: pytest.LogCaptureFixture) -> None:
    """The unit is committed: a callback that fails, even with a deadlock, doesn't run it again."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))
        tx.on_commit(deadlock)

    def deadlock() -> None:
        raise exc.OperationalError("x", {}, _with_state("40P01"))

    await face.run(body)
    assert len(calls) == 1
    assert face.postings() == [1]
    assert "callback" in caplog.text


def _with_state(state: str) -> Exception:
    error = Exception("planted")
    error.sqlstate = state  # type: ignore[attr-defined]
    return error


async def test_the_number_of_an_attempt_stays(face: RetryFace) -> None:
    """`tx.attempt` of an attempt that is over still tells its number, as reports need it."""
    seen = []

    async def body(tx: Any) -> None:
        seen.append(tx)
        await fail(tx, 2)

    await face.run(body)
    assert [tx.attempt for tx in seen] == [1, 2, 3]

"""Only the outermost unit is run again: a retry within a retry would multiply the attempts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import exc

from unitofwork import CURRENT, PropagationError, RetriesExceededError, RetryPolicy

from .world import QUICK, Posting, RetryFace, both, each, fail, result

THREE = RetryPolicy(attempts=3, wait_initial=0.001, wait_max=0.002)


async def test_a_joined_function_is_not_retried_by_itself(face: RetryFace) -> None:
    """Its error ends the outer attempt; the outer policy counts."""
    outer_calls, inner_calls = [], []

    async def inner(*, tx: Any = CURRENT) -> None:
        inner_calls.append(tx)
        await fail(tx, 99)

    function = face.uow.transactional(face.function(inner))

    async def outer(tx: Any) -> None:
        outer_calls.append(tx)
        await result(function())

    with pytest.raises(RetriesExceededError) as caught:
        await face.run(outer, retry=THREE)
    assert len(caught.value.attempts) == 3
    assert outer_calls == inner_calls
    assert len(inner_calls) == 3


async def test_a_plain_block_around_it_is_not_run_again(face: RetryFace) -> None:
    """`with uow():` can't be; what it calls then has one attempt, and its error is not wrapped."""
    calls = []

    async def inner(*, tx: Any = CURRENT) -> None:
        calls.append(tx)
        await fail(tx, 99)

    function = face.uow.transactional(face.function(inner))
    with pytest.raises(exc.DBAPIError):
        async with both(face.uow()):
            await result(function())
    assert len(calls) == 1


@pytest.mark.parametrize("propagation", ["requires_new", "nested"])
async def test_an_inner_unit_is_not_retried_by_itself(face: RetryFace, propagation: Any) -> None:
    """A savepoint or a transaction of its own inside of a unit: the outermost one is run again."""
    calls = []

    async def inner(*, tx: Any = CURRENT) -> None:
        calls.append(tx)
        await fail(tx, 99)

    function = face.uow.transactional(propagation=propagation)(face.function(inner))

    async def outer(tx: Any) -> None:
        await result(function())

    with pytest.raises(RetriesExceededError):
        await face.run(outer, retry=THREE, connections=2)
    assert len(calls) == 3


async def test_a_child_tasks_unit_is_not_retried_by_itself(face: RetryFace) -> None:
    """A unit in a child task (thread) of a unit is inside of it too: 3 attempts, not 3 times 8."""
    calls = []

    async def inner(*, tx: Any = CURRENT) -> None:
        calls.append(tx)
        await fail(tx, 99)

    function = face.uow.transactional(face.function(inner))

    async def child() -> None:
        await result(function())

    async def outer(tx: Any) -> None:
        await face.join(face.start(child))

    with pytest.raises(RetriesExceededError):
        await face.run(outer, retry=THREE, connections=2)
    assert len(calls) == 3


async def test_a_background_task_that_outlives_the_unit(async_face: RetryFace) -> None:
    """Started inside of a unit, running after its end: nobody else would run it again."""
    calls: list[Any] = []
    over = asyncio.Event()

    async def later() -> None:
        await over.wait()
        await async_face.run(inner)

    async def inner(tx: Any) -> None:
        calls.append(tx)
        await fail(tx, 1)

    async with async_face.uow():
        task = asyncio.create_task(later())
    over.set()
    await task
    assert len(calls) == 2


@pytest.mark.parametrize("form", ["run", "attempts", "transactional"])
async def test_a_retry_asked_for_inside_is_refused(face: RetryFace, form: str) -> None:
    """It would have no effect: PropagationError names both places, before anything runs."""

    async def inner(*, tx: Any = CURRENT) -> None:
        raise AssertionError("it ran")

    async def inner_of_run(tx: Any) -> None:
        raise AssertionError("it ran")

    with pytest.raises(PropagationError) as caught:
        async with both(face.uow(name="the outer one")):
            if form == "run":
                await face.run(inner_of_run, retry=QUICK)
            elif form == "attempts":
                async for _ in each(face.uow.attempts(retry=QUICK)):
                    raise AssertionError("it ran")
            else:
                await result(face.decorated(inner, retry=QUICK)())
    assert caught.value.outer_name == "the outer one"
    assert caught.value.outer_opened_at is not None
    assert "test_outermost.py" in str(caught.value.outer_opened_at)


@pytest.mark.parametrize("form", ["run", "attempts", "transactional"])
async def test_no_retry_asked_for_inside_is_fine(face: RetryFace, form: str) -> None:
    """`retry=None` says what holds anyway."""
    calls = []

    async def inner(*, tx: Any = CURRENT) -> None:
        calls.append(tx)

    async def inner_of_run(tx: Any) -> None:
        calls.append(tx)

    async with both(face.uow()) as outer:
        if form == "run":
            await face.run(inner_of_run, retry=None)
        elif form == "attempts":
            async for attempt in each(face.uow.attempts(retry=None)):
                async with both(attempt) as tx:
                    calls.append(tx)
        else:
            await result(face.decorated(inner, retry=None)())
    assert calls == [outer]


async def test_a_function_decorated_with_a_policy_is_refused_inside_of_its_like(
    face: RetryFace,
) -> None:
    """Two services with policies of their own, one calling the other: said, not dropped."""

    async def inner(*, tx: Any = CURRENT) -> None:
        raise AssertionError("it ran")

    inner_function = face.decorated(inner, retry=QUICK)

    async def outer(*, tx: Any = CURRENT) -> None:
        await result(inner_function())

    with pytest.raises(PropagationError):
        await result(face.decorated(outer, retry=QUICK)())


async def test_units_one_after_the_other(face: RetryFace) -> None:
    """Each is an outermost one, with all its attempts."""
    calls = []

    async def post(tx: Any, amount: int) -> None:
        calls.append(amount)
        tx.add(Posting(amount=amount))
        await result(tx.flush())
        await fail(tx, amount)  # calls are counted on: each unit fails at least once

    await face.run(post, 2)
    await face.run(post, 5)
    assert face.postings() == [2, 5]
    assert calls.count(2) == 3
    assert calls.count(5) == 3

"""`for attempt in uow.attempts(): with attempt as tx:` however the block is left."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import exc

from unitofwork import CURRENT, NoUnitError, Outcome, RetriesExceededError, current

from .world import QUICK, Posting, RetryFace, both, each, fail, result


async def test_the_loop_ends_with_the_first_success(face: RetryFace) -> None:
    """One turn for each attempt; afterwards there is no unit."""
    turns = []
    async for attempt in each(face.uow.attempts(retry=QUICK)):
        async with both(attempt) as tx:
            turns.append(tx)
            await fail(tx, 1)
            assert current() is tx
    assert [tx.outcome for tx in turns] == [Outcome.ROLLED_BACK, Outcome.COMMITTED]
    with pytest.raises(NoUnitError):
        current()


@pytest.mark.parametrize("how", ["break", "return"])
async def test_leaving_the_loop_commits(face: RetryFace, how: str) -> None:
    """`break` and `return` inside the block are no errors: the attempt commits."""

    async def leave() -> str:
        async for attempt in each(face.uow.attempts(retry=QUICK)):
            async with both(attempt) as tx:
                await fail(tx, 1)
                tx.add(Posting(amount=tx.attempt))
                if how == "break":
                    break
                return "returned"
        return "broke"

    assert await leave() == ("broke" if how == "break" else "returned")
    assert face.postings() == [2]


@pytest.mark.parametrize("how", ["break", "return"])
@pytest.mark.parametrize("state", ["40001", "23505"])
async def test_leaving_the_loop_when_commit_fails(face: RetryFace, how: str, state: str) -> None:
    """The loop is left, so nothing can run the unit again: the error must not be lost.

    Whoever gets "returned" takes the posting for saved.
    """
    face.plant_at_commit(1, state)

    async def leave() -> str:
        async for attempt in each(face.uow.attempts(retry=QUICK)):
            async with both(attempt) as tx:
                tx.add(Posting(amount=1))
                if how == "break":
                    break
                return "returned"
        return "broke"

    try:
        await leave()
    except exc.DBAPIError:
        assert face.postings() == []
    else:
        assert face.postings() == [1], "reported as done, and lost"


async def test_continue(face: RetryFace) -> None:
    """`continue` inside the block commits, and there is no further turn."""
    turns = []
    async for attempt in each(face.uow.attempts(retry=QUICK)):
        async with both(attempt) as tx:
            turns.append(tx)
            tx.add(Posting(amount=1))
            continue
    assert len(turns) == 1
    assert face.postings() == [1]


async def test_commit_fails_at_the_end_of_the_block(face: RetryFace) -> None:
    """Its error leaves the loop: the block can't tell this end from a `return`."""
    face.plant_at_commit(1, "40001")
    turns = []
    with pytest.raises(exc.DBAPIError):
        async for attempt in each(face.uow.attempts(retry=QUICK)):
            async with both(attempt) as tx:
                turns.append(tx)
                tx.add(Posting(amount=1))
    assert [tx.outcome for tx in turns] == [Outcome.ROLLED_BACK]
    assert face.postings() == []


async def test_rolled_back_on_purpose(face: RetryFace) -> None:
    """`set_rollback_only()` is an end like any other."""
    turns = []
    async for attempt in each(face.uow.attempts(retry=QUICK)):
        async with both(attempt) as tx:
            turns.append(tx)
            tx.add(Posting(amount=1))
            tx.set_rollback_only()
    assert [tx.outcome for tx in turns] == [Outcome.ROLLED_BACK]
    assert face.postings() == []


async def test_an_attempt_that_is_not_entered(face: RetryFace) -> None:
    """A turn that leaves before its block has opened nothing."""
    async for _ in each(face.uow.attempts(retry=QUICK)):
        break
    assert face.uow.stats().running_units == 0


async def test_a_function_joins_the_attempt(face: RetryFace) -> None:
    """What is called inside is part of the attempt, and run again with it."""
    joined = []

    async def post(amount: int, *, tx: Any = CURRENT) -> None:
        joined.append(tx)
        tx.add(Posting(amount=amount))
        await result(tx.flush())

    function = face.uow.transactional(face.function(post))
    async for attempt in each(face.uow.attempts(retry=QUICK)):
        async with both(attempt) as tx:
            await result(function(5))
            assert joined[-1] is tx
            await fail(tx, 1)
    assert len(joined) == 2
    assert face.postings() == [5]


async def test_the_last_error_leaves_the_loop(face: RetryFace) -> None:
    """After the attempts, RetriesExceededError comes out of the `for`."""
    turns = []
    with pytest.raises(RetriesExceededError):
        async for attempt in each(face.uow.attempts(retry=QUICK)):
            async with both(attempt) as tx:
                turns.append(tx)
                await fail(tx, 99)
    assert len(turns) == QUICK.attempts

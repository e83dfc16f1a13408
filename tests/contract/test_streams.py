"""Results that are read row by row: part of the unit, and over with it."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from unitofwork import Outcome, TransactionStateError

from .face import Face, both, checked_out, pool_events, result
from .model import Item

MANY = 250


def fill(face: Face) -> None:
    """That many items."""
    count = f"SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}"
    face.aside(f"WITH RECURSIVE n AS ({count}) INSERT INTO item SELECT i, 'item ' || i FROM n")


async def test_rows_can_be_streamed(async_face: Face) -> None:
    """Read to the end inside the block, then the unit goes on and commits."""
    fill(async_face)
    async with both(async_face.uow()) as tx:
        rows = await tx.stream_scalars(select(Item).execution_options(yield_per=100))
        assert len([item.id async for item in rows]) == MANY
        tx.add(Item(id=1000, name="last"))
    assert tx.outcome is Outcome.COMMITTED
    assert async_face.names()[-1] == "last"


# psycopg tells that the user left a server-side cursor open, as it does without us.
@pytest.mark.filterwarnings("ignore:.*ServerCursorMixin:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("end", ["well", "by an error"])
async def test_a_stream_that_was_left_half_read(async_face: Face, end: str) -> None:
    """The end of the block closes it: the connection is returned, and sound."""
    fill(async_face)
    uow = async_face.make(pool_size=1)
    try:
        async with both(uow()) as tx:
            rows = await tx.stream(select(Item).execution_options(yield_per=10))
            async for _ in rows:
                break
            if end == "by an error":
                raise LookupError
    except LookupError:
        pass
    assert tx.outcome is (Outcome.COMMITTED if end == "well" else Outcome.ROLLED_BACK)
    assert checked_out(uow) == 0
    async with both(uow()) as tx:
        assert await tx.scalar(text("SELECT count(*) FROM item")) == MANY


async def test_a_stream_after_the_end_is_refused(async_face: Face) -> None:
    """`stream` is a use like `execute`."""
    async with both(async_face.uow()) as tx:
        pass
    events = pool_events(async_face.uow)
    for call in (tx.stream, tx.stream_scalars):
        with pytest.raises(TransactionStateError):
            await call(select(Item))
    assert events == []


async def test_a_buffered_result_can_be_read_after_the_end(face: Face) -> None:
    """Rows that were fetched belong to the caller."""
    fill(face)
    async with both(face.uow()) as tx:
        rows = await result(tx.execute(select(Item.id)))
        fetched = rows.all()
    assert len(fetched) == MANY


async def test_run_sync_is_the_same_unit(async_face: Face) -> None:
    """Code written for sync sessions runs in the unit, under its rules."""

    def classic(session: Session) -> int:
        session.add(Item(id=1, name="one"))
        session.flush()
        with pytest.raises(TransactionStateError):
            session.commit()
        return len(session.query(Item).all())

    async with both(async_face.uow()) as tx:
        assert await tx.run_sync(classic) == 1
    assert async_face.names() == ["one"]

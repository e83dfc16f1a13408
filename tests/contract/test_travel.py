"""Real errors, with the drivers' own inside, cross a process border."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sqlalchemy import text

from unitofwork import (
    AcquireTimeoutError,
    ConcurrentUseError,
    NestedUnitError,
    PropagationError,
    SilentRollbackError,
    TransactionStateError,
    UnitOfWorkError,
    UnitTimeoutError,
)

from .face import Face, both, checked_out, result
from .model import Item


async def silent(face: Face) -> None:
    async with both(face.uow()) as tx:
        tx.add(Item(id=1, name="one"))
        await result(tx.flush())
        with pytest.raises(Exception):
            await result(tx.execute(text("INSERT INTO item VALUES (1, 'again')")))
        if not face.is_postgres:
            with pytest.raises(Exception):
                await result(tx.execute(text("INSERT OR ROLLBACK INTO item VALUES (1, 'x')")))


async def joined(face: Face) -> None:
    async with both(face.uow()):
        with pytest.raises(LookupError):
            async with both(face.uow()):
                raise LookupError("mine")


async def contradiction(face: Face) -> None:
    async with both(face.uow()):
        async with both(face.uow(read_only=True)):
            pass


async def over(face: Face) -> None:
    async with both(face.uow()) as tx:
        pass
    await result(tx.execute(text("SELECT 1")))


async def nested(face: Face) -> None:
    async with both(face.uow()) as tx:
        await result(tx.execute(text("SELECT 1")))
        async with both(face.uow(propagation="requires_new")):
            pass


async def late(face: Face) -> None:
    async with both(face.uow(timeout=0.05)):
        await face.pause(0.2)


async def full(face: Face) -> None:
    uow = face.make(pool_size=1)

    async def hold() -> None:
        async with both(uow()) as tx:
            await result(tx.execute(text("SELECT 1")))
            await face.pause(0.4)

    child = face.start(hold)
    await face.until(lambda: checked_out(uow) == 1)
    try:
        async with both(uow(acquire_timeout=0.1)):
            pass
    finally:
        await face.join(child)


async def shared(face: Face) -> None:
    async with both(face.uow()) as tx:

        async def first() -> None:
            await result(tx.execute(face.slow(0.3)))

        child = face.start(first)
        await face.pause(0.15)
        try:
            await result(tx.execute(text("SELECT 1")))
        finally:
            await face.join(child)


CASES: dict[Any, type[UnitOfWorkError]] = {
    silent: SilentRollbackError,
    joined: SilentRollbackError,
    contradiction: PropagationError,
    over: TransactionStateError,
    nested: NestedUnitError,
    late: UnitTimeoutError,
    full: AcquireTimeoutError,
    shared: ConcurrentUseError,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_it_arrives_whole(face: Face, case: Any) -> None:
    """As Celery and multiprocessing send it: the same kind, text and fields."""
    with pytest.raises(CASES[case]) as caught:
        await case(face)
    error = caught.value
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    fields = {name for name in vars(error) if not name.startswith("_")}
    assert {name for name in vars(there) if not name.startswith("_")} == fields
    for name in fields - {"swallowed"}:
        assert getattr(there, name) == getattr(error, name), name
    if isinstance(error, SilentRollbackError):
        assert type(there.swallowed) is type(error.swallowed)
        assert str(there.swallowed) == str(error.swallowed)

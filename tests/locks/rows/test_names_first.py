"""`lock_names`: names that are taken before anything else, above READ COMMITTED before BEGIN."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, exc, text
from tests.contract.face import Face, both, result

from unitofwork import (
    ConfigurationError,
    LateLockError,
    PropagationError,
    TransactionStateError,
    UnitTimeoutError,
)
from unitofwork.policies.locks.order import name

from .model import Account
from .test_late import as_function
from .test_rows import accounts

HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_they_are_held_to_the_end(face: Face, isolation: str) -> None:
    """In every isolation level; and the connection goes back without them."""
    async with both(face.uow(isolation=isolation, lock_names=["a", ("b", 1)])) as tx:
        assert await result(tx.scalar(text("SHOW transaction_isolation"))) == isolation.lower()
        assert face.aside(HELD) == [(2,)]
        assert sorted(each.key for each in tx.unit.book.held) == [("a",), ("b", 1)]
    assert face.aside(HELD) == [(0,)]
    with pytest.raises(KeyError):
        async with both(face.uow(isolation=isolation, lock_names=["a"])) as tx:
            await result(tx.scalar(text("SELECT 1")))
            raise KeyError
    assert face.aside(HELD) == [(0,)]


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_no_serialization_failures(face: Face, isolation: str) -> None:
    """Who waits for a name has no snapshot yet, so that what it waited for is no surprise."""
    await accounts(face, 1)
    uow = face.make(pool_size=4)
    attempts: list[int] = []

    async def work(tx: Any) -> None:
        account = await result(tx.get(Account, 0))
        account.balance += 1
        attempts.append(tx.attempt)

    async def child() -> None:
        options = {"isolation": isolation, "lock_names": [("account", 0)]}
        await result(uow.run(as_function(face, work), **options))

    children = [face.start(child) for _ in range(30)]
    for one in children:
        await face.join(one)
    assert attempts == [1] * 30
    assert face.aside("SELECT balance FROM lock_account") == [(30,)]


async def test_what_is_no_name(face: Face, statements: list[str]) -> None:
    """It is refused before anything is sent."""
    for wrong in (("a", [1]), (), object()):
        with pytest.raises(ConfigurationError):
            async with both(face.uow(lock_names=[wrong])):
                pass
    assert not statements


async def test_a_joined_block_can_t_ask_for_more(face: Face) -> None:
    """It begins after the first statement; the outer unit's own names are fine."""
    async with both(face.uow(lock_names=["a"])):
        async with both(face.uow(lock_names=["a"])):
            pass
        with pytest.raises(PropagationError, match="lock_names"):
            async with both(face.uow(lock_names=["b"])):
                pass


async def test_the_same_name_is_the_same_lock(face: Face, holder: Connection) -> None:
    """However it is taken."""
    async with both(face.uow(isolation="SERIALIZABLE", lock_names=["a"])) as tx:
        await result(tx.scalar(text("SELECT 1")))
        (key,) = name(("a",)).order
        assert holder.scalar(text(f"SELECT pg_try_advisory_xact_lock({key})")) is False
        holder.rollback()


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_an_isolation_level_of_the_engine_counts(face: Face, isolation: str) -> None:
    """The names are held before the snapshot, whoever has asked for it."""
    await accounts(face, 1)
    uow = face.make(pool_size=2, isolation_level=isolation)
    attempts: list[int] = []

    async def work(tx: Any) -> None:
        (await result(tx.get(Account, 0))).balance += 1
        attempts.append(tx.attempt)

    async def child() -> None:
        await result(uow.run(as_function(face, work), lock_names=[("account", 0)]))

    children = [face.start(child) for _ in range(10)]
    for one in children:
        await face.join(one)
    assert attempts == [1] * 10
    assert face.aside("SELECT balance FROM lock_account") == [(10,)]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "SERIALIZABLE"])
@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout", "timeout"])
async def test_a_wait_for_them_is_limited(
    face: Face, holder: Connection, isolation: str, limit: str
) -> None:
    """By the unit's own limits; its connection is as before afterwards."""
    (key,) = name(("a",)).order
    holder.execute(text(f"SELECT pg_advisory_lock({key})"))
    uow = face.make(pool_size=1)
    shown = text("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
    async with both(uow()) as tx:
        before = (await result(tx.execute(shown))).one()
    with pytest.raises((exc.DBAPIError, UnitTimeoutError)):
        async with both(uow(isolation=isolation, lock_names=["a"], **{limit: 0.2})) as tx:
            await result(tx.scalar(text("SELECT 1")))
    async with both(uow()) as tx:
        assert (await result(tx.execute(shown))).one() == before
        assert await result(tx.scalar(text("SHOW transaction_isolation"))) == "read committed"
        await result(tx.execute(text("CREATE TEMPORARY TABLE gone (id int) ON COMMIT DROP")))
        await result(tx.execute(text("SELECT * FROM gone")))  # it is a transaction
    holder.execute(text(f"SELECT pg_advisory_unlock({key})"))


async def test_inside_of_a_unit_that_holds_locks_they_are_not_waited_for(
    face: Face, holder: Connection
) -> None:
    """The outer unit ends after the inner one, so that wait could be a circle."""
    await accounts(face)
    (key,) = name(("a",)).order
    holder.execute(text(f"SELECT pg_advisory_lock({key})"))
    inner = {"propagation": "requires_new", "lock_names": ["a"]}
    async with both(face.uow(connections=2)) as tx:
        await result(tx.lock(Account, 1))
        with pytest.raises(LateLockError):
            async with both(face.uow(**inner)) as other:
                await result(other.scalar(text("SELECT 1")))
    holder.execute(text(f"SELECT pg_advisory_unlock({key})"))
    async with both(face.uow(connections=2)) as tx:
        await result(tx.lock_name("a"))
        with pytest.raises(TransactionStateError, match="wait for itself"):
            async with both(face.uow(**inner)) as other:
                await result(other.scalar(text("SELECT 1")))

"""`guard_reads`: what a flush overwrites is still what the unit has read."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.face import Face, both, result

from unitofwork import PropagationError, StaleReadError

from .model import Account, Entry
from .test_late import as_function
from .test_rows import accounts


async def test_twenty_units_count_exactly(face: Face) -> None:
    """Read, add one, write, with plain get(): no update is lost."""
    await accounts(face, 1)
    uow = face.make(pool_size=5, guard_reads=True)

    async def work(tx: Any) -> None:
        account = await result(tx.get(Account, 0))
        account.balance += 1

    async def child() -> None:
        from unitofwork import RetryPolicy

        await result(uow.run(as_function(face, work), retry=RetryPolicy(attempts=50)))

    children = [face.start(child) for _ in range(20)]
    for one in children:
        await face.join(one)
    assert face.aside("SELECT balance FROM lock_account") == [(20,)]


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_row_that_was_changed_meanwhile(face: Face, guarded: bool) -> None:
    """With the guard an error that may be retried; without it the change is overwritten."""
    await accounts(face, 2)

    async def change() -> None:
        async with both(face.uow(guard_reads=guarded)) as tx:
            account = await result(tx.get(Account, 0))
            face.aside("UPDATE lock_account SET balance = 7 WHERE id = 0")
            account.balance += 1

    if guarded:
        with pytest.raises(StaleReadError, match="balance was 0, is 7"):
            await change()
    else:
        await change()
    left = face.aside("SELECT balance FROM lock_account WHERE id = 0")
    assert left == [(7,) if guarded else (1,)]


async def test_what_was_read_under_a_lock_is_not_read_again(
    face: Face, statements: list[str]
) -> None:
    """The lock has kept it as it was."""
    await accounts(face, 2)
    async with both(face.uow(guard_reads=True)) as tx:
        account = await result(tx.lock(Account, 0))
        account.balance += 1
        statements.clear()
    assert [one.split()[0] for one in statements] == ["UPDATE"]


async def test_one_query_locks_and_compares(face: Face, statements: list[str]) -> None:
    """Rows of one class cost one statement more than the flush alone, however many they are."""
    await accounts(face, 3)
    async with both(face.uow(guard_reads=True)) as tx:
        rows = [await result(tx.get(Account, number)) for number in range(3)]
        for row in rows:
            row.balance += 1
        statements.clear()
    assert [one.split()[0] for one in statements] == ["WITH", "UPDATE"]


async def test_a_row_that_is_gone(face: Face) -> None:
    """It is told as such, before the flush would miss it."""
    await accounts(face, 2)
    with pytest.raises(StaleReadError, match=r"lock_account \(1,\).*deleted"):
        async with both(face.uow(guard_reads=True)) as tx:
            rows = [await result(tx.get(Account, number)) for number in range(2)]
            face.aside("DELETE FROM lock_account WHERE id = 1")
            for row in rows:
                row.balance += 1


async def test_rows_of_two_classes(face: Face) -> None:
    """What one query can't compare is locked first, and then compared."""
    await accounts(face, 2)
    face.aside("INSERT INTO lock_entry VALUES (1, 0)")
    with pytest.raises(StaleReadError, match="owner was 'me', is 'x'"):
        async with both(face.uow(guard_reads=True)) as tx:
            account = await result(tx.get(Account, 0))
            entry = await result(tx.get(Entry, 1))
            face.aside("UPDATE lock_account SET owner = 'x' WHERE id = 0")
            account.balance += 1
            entry.account_id = 1


async def test_one_s_own_writes_are_no_surprise(face: Face) -> None:
    """A second flush compares with what the first one wrote."""
    await accounts(face, 2)
    async with both(face.uow(guard_reads=True)) as tx:
        account = await result(tx.get(Account, 0))
        for _ in range(3):
            account.balance += 1
            await result(tx.flush())
    assert face.aside("SELECT balance FROM lock_account WHERE id = 0") == [(3,)]


async def test_a_joined_block_can_t_ask_for_it(face: Face) -> None:
    """The flush is the outer unit's."""
    async with both(face.uow()):
        with pytest.raises(PropagationError, match="guard_reads"):
            async with both(face.uow(guard_reads=True)):
                pass

"""`audit_locks`: what a unit holds on the server and does not know of is a hole, and is named."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text, update
from tests.contract.face import Face, both, result
from tests.locks.rows.conftest import face, holder, lock_tables
from tests.locks.rows.model import Account
from tests.locks.rows.test_rows import accounts

from unitofwork.policies.locks.book import Book
from unitofwork.testing import audit_locks

__all__ = ["face", "holder", "lock_tables"]


@pytest.fixture(autouse=True)
def lock_audit() -> None:
    """The one of the suite would look at the same units."""


async def test_a_unit_that_books_its_locks_passes(face: Face) -> None:
    """Flushes, locks and bulk statements: the server has nothing that the book has not."""
    await accounts(face)
    async with audit_locks(face.uow) as audit:
        async with both(face.uow()) as tx:
            (await result(tx.lock(Account, 1))).balance += 1
            await result(tx.flush())
            await result(tx.lock(Account, 3, strength="share"))
            await result(tx.execute(update(Account).where(Account.balance > 0).values(balance=5)))
    assert audit.units == 1
    assert not audit.skipped


@pytest.mark.parametrize(
    ("strength", "told"),
    [
        ("key_share", "KEY SHARE"),
        ("share", "SHARE"),
        ("no_key_update", "NO KEY UPDATE"),
        ("update", "UPDATE"),
    ],
)
async def test_a_lock_that_is_not_in_the_book(
    face: Face, monkeypatch: pytest.MonkeyPatch, strength: Any, told: str
) -> None:
    """Table, key, strength, unit and the line that opened it are told."""
    await accounts(face)
    monkeypatch.setattr(Book, "record", lambda *_: None)
    says = (
        rf"lock_account 2: locked FOR {told}, in the book not at all; unit 'mine', opened at .*py"
    )
    with pytest.raises(AssertionError, match=says):
        async with audit_locks(face.uow):
            async with both(face.uow(name="mine")) as tx:
                await result(tx.lock(Account, 2, strength=strength))


async def test_a_lock_that_is_stronger_than_in_the_book(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade that nobody saw is a hole, too."""
    await accounts(face)
    with audit_locks(face.uow) as audit:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 1, strength="share"))
            monkeypatch.setattr(Book, "record", lambda *_: None)
            await result(tx.lock(Account, 1))
        assert [(hole.key, hole.strength, hole.booked) for hole in audit.holes] == [
            ((1,), "NO_KEY_UPDATE", "SHARE")
        ]
        audit.holes.clear()


async def test_what_can_not_be_told_is_skipped_and_counted(face: Face, holder: Any) -> None:
    """Writes that the library can't read, and units that are not alone."""
    await accounts(face)
    with audit_locks(face.uow) as audit:
        async with both(face.uow()) as tx:
            await result(tx.execute(text("UPDATE lock_account SET balance = 1 WHERE id = 1")))
        holder.execute(text("SELECT 1"))
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 1))
    assert audit.units == 0
    assert dict(audit.skipped) == {
        "it sent writes that the library can't read": 1,
        "others are at work on the database": 1,
    }


async def test_large_tables_are_left_out_and_named(face: Face) -> None:
    """Each row would be asked for."""
    await accounts(face)
    with audit_locks(face.uow, most_rows=2) as audit:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 1))
    assert dict(audit.skipped) == {"lock_account has too many rows": 1}


async def test_another_unit_of_work_is_not_looked_at(face: Face) -> None:
    """Only the one that was given."""
    await accounts(face)
    other = face.make(pool_size=1)
    with audit_locks(other) as audit:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 1))
    assert audit.units == 0

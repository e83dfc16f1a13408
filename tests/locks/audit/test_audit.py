"""`audit_locks`: what a unit holds on the server and does not know of is a hole, and is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, text, update
from tests.contract.face import Face, both, result
from tests.locks.rows.conftest import face, holder, lock_tables
from tests.locks.rows.model import Account, ByText
from tests.locks.rows.test_rows import accounts

from unitofwork.policies.locks.book import Book
from unitofwork.testing import audit_locks
from unitofwork.testing.postgres import EmbeddedPostgres

__all__ = ["face", "holder", "lock_tables"]


@pytest.fixture(autouse=True)
def lock_audit() -> None:
    """The one of the suite would look at the same units."""


@pytest.fixture
def schema_table(lock_tables: EmbeddedPostgres) -> Iterator[Table]:
    metadata = MetaData(schema="elsewhere")
    table = Table(
        "audited", metadata, Column("id", Integer, primary_key=True), Column("v", Integer)
    )
    engine = create_engine(lock_tables.url("psycopg"))
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA elsewhere"))
        metadata.create_all(connection)
        connection.execute(insert(table).values(id=1))
    yield table
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA elsewhere CASCADE"))
    engine.dispose()


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


async def test_a_row_that_was_deleted_is_no_hole(face: Face) -> None:
    """Nobody says whether a DELETE has found its row: the unit takes it that it may hold it."""
    async with both(face.uow()) as tx:
        tx.add(ByText(key="a"))
    async with audit_locks(face.uow) as audit:
        async with both(face.uow()) as tx:
            await result(tx.delete(await result(tx.get_one(ByText, "a"))))
    assert audit.units == 1


async def test_a_table_in_a_schema(face: Face, schema_table: Table) -> None:
    """It is known by both names."""
    async with audit_locks(face.uow) as audit:
        async with both(face.uow()) as tx:
            await result(tx.execute(update(schema_table).values(v=1)))
    assert audit.units == 1
    with pytest.raises(AssertionError, match=r"elsewhere\.audited 1: locked FOR NO KEY UPDATE"):
        async with audit_locks(face.uow):
            async with both(face.uow()) as tx:
                await result(tx.execute(update(schema_table).values(v=1)))
                tx.unit.book.held.clear()


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

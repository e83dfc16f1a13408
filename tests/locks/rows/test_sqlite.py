"""On SQLite a unit has the whole database, so the same calls load, and have nothing to lock."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select
from tests.contract.face import Face, both, result, sqlite_url
from tests.support.hygiene import Hygiene

from unitofwork import RowNotFoundError, StaleReadError

from .model import Account, Base, ByTwo


@pytest.fixture(params=["aiosqlite", "pysqlite"])
async def face(
    request: pytest.FixtureRequest, hygiene: Hygiene, tmp_path: Path
) -> AsyncIterator[Face]:
    face = Face(request.param, sqlite_url(Face.ALL[request.param][0], tmp_path), hygiene)
    engine = create_engine(sqlite_url("pysqlite", tmp_path))
    Base.metadata.create_all(engine)
    engine.dispose()
    yield face
    try:
        await hygiene.check_async()
    finally:
        await face.close()


async def test_the_same_calls(face: Face) -> None:
    """They load fresh, in the order asked, and say what is missing."""
    async with both(face.uow()) as tx:
        tx.add_all([*(Account(id=n) for n in range(600)), ByTwo(left=1, right="a")])
    async with both(face.uow()) as tx:
        await result(tx.lock_name("invoices"))
        rows = await result(tx.lock_many(Account, range(599, -1, -1)))
        assert [row.id for row in rows] == list(range(599, -1, -1))
        assert (await result(tx.lock(ByTwo, (1, "a")))).right == "a"
        some = await result(tx.lock_where(select(Account).where(Account.id < 2)))
        assert sorted(row.id for row in some) == [0, 1]
        with pytest.raises(RowNotFoundError, match="Account 700"):
            await result(tx.lock_many(Account, [1, 700]))
        rows[0].balance = 5
    assert face.aside("SELECT sum(balance) FROM lock_account") == [(5,)]


async def test_guarded_reads(face: Face) -> None:
    """A read-only look first, the write in a unit of its own: what changed between is found."""
    async with both(face.uow()) as tx:
        tx.add(Account(id=1))
    with pytest.raises(StaleReadError, match="balance was 0, is 9"):
        async with both(face.uow(guard_reads=True)) as tx:
            account = await result(tx.get(Account, 1))
            async with both(tx.released(recheck="ignore")):
                face.aside("UPDATE lock_account SET balance = 9")
            account.balance += 1


async def test_streamed_rows_are_not_kept_for_the_guard(face: Face) -> None:
    """What was loaded and let go of takes no memory, however many rows there are."""
    async with both(face.uow()) as tx:
        tx.add_all(Account(id=n) for n in range(600))
    async with both(face.uow(guard_reads=True)) as tx:
        for start in range(0, 600, 100):
            some = select(Account).where(Account.id >= start, Account.id < start + 100)
            assert len((await result(tx.scalars(some))).all()) == 100
        tx.unit.loaded.clear()
        gc.collect()
        assert len(tx.unit.fresh) == 0

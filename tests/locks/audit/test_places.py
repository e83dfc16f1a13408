"""Which line of the user's took a lock, where a flush or a statement did that by itself."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text
from tests.contract.face import Face, both, result
from tests.locks.rows.conftest import face, holder, lock_tables
from tests.locks.rows.model import Account
from tests.locks.rows.test_rows import accounts

from unitofwork import LateLockError

__all__ = ["face", "holder", "lock_tables"]


async def test_the_line_of_a_flush_that_took_a_lock(face: Face, holder: Connection) -> None:
    """One that needed no lock query, too: its order was right."""
    await accounts(face)
    holder.execute(text("SELECT 1 FROM lock_account WHERE id = 1 FOR UPDATE"))
    with pytest.raises(LateLockError, match=r"lock_account 2: NO_KEY_UPDATE, locked at /.*\.py"):
        async with both(face.uow()) as tx:
            account: Any = await result(tx.get_one(Account, 2))
            account.balance += 1
            await result(tx.flush())
            await result(tx.lock(Account, 1))
    holder.rollback()

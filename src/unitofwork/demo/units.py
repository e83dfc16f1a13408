"""The same work in units."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from unitofwork import AsyncTransaction, AsyncUnitOfWork

from .model import Account, Customer
from .service import ScoreClient


class Units:
    """No connection is held during the call; rows are locked in one order."""

    def __init__(self, engine: AsyncEngine, service: ScoreClient, acquire_timeout: float) -> None:
        self._uow = AsyncUnitOfWork(engine)
        self._service = service
        self._acquire_timeout = acquire_timeout

    async def request(self, customer_id: int) -> None:
        """Read, call with the unit released, write: the row is compared before it is changed."""
        async with self._uow(acquire_timeout=self._acquire_timeout) as tx:
            customer = await tx.get_one(Customer, customer_id)
            customer.score = await tx.outside(self._service.score, customer.email)

    async def transfer(self, source_id: int, target_id: int, amount: int) -> None:
        """Lock both accounts in the order of their keys, then change them."""
        async with self._uow(acquire_timeout=self._acquire_timeout) as tx:
            source, target = await lock_accounts(tx, source_id, target_id)
            source.balance -= amount
            target.balance += amount


async def lock_accounts(tx: AsyncTransaction, *ids: int) -> list[Account]:
    """The accounts, locked in one global order and returned in the order asked."""
    query = select(Account).where(Account.id.in_(ids)).order_by(Account.id)
    rows = await tx.scalars(query.with_for_update(key_share=True))
    found = {account.id: account for account in rows}
    return [found[wanted] for wanted in ids]

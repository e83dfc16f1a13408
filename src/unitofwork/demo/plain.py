"""The work as it is usually written with SQLAlchemy alone."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from .model import Account, Customer
from .service import ScoreClient


class Plain:
    """One transaction around all of a request; rows locked in the order they are named in."""

    def __init__(self, engine: AsyncEngine, service: ScoreClient) -> None:
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._service = service
        self.attempts = 0

    async def request(self, customer_id: int) -> None:
        """Read, call, write; the connection is held all the while."""
        async with self._sessions.begin() as session:
            customer = await session.get_one(Customer, customer_id)
            customer.score = await self._service.score(customer.email)

    async def transfer(self, source_id: int, target_id: int, amount: int) -> None:
        """Lock both accounts, then change them. Without the locks, updates would be lost."""
        self.attempts += 1
        async with self._sessions.begin() as session:
            source = await session.get_one(Account, source_id, with_for_update=True)
            target = await session.get_one(Account, target_id, with_for_update=True)
            source.balance -= amount
            target.balance += amount


class SortedByHand(Plain):
    """Both rows locked by one query that sorts them; nobody may forget to, anywhere."""

    async def transfer(self, source_id: int, target_id: int, amount: int) -> None:
        """Lock both accounts by ascending id, then change them."""
        self.attempts += 1
        both = select(Account).where(Account.id.in_((source_id, target_id))).order_by(Account.id)
        async with self._sessions.begin() as session:
            found = await session.scalars(both.with_for_update())
            accounts = {account.id: account for account in found}
            accounts[source_id].balance -= amount
            accounts[target_id].balance += amount

"""The same work in units."""

from __future__ import annotations

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
        self.attempts = 0

    async def request(self, customer_id: int) -> None:
        """Read, call with the unit released, write: the row is compared before it is changed."""
        async with self._uow(acquire_timeout=self._acquire_timeout) as tx:
            customer = await tx.get_one(Customer, customer_id)
            customer.score = await tx.outside(self._service.score, customer.email)

    async def transfer(self, source_id: int, target_id: int, amount: int) -> None:
        """Load and lock both accounts, in the one order that all units keep; then change them."""
        self.attempts += 1
        async with self._uow(acquire_timeout=self._acquire_timeout) as tx:
            source, target = await tx.lock_many(Account, [source_id, target_id])
            source.balance -= amount
            target.balance += amount


class SecondRowLate(Units):
    """Each row locked when it is asked for, in whatever order that is."""

    async def transfer(self, source_id: int, target_id: int, amount: int) -> None:
        """Where the second row comes late and is taken, the unit starts again by itself."""
        job = source_id, target_id, amount
        await self._uow.run(self._move, *job, acquire_timeout=self._acquire_timeout)

    async def _move(
        self, tx: AsyncTransaction, source_id: int, target_id: int, amount: int
    ) -> None:
        self.attempts += 1
        source = await tx.lock(Account, source_id)
        target = await tx.lock(Account, target_id)
        source.balance -= amount
        target.balance += amount

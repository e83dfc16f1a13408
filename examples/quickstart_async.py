"""Units in asyncio: read, write, roll back. Run: python examples/quickstart_async.py

Needs: pip install 'sqlalchemy-unitofwork[aiosqlite]'
"""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unitofwork import CURRENT, AsyncTransaction, AsyncUnitOfWork


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "quickstart_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    balance: Mapped[int]


async def main(url: str) -> None:
    uow = AsyncUnitOfWork.from_url(url)

    # A decorated function runs in the unit of its caller, or else in one of its own.
    @uow.transactional
    async def deposit(owner: str, amount: int, *, tx: AsyncTransaction = CURRENT) -> None:
        account = (await tx.scalars(select(Account).where(Account.owner == owner))).one()
        account.balance += amount
        tx.on_commit(lambda: print(f"mail to {owner}: {amount} arrived"))

    async with uow.lifespan():
        async with uow() as tx:
            # tx is an AsyncSession: everything that takes a session takes it.
            await (await tx.connection()).run_sync(Base.metadata.create_all)
            tx.add_all([Account(owner="ann", balance=10), Account(owner="bob", balance=0)])

        async with uow():  # both deposits, or none
            await deposit("ann", -7)
            await deposit("bob", 7)

        try:
            async with uow():
                await deposit("ann", 1000)
                raise ValueError("changed my mind")
        except ValueError as error:
            print(f"rolled back: {error}")

        async with uow(read_only=True) as tx:
            for account in await tx.scalars(select(Account).order_by(Account.id)):
                print(account.owner, account.balance)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite+aiosqlite://"))

"""A web handler, without a framework: no connection is held while another service is asked.

Twenty requests at once share one connection. Run: python examples/web_handler.py
Needs: pip install 'sqlalchemy-unitofwork[aiosqlite]'
"""

from __future__ import annotations

import asyncio
import time

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unitofwork import CURRENT, AsyncTransaction, AsyncUnitOfWork, transactional


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    score: Mapped[int | None]


# An in-memory database is one connection: whoever holds it stops everybody else.
uow = AsyncUnitOfWork.from_url("sqlite+aiosqlite://")


@transactional
async def email_of(customer_id: int, *, tx: AsyncTransaction = CURRENT) -> str:
    return (await tx.get_one(Customer, customer_id)).email


@transactional
async def save_score(customer_id: int, score: int, *, tx: AsyncTransaction = CURRENT) -> None:
    customer = await tx.get_one(Customer, customer_id)
    customer.score = score


async def ask_service(email: str) -> int:
    """Stands for a slow HTTP call."""
    await asyncio.sleep(0.2)
    return len(email)


async def handler(customer_id: int) -> dict[str, int]:
    """What the framework calls. It opens no unit of its own: each step is one."""
    email = await email_of(customer_id)
    score = await ask_service(email)
    await save_score(customer_id, score)
    return {"customer": customer_id, "score": score}


async def main() -> None:
    async with uow.lifespan():  # where the framework has its startup and shutdown
        async with uow() as tx:
            await (await tx.connection()).run_sync(Base.metadata.create_all)
            tx.add_all(Customer(id=n, email=f"{n}@example.org") for n in range(1, 21))
        began = time.perf_counter()
        answers = await asyncio.gather(*(handler(n) for n in range(1, 21)))
        print(f"{len(answers)} requests in {time.perf_counter() - began:.1f} s, 1 connection")


if __name__ == "__main__":
    asyncio.run(main())

"""Transfers between two accounts, as units and in the ways that people write by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import exc, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from unitofwork import AsyncUnitOfWork, RetriesExceededError, RetryPolicy

from .model import Account

#: Moves 1 from the first account to the second.
Transfer = Callable[[int, int], Awaitable[None]]
LOCK_MANY, LATE = "tx.lock_many", "second row late"
NAIVE, SORTED = "naive, retried", "sorted by hand"
SERIALIZABLE, RAW = "SERIALIZABLE, retried", "asyncpg, sorted"
DEADLOCK, SERIALIZATION = "40P01", "40001"
RAW_LOCK = "SELECT id, balance FROM bench_account WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"
RAW_WRITE = "UPDATE bench_account SET balance = $2 WHERE id = $1"


@dataclass(slots=True)
class Tally:
    """What it took, beside the commits."""

    restarts: int = 0
    deadlocks: int = 0
    #: Transfers that were given up after the last attempt of the policy.
    given_up: int = 0


class Way:
    """One way to write it, and its tally."""

    def __init__(
        self, write: Callable[[Tally], Transfer], deadlocks: Callable[[], int] | None = None
    ) -> None:
        self._tally = Tally()
        #: Where they are counted already.
        self._deadlocks = deadlocks
        self.transfer = write(self._tally)

    def tally(self) -> Tally:
        """The tally so far."""
        if self._deadlocks is not None:
            self._tally.deadlocks = self._deadlocks()
        return replace(self._tally)


def in_units(uow: AsyncUnitOfWork) -> dict[str, Way]:
    """Both locked at once; and one after the other, the second one late as often as not.

    The counts of `uow` must be those of one way only.
    """

    async def both(tx: Any, source: int, target: int) -> tuple[Account, Account]:
        first, second = await tx.lock_many(Account, [source, target])
        return first, second

    async def late(tx: Any, source: int, target: int) -> tuple[Account, Account]:
        return await tx.lock(Account, source), await tx.lock(Account, target)

    def written(lock: Callable[..., Awaitable[tuple[Account, Account]]]) -> Way:
        return Way(lambda tally: _unit(uow, lock, tally), lambda: uow.stats().deadlocks)

    return {LOCK_MANY: written(both), LATE: written(late)}


def _unit(uow: AsyncUnitOfWork, lock: Callable[..., Any], tally: Tally) -> Transfer:
    async def transfer(source: int, target: int) -> None:
        try:
            async for attempt in uow.attempts():
                async with attempt as tx:
                    tally.restarts += tx.attempt > 1
                    giver, taker = await lock(tx, source, target)
                    giver.balance -= 1
                    taker.balance += 1
        except RetriesExceededError:
            tally.given_up += 1
            raise

    return transfer


def by_hand(engine: AsyncEngine) -> dict[str, Way]:
    """With SQLAlchemy alone. All locks are those of an UPDATE, as units take them."""
    begin = async_sessionmaker(engine, expire_on_commit=False).begin
    serial = engine.execution_options(isolation_level=SERIALIZABLE.split(",")[0])
    begin_serial = async_sessionmaker(serial, expire_on_commit=False).begin

    async def naive(source: int, target: int) -> None:
        async with begin() as session:
            lock = {"key_share": True}
            giver = await session.get_one(Account, source, with_for_update=lock)
            taker = await session.get_one(Account, target, with_for_update=lock)
            giver.balance -= 1
            taker.balance += 1

    async def in_order(source: int, target: int) -> None:
        async with begin() as session:
            both = select(Account).where(Account.id.in_((source, target))).order_by(Account.id)
            found = await session.scalars(both.with_for_update(key_share=True))
            rows = {account.id: account for account in found}
            rows[source].balance -= 1
            rows[target].balance += 1

    async def serializable(source: int, target: int) -> None:
        async with begin_serial() as session:
            giver = await session.get_one(Account, source)
            taker = await session.get_one(Account, target)
            giver.balance -= 1
            taker.balance += 1

    return {
        NAIVE: Way(lambda tally: _retried(naive, tally)),
        SORTED: Way(lambda tally: _retried(in_order, tally)),
        SERIALIZABLE: Way(lambda tally: _retried(serializable, tally)),
    }


def raw(pool: Any) -> dict[str, Way]:
    """With an `asyncpg.Pool`."""

    async def transfer(source: int, target: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            rows = dict(await connection.fetch(RAW_LOCK, [source, target]))
            changed = [(source, rows[source] - 1), (target, rows[target] + 1)]
            await connection.executemany(RAW_WRITE, changed)

    return {RAW: Way(lambda _: transfer)}


def _retried(transfer: Transfer, tally: Tally) -> Transfer:
    """As often as it takes, after the waits that units have by default."""
    policy = RetryPolicy()

    async def retried(source: int, target: int) -> None:
        longest = policy.wait_initial
        while True:
            try:
                return await transfer(source, target)
            except exc.DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None)
                if state not in (DEADLOCK, SERIALIZATION):
                    raise
                tally.deadlocks += state == DEADLOCK
                tally.restarts += 1
            await asyncio.sleep(random.uniform(0, longest))
            longest = min(policy.wait_max, 2 * longest)

    return retried

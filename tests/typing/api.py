"""How a type checker sees the public API; `test_typing.py` has mypy read it, nobody runs it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, assert_type

from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from unitofwork import (
    CURRENT,
    AsyncTransaction,
    AsyncUnitOfWork,
    Outcome,
    Propagation,
    Transaction,
    UnitOfWork,
    transactional,
)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


USERS = select(User)
NAMES = select(User.name)

uow = AsyncUnitOfWork(create_async_engine("sqlite+aiosqlite://"))
sync_uow = UnitOfWork(create_engine("sqlite://"))


def takes_a_session(session: Session) -> None: ...
def takes_an_async_session(session: AsyncSession) -> None: ...


# --- blocks


async def async_block() -> None:
    async with uow() as tx:
        assert_type(tx, AsyncTransaction)
        takes_an_async_session(tx)
        assert_type(await tx.get(User, 1), User | None)
        assert_type(await tx.scalar(USERS), User | None)
        assert_type(await tx.scalar(NAMES), str | None)
        assert_type((await tx.scalars(USERS)).all(), Sequence[User])
        assert_type(tx.outcome, Outcome)
        assert_type(tx.name, str)
        assert_type(tx.attempt, int)
        async with tx.savepoint():
            await tx.flush()
        tx.set_rollback_only()
    async with uow(propagation="nested", isolation="SERIALIZABLE", read_only=True, timeout=2.5):
        pass
    async with uow(propagation=Propagation.REQUIRES_NEW, deferrable=None, name="label"):
        pass
    async with uow.lifespan() as inside:
        assert_type(inside, AsyncUnitOfWork)
    assert_type(AsyncUnitOfWork.from_url("sqlite+aiosqlite://", pool_size=3), AsyncUnitOfWork)


def sync_block() -> None:
    with sync_uow() as tx:
        assert_type(tx, Transaction)
        takes_a_session(tx)
        assert_type(tx.get(User, 1), User | None)
        assert_type(tx.scalar(NAMES), str | None)
        assert_type(tx.scalars(USERS).all(), Sequence[User])
        assert_type(tx.outcome, Outcome)
        with tx.savepoint():
            tx.flush()
    with sync_uow(propagation="never", lock_timeout=1, statement_timeout=1):
        pass
    with sync_uow.lifespan() as inside:
        assert_type(inside, UnitOfWork)
    assert_type(UnitOfWork.from_url("sqlite://"), UnitOfWork)


# --- a decorated function keeps its signature, in each spelling


@transactional
async def bare(user: int, *, tx: AsyncTransaction = CURRENT) -> User | None:
    return await tx.get(User, user)


@transactional(timeout=3)
async def with_options(user: int, *, tx: AsyncTransaction = CURRENT) -> User | None:
    return await tx.get(User, user)


@transactional(uow)
async def named(user: int, *, tx: AsyncTransaction = CURRENT) -> User | None:
    return await tx.get(User, user)


@transactional(uow, isolation="SERIALIZABLE")
async def named_with_options(user: int, *, tx: AsyncTransaction = CURRENT) -> User | None:
    return await tx.get(User, user)


@uow.transactional
async def of_uow(user: int, *, tx: AsyncTransaction = CURRENT) -> User | None:
    return await tx.get(User, user)


@uow.transactional(read_only=True)
async def of_uow_with_options(user: int, *, tx: AsyncTransaction = CURRENT) -> User | None:
    return await tx.get(User, user)


@transactional
def sync_bare(user: int, *, tx: Transaction = CURRENT) -> User | None:
    return tx.get(User, user)


@transactional(sync_uow)
def sync_named(user: int, *, tx: Transaction = CURRENT) -> User | None:
    return tx.get(User, user)


@sync_uow.transactional
def sync_of_uow(user: int, *, tx: Transaction = CURRENT) -> User | None:
    return tx.get(User, user)


@sync_uow.transactional(timeout=1)
def sync_of_uow_with_options(user: int, *, tx: Transaction = CURRENT) -> User | None:
    return tx.get(User, user)


class Service:
    @uow.transactional
    async def method(self, user: int, *, tx: AsyncTransaction = CURRENT) -> str:
        return str(user)

    @staticmethod
    @transactional(uow)
    async def static(user: int, *, tx: AsyncTransaction = CURRENT) -> str:
        return str(user)


async def calls() -> None:
    assert_type(await bare(1), User | None)
    assert_type(await with_options(1), User | None)
    assert_type(await named(user=1), User | None)
    assert_type(await named_with_options(1), User | None)
    assert_type(await of_uow(1), User | None)
    assert_type(await of_uow_with_options(1), User | None)
    assert_type(sync_bare(1), User | None)
    assert_type(sync_named(1), User | None)
    assert_type(sync_of_uow(1), User | None)
    assert_type(sync_of_uow_with_options(1), User | None)
    assert_type(await Service().method(1), str)
    assert_type(await Service.static(1), str)


async def calls_within(tx: AsyncTransaction) -> None:
    await bare(1, tx=tx)
    await of_uow(1, tx=tx)


async def wrong_calls() -> None:
    # `warn_unused_ignores` makes each of these fail when the mistake is no longer seen.
    await bare("1")  # type: ignore[arg-type]
    await bare()  # type: ignore[call-arg]
    await of_uow("1")  # type: ignore[arg-type]
    await of_uow_with_options()  # type: ignore[call-arg]
    sync_of_uow("1")  # type: ignore[arg-type]
    await Service().method("1")  # type: ignore[arg-type]
    uow(isolation="READ UNCOMMITTED")  # type: ignore[arg-type]
    uow(propagation="sometimes")  # type: ignore[arg-type]
    uow(isolaton="SERIALIZABLE")  # type: ignore[call-arg]
    uow.transactional(timeout="5")  # type: ignore[call-overload]
    transactional(uow, read_only="yes")  # type: ignore[call-overload]
    AsyncUnitOfWork(sync_uow.engine)  # type: ignore[arg-type]
    UnitOfWork(uow.engine)  # type: ignore[arg-type]


# --- callbacks of either colour


async def send() -> None: ...


def count(by: int = 1) -> int:
    return by


async def callbacks() -> None:
    async with uow() as tx:
        tx.on_commit(send)
        tx.on_commit(count)
        tx.on_rollback(lambda: count(2))
        tx.on_commit(send())  # type: ignore[arg-type]


# --- around external awaits, and retries


async def fetch(user: str, retries: int = 0) -> bytes:
    return user.encode() * retries


async def rename(tx: AsyncTransaction, user: int) -> str:
    return str(user)


def sync_rename(tx: Transaction, user: int) -> str:
    return str(user)


async def outside_and_again() -> None:
    async with uow() as tx:
        assert_type(await tx.outside(fetch, "me", retries=1), bytes)
        async with tx.released(commit=True, recheck="refresh"):
            pass
        await tx.outside(fetch, 1)  # type: ignore[arg-type]
        tx.released(recheck="perhaps")  # type: ignore[arg-type]
    assert_type(await uow.run(rename, 1), str)
    async for attempt in uow.attempts(timeout=5):
        async with attempt as again:
            assert_type(again, AsyncTransaction)


def sync_again() -> None:
    assert_type(sync_uow.run(sync_rename, 1, isolation="SERIALIZABLE"), str)
    for attempt in sync_uow.attempts():
        with attempt as again:
            assert_type(again, Transaction)


# --- the forms that hand decorated functions around

handler: Callable[..., Coroutine[Any, Any, User | None]] = of_uow

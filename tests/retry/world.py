"""A bank on a server that fails on demand, with errors that the server itself makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.contract.face import both, result
from tests.pool.pool_face import PoolFace
from tests.support.probe import ServerProbe

from unitofwork import RetryPolicy

__all__ = ["QUICK", "Posting", "Purse", "RetryFace", "both", "each", "fail", "result"]

#: Enough attempts for what is planted, and no waits to speak of.
QUICK = RetryPolicy(attempts=4, wait_initial=0.001, wait_max=0.005)


class Base(DeclarativeBase):
    pass


class Purse(Base):
    __tablename__ = "retry_purse"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


class Posting(Base):
    __tablename__ = "retry_posting"

    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


# A sequence counts across rollbacks: so a failure can be planted for the first calls only.
PLANTS = """
CREATE SEQUENCE IF NOT EXISTS retry_calls;
CREATE TABLE IF NOT EXISTS retry_plan (times int, state text);
CREATE OR REPLACE FUNCTION retry_fail(times int, state text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('retry_calls') <= times THEN
        RAISE EXCEPTION 'planted' USING ERRCODE = state;
    END IF;
    RETURN 1;
END $$;
CREATE OR REPLACE FUNCTION retry_fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM retry_fail(times, state) FROM retry_plan;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS retry_at_commit ON retry_posting;
CREATE CONSTRAINT TRIGGER retry_at_commit AFTER INSERT ON retry_posting
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION retry_fail_at_commit();
"""
RESET = """
TRUNCATE retry_purse, retry_posting, retry_plan RESTART IDENTITY;
ALTER SEQUENCE retry_calls RESTART;
INSERT INTO retry_purse VALUES (1, 100), (2, 100)
"""


def create_tables(url: str) -> None:
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(PLANTS)
    engine.dispose()


class RetryFace(PoolFace):
    """A driver and its face, and a bank of two purses with 100 in each."""

    probe: ServerProbe

    async def run(self, body: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """`uow.run` of `body(tx, *args)`."""
        options.setdefault("retry", QUICK)
        return await result(self.uow.run(self.function(body), *args, **options))

    def decorated(self, body: Callable[..., Coroutine[Any, Any, Any]], **options: Any) -> Any:
        """`body` as a function with `@transactional`."""
        options.setdefault("retry", QUICK)
        return self.uow.transactional(**options)(self.function(body))

    def plant_at_commit(self, times: int, state: str) -> None:
        """The first COMMITs after an insert into `posting` fail."""
        self.aside(f"INSERT INTO retry_plan VALUES ({times}, '{state}')")

    def balances(self) -> list[int]:
        return [one for (one,) in self.aside("SELECT balance FROM retry_purse ORDER BY id")]

    def postings(self) -> list[int]:
        return [one for (one,) in self.aside("SELECT amount FROM retry_posting ORDER BY amount")]

    def terminate(self, pid: int) -> None:
        """End a server process, and wait until it is gone."""
        self.aside(f"SELECT pg_terminate_backend({pid}, 5000)")


async def each(attempts: Any) -> AsyncIterator[Any]:
    """The attempts of either face: `async for attempt in each(uow.attempts()):`."""
    if hasattr(attempts, "__aiter__"):
        async for attempt in attempts:
            yield attempt
    else:
        for attempt in attempts:
            yield attempt


async def fail(tx: Any, times: int = 1, state: str = "40P01") -> None:
    """A statement that the server refuses with this SQLSTATE, for its first calls in a test."""
    await result(tx.execute(text(f"SELECT retry_fail({times}, '{state}')")))

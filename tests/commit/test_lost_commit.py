"""COMMIT whose exchange with the server is cut, before or after the server acted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tests.contract.model import Base, Item
from tests.support.hygiene import Hygiene
from tests.support.link import Rule
from tests.support.proxy import Proxy

from unitofwork import (
    AsyncTransaction,
    AsyncUnitOfWork,
    CommitUnknownError,
    ConfigurationError,
    Outcome,
    UnitOfWork,
)
from unitofwork.core import attempts
from unitofwork.policies.retrying import RetryBudget
from unitofwork.testing.postgres import EmbeddedPostgres

CUTS = (("cut_before", 0), ("cut_after", 1))
INSERT = text("INSERT INTO lost_commit VALUES (1)")


@pytest.fixture
def rows(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """The table, looked at beside the proxy."""
    engine = create_engine(postgres.url("psycopg"))
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS lost_commit"))
        connection.execute(text("CREATE TABLE lost_commit (id int)"))
    yield engine
    engine.dispose()


def count(rows: Engine) -> int:
    with rows.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM lost_commit")) or 0


@pytest_asyncio.fixture(params=["asyncpg", "psycopg"])
async def engine(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, proxy: Proxy, hygiene: Hygiene
) -> AsyncIterator[AsyncEngine]:
    engine = hygiene.watch(create_async_engine(postgres.url(request.param, port=proxy.port)))
    yield engine
    await hygiene.check_async()
    await engine.dispose()


@pytest.mark.parametrize(("cut", "found"), CUTS)
async def test_without_an_id_it_is_unknown(
    engine: AsyncEngine, proxy: Proxy, rows: Engine, cut: str, found: int
) -> None:
    """CommitUnknownError, UNKNOWN, and no callback: neither could be told truly."""
    uow, called = AsyncUnitOfWork(engine), list[str]()
    with pytest.raises(CommitUnknownError):
        async with uow() as tx:
            tx.on_commit(lambda: called.append("commit"))
            tx.on_rollback(lambda: called.append("rollback"))
            await tx.execute(INSERT)
            proxy.when(b"COMMIT", action=cut)  # type: ignore[arg-type]
    assert tx.outcome is Outcome.UNKNOWN
    assert called == []
    assert count(rows) == found


async def test_a_commit_that_happened_is_reported_as_success(
    engine: AsyncEngine, proxy: Proxy, rows: Engine
) -> None:
    """With confirm_commit the server is asked on another connection: committed, no error."""
    uow, called = AsyncUnitOfWork(engine), list[str]()
    async with uow(confirm_commit=True) as tx:
        tx.on_commit(lambda: called.append("commit"))
        await tx.execute(INSERT)
        rule = proxy.when(b"COMMIT", action="cut_after")
    assert rule.fired == 1
    assert tx.outcome is Outcome.COMMITTED
    assert called == ["commit"]
    assert count(rows) == 1


@pytest.mark.parametrize(("cut", "found"), CUTS)
async def test_the_id_rides_on_a_lock_query(
    engine: AsyncEngine, proxy: Proxy, rows: Engine, cut: str, found: int
) -> None:
    """A unit that has locked a row needs no confirm_commit."""
    Base.metadata.create_all(rows)
    with rows.begin() as connection:
        connection.execute(text("TRUNCATE item, part"))
        connection.execute(text("INSERT INTO item VALUES (1, 'before')"))
    uow, error = AsyncUnitOfWork(engine), False
    try:
        async with uow() as tx:
            item = await tx.lock(Item, 1)
            item.name = "after"
            await tx.flush()
            proxy.when(b"COMMIT", action=cut)  # type: ignore[arg-type]
    except DBAPIError:
        error = True
    assert error == (found == 0)
    assert tx.outcome is (Outcome.COMMITTED if found else Outcome.ROLLED_BACK)
    with rows.connect() as connection:
        assert connection.scalar(text("SELECT name FROM item")) == ("after" if found else "before")


async def test_a_commit_that_did_not_happen_is_rolled_back(
    engine: AsyncEngine, proxy: Proxy, rows: Engine
) -> None:
    """Settled as aborted, the lost connection is the error, and it can be retried."""
    uow = AsyncUnitOfWork(engine)
    with pytest.raises(DBAPIError):
        async with uow(confirm_commit=True) as tx:
            await tx.execute(INSERT)
            proxy.when(b"COMMIT", action="cut_before")
    assert tx.outcome is Outcome.ROLLED_BACK
    assert count(rows) == 0


async def test_the_balance_equals_what_was_reported(
    engine: AsyncEngine,
    proxy: Proxy,
    rows: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """200 units, COMMIT cut before or after in turn: each is done once, and reported as done."""
    # Half of all COMMITs lost is far more than the budget of the process allows retries for.
    monkeypatch.setattr(attempts, "BUDGET", RetryBudget(reserve=1000))
    uow = AsyncUnitOfWork(engine)

    async def insert(tx: AsyncTransaction, cut: str) -> None:
        await tx.execute(INSERT)
        if tx.attempt == 1:
            proxy.when(b"COMMIT", action=cut)  # type: ignore[arg-type]

    for number in range(200):
        await uow.run(insert, CUTS[number % 2][0], confirm_commit=True)
    found, driver = count(rows), engine.dialect.driver
    with capsys.disabled():
        cuts = ", ".join(f"{cut}: {sum(rule.fired for rule in of)}" for cut, of in by_cut(proxy))
        print(f"\n{driver}: 200 units told committed, {found} rows; {cuts}")
    assert found == 200
    assert [sum(rule.fired for rule in of) for _, of in by_cut(proxy)] == [100, 100]


def by_cut(proxy: Proxy) -> list[tuple[str, list[Rule]]]:
    return [(cut, [rule for rule in proxy.rules if rule.action == cut]) for cut, _ in CUTS]


async def test_a_unit_that_wrote_nothing_has_nothing_to_lose(
    engine: AsyncEngine, proxy: Proxy
) -> None:
    """Its COMMIT is lost, but there was nothing in it: success."""
    uow = AsyncUnitOfWork(engine)
    async with uow(confirm_commit=True) as tx:
        await tx.execute(text("SELECT 1"))
        proxy.when(b"COMMIT", action="cut_before")
    assert tx.outcome is Outcome.COMMITTED


@pytest.mark.parametrize(("cut", "found"), CUTS)
def test_in_threads(
    postgres: EmbeddedPostgres, proxy: Proxy, rows: Engine, cut: str, found: int
) -> None:
    """The sync face settles it too: success or the lost connection, and the rows agree."""
    engine = create_engine(postgres.url("psycopg", port=proxy.port))
    uow = UnitOfWork(engine)
    error: Exception | None = None
    try:
        with uow(confirm_commit=True) as tx:
            tx.execute(INSERT)
            proxy.when(b"COMMIT", action=cut)  # type: ignore[arg-type]
    except DBAPIError as lost:
        error = lost
    assert (error is None) == (found == 1)
    assert tx.outcome is (Outcome.COMMITTED if found else Outcome.ROLLED_BACK)
    assert count(rows) == found
    engine.dispose()


def test_sqlite_refuses_what_it_does_not_need(tmp_path: object) -> None:
    """confirm_commit is refused before any I/O where no answer can be lost, or be asked for."""
    uow = UnitOfWork(create_engine(f"sqlite:///{tmp_path}/none.db"))
    with pytest.raises(ConfigurationError, match="confirm_commit"), uow(confirm_commit=True):
        pass

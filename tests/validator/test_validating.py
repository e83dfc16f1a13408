"""`validate()` and `lifespan(validate=...)`: what is refused, logged, waited for, left alone."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio.to_thread
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.contract.face import both, result
from tests.support.pgbouncer import PgBouncer
from tests.support.proxy import Proxy
from tests.validator.rig import Cluster

from unitofwork import AsyncUnitOfWork, ConfigurationError, PoolSizingError, UnitOfWork
from unitofwork.core import validating as core_validating
from unitofwork.faces import validating as faces_validating
from unitofwork.testing.postgres import EmbeddedPostgres
from unitofwork.types import Finding

FACES = ["asyncpg", "psycopg", "psycopg-sync"]
#: Of 27 - 1 in use.
TOO_MANY = {"workers": 3, "replicas": 3, "generations": 1}


class Maker:
    """Makes units of work of one driver and face."""

    def __init__(self, face: str) -> None:
        self.driver, _, sync = face.partition("-")
        self.kind: Any = UnitOfWork if sync else AsyncUnitOfWork
        self.plain: Any = create_engine if sync else create_async_engine
        self.made: list[Any] = []

    def from_url(self, url: str, **options: Any) -> Any:
        return self._kept(self.kind.from_url(url, **options))

    def over(self, url: str, **options: Any) -> Any:
        return self._kept(self.kind(self.plain(url, **options)))

    def _kept(self, uow: Any) -> Any:
        self.made.append(uow)
        return uow


@pytest.fixture(params=FACES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Maker]:
    """A maker, whose engines are disposed at the end."""
    maker = Maker(request.param)
    yield maker
    for uow in maker.made:
        await result(uow.engine.dispose())


@pytest.fixture
def role(cluster18: Cluster) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    with cluster18.account() as name:
        yield name


def codes(findings: list[Finding], *severities: str) -> set[str]:
    return {one.code for one in findings if not severities or one.severity in severities}


def url_of(cluster: Cluster, maker: Maker, role: str) -> str:
    return cluster.server.url(maker.driver, cluster.database, role)


async def test_findings(make: Maker, cluster18: Cluster, role: str) -> None:
    """The sum with the numbers of this server, and the number to set."""
    uow = make.from_url(url_of(cluster18, make, role))
    found = await result(uow.validate(**TOO_MANY))
    first = found[0]
    assert (first.code, first.severity, first.pool_size) == ("fleet-too-large", "error", 2)
    assert "3 workers x 3 replicas x 5 = 45 > 30 - 3 reserved - 1 in use = 26" in first.message
    assert "pool_size=2, max_overflow=0" in first.remedy
    assert "docs/validator.md#fleet-too-large" in str(first)


async def test_errors_refuse_to_start(make: Maker, cluster18: Cluster, role: str) -> None:
    """With all findings, before anything runs, and with no connection left open."""
    uow = make.from_url(url_of(cluster18, make, role))
    with pytest.raises(PoolSizingError, match="3 workers x 3 replicas x 5 = 45") as caught:
        async with both(uow.lifespan(**TOO_MANY)):
            raise AssertionError("must not start")
    error = pickle.loads(pickle.dumps(caught.value))
    assert "fleet-too-large" in codes(error.findings, "error")
    assert uow.engine.pool.checkedin() + uow.engine.pool.checkedout() == 0
    # Nothing has begun, so nothing has ended: it may be used, and started, all the same.
    async with both(uow()) as tx:
        assert (await result(tx.execute(text("SELECT 1")))).scalar_one() == 1


async def test_errors_may_be_logged_instead(
    make: Maker, cluster18: Cluster, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And it starts."""
    uow = make.from_url(url_of(cluster18, make, role))
    with caplog.at_level(logging.INFO, "unitofwork.validator"):
        async with both(uow.lifespan(validate="warn", **TOO_MANY)):
            pass
    levels = {record.message.split()[1].rstrip(":"): record.levelname for record in caplog.records}
    assert levels["fleet-too-large"] == "WARNING"
    assert levels["recommendation"] == "INFO"


async def test_warnings_do_not_stop_it(
    make: Maker, cluster18: Cluster, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged."""
    uow = make.over(url_of(cluster18, make, role))
    async with both(uow.lifespan(workers=1, replicas=1, generations=1)) as started:
        assert started is uow
    assert "overflow-churn" in caplog.text


async def test_off_asks_nothing(make: Maker) -> None:
    """Not even whether the server is there."""
    uow = make.from_url(f"postgresql+{make.driver}://127.0.0.1:1/x")
    async with both(uow.lifespan(validate="off")) as started:
        assert started is uow


@pytest.mark.parametrize(
    "options", [{"validate": "never"}, {"wait": -1}, {"wait": "long"}, {"workers": 0}, {"x": 1}]
)
async def test_options_that_can_not_be(make: Maker, options: dict[str, Any]) -> None:
    """Refused before any I/O."""
    uow = make.from_url(f"postgresql+{make.driver}://127.0.0.1:1/x")
    with pytest.raises(ConfigurationError) as caught:
        async with both(uow.lifespan(**options)):
            raise AssertionError("must not start")
    assert not isinstance(caught.value, PoolSizingError)


async def test_a_server_that_is_away(make: Maker) -> None:
    """Is an error that says where it was looked for, without the password."""
    uow = make.from_url(f"postgresql+{make.driver}://app:s3cret@127.0.0.1:1/x")
    found = await result(uow.validate())
    assert codes(found, "error") == {"unreachable"}
    assert "127.0.0.1:1 can't be asked" in found[0].message
    with pytest.raises(PoolSizingError, match="can't be asked") as caught:
        async with both(uow.lifespan()):
            raise AssertionError("must not start")
    assert "s3cret" not in f"{caught.value} {caught.value!r} {found}"


async def test_it_can_be_waited_for(make: Maker, postgres: EmbeddedPostgres, proxy: Proxy) -> None:
    """The lifespan begins when the server is there, within the time that it was given."""
    uow = make.from_url(postgres.url(make.driver, port=proxy.port))
    proxy.refuse()
    later = threading.Timer(0.7, proxy.refuse, [False])
    later.start()
    since = time.monotonic()
    async with both(uow.lifespan(wait=30, workers=1, replicas=1)):
        assert 0.6 < time.monotonic() - since < 20
    later.join()


async def test_the_wait_has_an_end(make: Maker) -> None:
    """Then it is the same error."""
    uow = make.from_url(f"postgresql+{make.driver}://127.0.0.1:1/x")
    since = time.monotonic()
    with pytest.raises(PoolSizingError, match="can't be asked"):
        async with both(uow.lifespan(wait=1.0)):
            raise AssertionError("must not start")
    assert time.monotonic() - since < 5


async def test_who_is_refused_does_not_wait(postgres: EmbeddedPostgres) -> None:
    """Waiting does not help: the database is not there."""
    uow = AsyncUnitOfWork.from_url(postgres.url("asyncpg", "nowhere"))
    since = time.monotonic()
    with pytest.raises(PoolSizingError) as caught:
        async with uow.lifespan(wait=60):
            raise AssertionError("must not start")
    assert codes(caught.value.findings, "error") == {"access-denied"}
    assert time.monotonic() - since < 30


async def test_a_wrong_password_is_not_shown(make: Maker, postgres: EmbeddedPostgres) -> None:
    """Neither it nor the right one, whatever the driver says."""
    with PgBouncer(postgres.port, users={"app": "r1ght"}) as pooler:
        url = make_url(pooler.url(make.driver, user="app")).set(password="wr0ng")
        found = await result(make.from_url(url).validate())
    # libpq does not say why it was not let in.
    known = make.driver == "asyncpg"
    assert codes(found, "error") == {"access-denied" if known else "unreachable"}
    assert "wr0ng" not in str(found)
    assert "r1ght" not in str(found)


def test_no_driver_gets_a_password_shown() -> None:
    """Not even one that repeats the URL, however it is written there."""
    engine = create_engine("postgresql+psycopg://app:s3%20cr%2Ft@db/shop")
    for written in ("s3 cr/t", "s3%20cr%2Ft", "s3%20cr/t", "s3+cr%2Ft"):
        shown = core_validating._shown(engine, OSError(f"no way to app:{written}@db"))
        assert shown == "OSError: no way to app:***@db"


async def test_a_network_that_swallows_answers(
    make: Maker, postgres: EmbeddedPostgres, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up, after 5 s unless a test can't wait; an event loop runs on meanwhile."""
    for module in (faces_validating, core_validating):
        assert module.PATIENCE == 5.0
        monkeypatch.setattr(module, "PATIENCE", 1.0)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.05)
            ticks += 1

    ticking = asyncio.create_task(tick())
    proxy.blackhole()
    uow = make.over(postgres.url(make.driver, port=proxy.port), poolclass=NullPool)
    since = time.monotonic()
    if make.kind is UnitOfWork:
        found = await anyio.to_thread.run_sync(uow.validate)
    else:
        found = await uow.validate()
    took = time.monotonic() - since
    ticking.cancel()
    proxy.heal()
    assert "unreachable" in codes(found, "error")
    assert 0.9 < took < 10
    assert ticks > took / 0.05 / 4


async def test_it_takes_a_moment(make: Maker, cluster18: Cluster, role: str) -> None:
    """The best of five starts, connecting included, stays within 100 ms."""
    took = []
    for _ in range(5):
        uow = make.from_url(url_of(cluster18, make, role))
        since = time.monotonic()
        await result(uow.validate(workers=1, replicas=1))
        took.append(time.monotonic() - since)
        await result(uow.engine.dispose())
    assert min(took) < 0.1


async def test_other_engines_count(make: Maker, cluster18: Cluster, role: str) -> None:
    """As long as they are in use: one that was disposed has no connections."""
    url = url_of(cluster18, make, role)
    uow, other = make.from_url(url, pool_size=10), make.from_url(url, pool_size=17)
    alone = {"workers": 1, "replicas": 1, "generations": 1}
    found = await result(uow.validate(**alone))
    assert codes(found, "error", "warning") >= {"fleet-too-large", "several-engines"}
    assert "1 worker x 1 replica x (10 + 17) = 27 > " in found[0].message
    await result(other.engine.dispose())
    assert not codes(await result(uow.validate(**alone)), "error")
    async with both(other()) as tx:
        await result(tx.execute(text("SELECT 1")))
    assert "fleet-too-large" in codes(await result(uow.validate(**alone)), "error")


async def test_units_that_run_say_how_many_connections_they_hold(
    make: Maker, cluster18: Cluster, role: str
) -> None:
    """Unless it is passed."""
    uow = make.from_url(url_of(cluster18, make, role))
    async with both(uow(connections=3)) as tx:
        await result(tx.execute(text("SELECT 1")))
        assert "nesting" in codes(await result(uow.validate(concurrency=3)))
        assert "nesting" not in codes(await result(uow.validate(concurrency=3, connections=1)))


def test_connections_of_another_loop_are_refused(cluster18: Cluster, role: str) -> None:
    """As units refuse them, with the same words."""
    uow = AsyncUnitOfWork.from_url(cluster18.server.url("asyncpg", cluster18.database, role))

    async def use() -> None:
        async with uow() as tx:
            await tx.execute(text("SELECT 1"))

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(use())
        with pytest.raises(ConfigurationError, match="event loop"):
            second.run(uow.validate())
        first.run(uow.engine.dispose())


async def test_the_threads_of_anyio(cluster18: Cluster, role: str) -> None:
    """They share a sync engine's pool: seen in the event loop, and in one of its threads."""
    uow = UnitOfWork.from_url(cluster18.server.url("psycopg", cluster18.database, role))
    inside = await anyio.to_thread.run_sync(uow.validate)
    assert {"pool-below-threads"} <= codes(inside)
    assert "sync-in-loop" not in codes(inside)
    assert {"pool-below-threads", "sync-in-loop"} <= codes(uow.validate())
    # A thread of nobody's.
    found: list[list[Finding]] = []
    thread = threading.Thread(target=lambda: found.append(uow.validate()))
    thread.start()
    thread.join()
    assert not {"pool-below-threads", "sync-in-loop"} & codes(found[0])
    uow.engine.dispose()

"""The proxy breaks real connections of real drivers in the way that it was told to."""

from __future__ import annotations

import asyncio
import select
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import asyncpg
import psycopg
import pytest
from tests.support.link import Action
from tests.support.probe import ServerProbe
from tests.support.proxy import Proxy

from unitofwork.testing.postgres import EmbeddedPostgres

NAME = "through the proxy"


@pytest.fixture
def url(postgres: EmbeddedPostgres, proxy: Proxy, probe: ServerProbe) -> Iterator[str]:
    """Leads through the proxy to a server with an empty table t; nothing is left afterwards."""
    probe.execute("create table t (a text)")
    yield postgres.url(None, port=proxy.port) + "?application_name=" + NAME.replace(" ", "%20")
    proxy.heal()
    proxy.cut()
    probe.terminate_all(NAME)
    probe.execute("drop table t")


def rows(probe: ServerProbe) -> list[str]:
    return [row[0] for row in probe.execute("select a from t order by a")]


def insert_with_psycopg(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("insert into t values ('new')")
        connection.commit()


async def insert_with_psycopg_async(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("insert into t values (%s)", ("new",))
        await connection.commit()


async def insert_with_asyncpg(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("insert into t values ($1)", "new")
    finally:
        connection.terminate()


async def insert_in_thread(url: str) -> None:
    await asyncio.to_thread(insert_with_psycopg, url)


Insert = Callable[[str], Awaitable[None]]
each_driver = pytest.mark.parametrize(
    "insert", [insert_in_thread, insert_with_psycopg_async, insert_with_asyncpg]
)


@each_driver
async def test_left_alone_it_is_invisible(
    insert: Insert, url: str, proxy: Proxy, probe: ServerProbe
) -> None:
    """Every driver works through it, and is counted."""
    await insert(url)
    assert rows(probe) == ["new"]
    assert proxy.connections == 1
    assert proxy.messages["to_server"] > 3
    assert proxy.bytes["to_client"] > 100


def test_large_values_arrive_whole(url: str) -> None:
    """Messages larger than any buffer pass, in both directions."""
    text = "0123456789" * 500_000
    with psycopg.connect(url) as connection:
        assert connection.execute("select %s || 'x'", (text,)).fetchone() == (text + "x",)


def test_round_trips_are_counted(url: str, proxy: Proxy) -> None:
    """Each wait for the server counts once, however many messages it takes."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        proxy.reset_counts()
        connection.execute("select generate_series(1, 1000)")
        assert proxy.round_trips == 1
        assert proxy.messages["to_client"] > 1000
        connection.execute("select %s", (1,))
        assert proxy.round_trips == 2
        with connection.pipeline():
            for _ in range(10):
                connection.execute("select %s", (1,))
        assert proxy.round_trips == 3
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("direction", "directions"), [("to_server", 1), ("to_client", 1), ("both", 2)]
)
def test_delay(direction: str, directions: int, url: str, proxy: Proxy) -> None:
    """A round trip takes longer by the delay, once per direction; a large answer no longer."""
    with psycopg.connect(url, autocommit=True) as connection:
        proxy.delay(0.5, direction)  # type: ignore[arg-type]
        started = time.monotonic()
        connection.execute("select 1")
        assert time.monotonic() - started >= 0.5 * directions
        started = time.monotonic()
        # Hundreds of pieces: a delay for each would add up to minutes.
        connection.execute("select repeat('x', 1000) from generate_series(1, 20000)")
        assert time.monotonic() - started < 20
        proxy.delay(0)


def test_cut_breaks_both_sides(url: str, proxy: Proxy, probe: ServerProbe) -> None:
    """The client's next statement fails, the server's session ends, new connections work."""
    with psycopg.connect(url) as connection:
        connection.execute("insert into t values ('lost')")
        assert len(probe.in_transaction(NAME)) == 1
        proxy.cut()
        assert proxy.live == 0
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    probe.wait_until_quiet(10, NAME)
    assert probe.sessions(NAME) == []
    insert_with_psycopg(url)
    assert rows(probe) == ["new"]


def test_refuse_only_concerns_new_connections(url: str, proxy: Proxy) -> None:
    """New connections are refused until told otherwise; the live ones go on."""
    with psycopg.connect(url) as connection:
        proxy.refuse()
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(url)
        assert connection.execute("select 1").fetchone() == (1,)
        proxy.refuse(False)
        with psycopg.connect(url):
            pass


async def test_blackhole_answers_nothing(url: str, proxy: Proxy, probe: ServerProbe) -> None:
    """Old and new connections hang, without an error; the server doesn't notice."""
    connection = await asyncpg.connect(url)
    await connection.execute("begin")
    proxy.blackhole()
    hanging = asyncio.ensure_future(connection.execute("insert into t values ('lost')"))
    with pytest.raises(TimeoutError):
        await asyncpg.connect(url, timeout=0.3)
    assert not hanging.done()
    connection.terminate()
    with pytest.raises(asyncpg.PostgresConnectionError):
        await hanging
    await asyncio.sleep(0.1)
    assert [session.state for session in probe.sessions(NAME)] == ["idle in transaction"]

    proxy.heal()
    await probe.wait_until_quiet_async(10, NAME)
    await insert_with_asyncpg(url)
    assert rows(probe) == ["new"]


@pytest.mark.parametrize(
    ("direction", "acted"), [("to_client", ["new"]), ("to_server", []), ("both", [])]
)
async def test_blackhole_in_one_direction(
    direction: str, acted: list[str], url: str, proxy: Proxy, probe: ServerProbe
) -> None:
    """Either way the client hears nothing; the server acts unless its own direction is cut."""
    connection = await asyncpg.connect(url)
    proxy.blackhole(direction)  # type: ignore[arg-type]
    hanging = asyncio.ensure_future(connection.execute("insert into t values ('new')"))
    deadline = time.monotonic() + (10 if acted else 0.3)
    while rows(probe) != ["new"] and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert rows(probe) == acted
    assert not hanging.done()

    proxy.heal()
    await asyncio.sleep(0.1)
    assert not hanging.done(), "what was lost stays lost"
    proxy.cut()
    with pytest.raises(asyncpg.PostgresConnectionError):
        await hanging


async def test_what_was_swallowed_stays_lost(url: str, proxy: Proxy, probe: ServerProbe) -> None:
    """A connection that has lost a message is dead after `heal` as well; one that hasn't works."""
    heard: list[tuple[str, object]] = []
    lost, spared = await asyncpg.connect(url), await asyncpg.connect(url)
    await lost.add_listener("lost", lambda *args: heard.append(("lost", args[3])))
    await spared.add_listener("spared", lambda *args: heard.append(("spared", args[3])))
    proxy.blackhole()
    probe.execute("notify lost, '1'")
    await asyncio.sleep(0.1)
    proxy.heal()
    probe.execute("notify lost, '2'")
    probe.execute("notify spared, '3'")
    await until(lambda: bool(heard))
    await asyncio.sleep(0.1)
    assert heard == [("spared", "3")]
    lost.terminate()
    await spared.close()


async def bounded(work: Awaitable[None], proxy: Proxy) -> None:
    """Where the cut doesn't happen, end the wait, also that of a driver in a thread."""
    late: list[None] = []
    timer = threading.Timer(20, lambda: (late.append(None), proxy.cut()))
    timer.start()
    try:
        await work
    finally:
        timer.cancel()
        timer.join()
        assert not late, "the proxy did not cut"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


LOST = (psycopg.OperationalError, asyncpg.PostgresConnectionError, ConnectionError)


@each_driver
async def test_commit_cut_before(
    insert: Insert, url: str, proxy: Proxy, probe: ServerProbe
) -> None:
    """COMMIT doesn't reach the server: the client sees a lost connection, the row isn't there."""
    rule = proxy.when(b"COMMIT", action="cut_before")
    with pytest.raises(LOST):
        await bounded(insert(url), proxy)
    assert rule.fired == 1
    await probe.wait_until_quiet_async(10, NAME)
    assert rows(probe) == []
    await insert(url)
    assert rows(probe) == ["new"]


@each_driver
async def test_commit_cut_after(insert: Insert, url: str, proxy: Proxy, probe: ServerProbe) -> None:
    """The answer to COMMIT is lost: the client sees the same, but the row is there already."""
    rule = proxy.when(b"COMMIT", action="cut_after")
    with pytest.raises(LOST):
        await bounded(insert(url), proxy)
    assert rule.fired == 1
    assert rows(probe) == ["new"]


async def test_cut_after_in_the_extended_protocol(
    url: str, proxy: Proxy, probe: ServerProbe
) -> None:
    """Where a statement takes several messages, the server gets all of them before the cut."""
    proxy.when(b"insert into t", action="cut_after")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as psycopg_connection:
        with pytest.raises(psycopg.OperationalError):
            await psycopg_connection.execute("insert into t values (%s)", ("by psycopg",))
    proxy.when(b"by asyncpg", action="cut_after")
    asyncpg_connection = await asyncpg.connect(url)
    with pytest.raises(asyncpg.PostgresConnectionError):
        await asyncpg_connection.execute("insert into t values ($1)", "by asyncpg")
    assert rows(probe) == ["by asyncpg", "by psycopg"]


def test_cut_after_lets_earlier_answers_pass(url: str, proxy: Proxy, probe: ServerProbe) -> None:
    """In a pipeline, what was asked before the message is still answered."""
    proxy.when(b"second", action="cut_after")
    with psycopg.connect(url, autocommit=True) as connection:
        # The answer to the first must not overtake the second on its way to the server.
        proxy.delay(0.3, "to_client")
        raw = connection.pgconn
        raw.enter_pipeline_mode()
        for value in (b"first", b"second"):
            raw.send_query_params(b"insert into t values ('" + value + b"') returning a", [])
            raw.pipeline_sync()
        raw.flush()
        # get_result would wait with the GIL held, and the proxy with it.
        while raw.is_busy():
            assert select.select([raw.socket], [], [], 20)[0]
            raw.consume_input()
        result = raw.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"first"
        with pytest.raises(psycopg.OperationalError):
            while select.select([raw.socket], [], [], 20)[0]:
                raw.consume_input()
    assert rows(probe) == ["first", "second"]


def test_cut_at_an_answer(url: str, proxy: Proxy) -> None:
    """A rule for the other direction lets the message through, or not, then ends it."""
    with psycopg.connect(url, autocommit=True) as connection:
        proxy.when(b"a value", "to_client", "cut_before")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 'a value'")
    with psycopg.connect(url, autocommit=True) as connection:
        proxy.when(lambda message: message[:1] == b"Z", "to_client", "cut_after")
        assert connection.execute("select 'a value'").fetchone() == ("a value",)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


@pytest.mark.parametrize(("action", "alive"), [("drop", True), ("blackhole", False)])
async def test_drop_and_blackhole_at_a_message(
    action: Action, alive: bool, url: str, proxy: Proxy, probe: ServerProbe
) -> None:
    """`drop` loses one message; `blackhole` that one and all that follow on its connection."""
    heard: list[object] = []
    connection = await asyncpg.connect(url)
    await connection.add_listener("ping", lambda *args: heard.append(args[3]))
    rule = proxy.when(b"'lost'", action=action)
    lost = asyncio.ensure_future(connection.execute("insert into t values ('lost')"))
    assert await asyncio.to_thread(rule.happened.wait, 10)

    probe.execute("notify ping, 'pong'")
    if alive:
        await until(lambda: bool(heard))
    await asyncio.sleep(0.1)
    assert heard == (["pong"] if alive else [])
    await insert_with_asyncpg(url)
    assert rows(probe) == ["new"], "other connections are not concerned"
    assert not lost.done()
    proxy.cut()
    with pytest.raises(asyncpg.PostgresConnectionError):
        await lost


def test_rule_fires_as_often_as_asked(url: str, proxy: Proxy, probe: ServerProbe) -> None:
    """After `times` messages the rule is spent."""
    rule = proxy.when(b"COMMIT", times=2)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            insert_with_psycopg(url)
    insert_with_psycopg(url)
    assert rule.fired == 2
    assert rows(probe) == ["new"]


def test_cancel_requests_pass(url: str, proxy: Proxy) -> None:
    """A request to cancel comes on a connection of its own, and arrives."""
    with psycopg.connect(url, autocommit=True) as connection:
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(30)")
        timer.join()
    assert proxy.cancels == 1
    assert proxy.connections == 2


def test_server_that_is_gone(postgres: EmbeddedPostgres) -> None:
    """Where nothing listens behind it, the client is reset at once."""
    with Proxy("127.0.0.1", 1) as proxy, pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres.url(None, port=proxy.port))


def test_error_in_a_predicate_is_raised(postgres: EmbeddedPostgres) -> None:
    """A test's own mistake isn't taken for a broken connection."""
    with pytest.raises(ExceptionGroup) as caught:
        with Proxy(postgres.host, postgres.port) as proxy:
            proxy.when(lambda message: message.no_such_thing)  # type: ignore[attr-defined]
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(postgres.url(None, port=proxy.port))
    assert caught.group_contains(AttributeError)

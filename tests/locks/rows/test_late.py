"""Late requests never wait: they are refused, and the unit starts again with what it learnt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from typing import Any

import pytest
from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import DBAPIError, SAWarning
from sqlalchemy.orm import make_transient_to_detached
from tests.contract.face import Face, both, result
from tests.pool.pool_face import line

from unitofwork import (
    LateLockError,
    RetriesExceededError,
    RowNotFoundError,
    TransactionStateError,
    UnsavedWorkError,
)
from unitofwork.core.attempts import Story
from unitofwork.core.locks.again import SERIAL_AFTER
from unitofwork.policies.retrying import RetryPolicy
from unitofwork.sql.table_locks import LOCKS_TABLES, lock_tables

from .model import Account, Base, ByUuid, Entry
from .test_rows import accounts, is_locked, wait_for_waiter


def hold(holder: Connection, *ids: int, how: str = "UPDATE") -> None:
    listed = ", ".join(map(str, ids))
    holder.execute(text(f"SELECT 1 FROM lock_account WHERE id IN ({listed}) FOR {how}"))


async def test_a_late_request_is_refused_at_once(face: Face, holder: Connection) -> None:
    """In a plain block the error names the rows, and the line that took the earlier lock."""
    await accounts(face)
    hold(holder, 1)
    with pytest.raises(LateLockError, match=r"account 1(.|\n)*account 2: \w+, locked at") as caught:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 2))
            await result(tx.lock(Account, 1))
    assert caught.value.wanted == ("lock_account 1",)
    assert caught.value.held == ("lock_account 2",)
    assert "test_late.py" in str(caught.value)
    holder.rollback()


async def test_each_lock_has_its_own_line(face: Face, holder: Connection) -> None:
    """Of several that are held, each is told with the line that took it."""
    await accounts(face)
    hold(holder, 1)

    async def several() -> None:
        async with face.uow() as tx:
            await tx.lock(Account, 2)  # tasks
            await tx.lock_many(Account, [3])
            (await tx.get(Account, 4)).balance += 1
            await tx.flush()
            await tx.lock(Account, 1)

    def several_in_a_thread() -> None:
        with face.uow() as tx:
            tx.lock(Account, 2)  # threads
            tx.lock_many(Account, [3])
            tx.get(Account, 4).balance += 1
            tx.flush()
            tx.lock(Account, 1)

    with pytest.raises(LateLockError) as caught:
        await several() if face.is_async else several_in_a_thread()
    first = line(__file__, "tasks" if face.is_async else "threads")
    told = [each for each in str(caught.value).splitlines() if "locked at" in each]
    for number, each in zip((first, first + 1, first + 3), told, strict=True):
        assert f"test_late.py:{number} in " in each
    holder.rollback()


async def test_a_late_request_that_is_free_is_granted(face: Face, holder: Connection) -> None:
    """Nothing has to wait, so nothing can go wrong."""
    await accounts(face)
    async with both(face.uow()) as tx:
        await result(tx.lock(Account, 2))
        await result(tx.lock(Account, 1))
        assert is_locked(holder, "lock_account", "id = 1")


async def test_an_upgrade_never_waits(face: Face, holder: Connection) -> None:
    """Two that share a row and both want to write it would wait for each other."""
    await accounts(face)
    hold(holder, 1, how="SHARE")
    with pytest.raises(LateLockError) as caught:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 1, strength="share"))
            await result(tx.lock(Account, 1))
    assert "lock_account 1: NO_KEY_UPDATE\n" in caught.value.what
    assert "lock_account 1: SHARE, locked at" in caught.value.what
    assert 'strength="no_key_update", at ' in caught.value.remedy
    holder.rollback()


@pytest.mark.parametrize("retries", [True, False])
async def test_a_unit_that_is_run_again_is_not_told_to_be(
    face: Face, holder: Connection, retries: bool
) -> None:
    """What it would have to do is advised to those that can't be; with retry=None it says so."""
    await accounts(face)
    hold(holder, 1)
    errors: list[LateLockError] = []

    async def work(tx: Any) -> None:
        await result(tx.lock(Account, 2))
        try:
            await result(tx.lock(Account, 1))
        except LateLockError as error:
            errors.append(error)
            holder.rollback()
            raise

    options = {} if retries else {"retry": None}
    with contextlib.suppress(LateLockError):
        await result(face.uow.run(as_function(face, work), **options))
    (error,) = errors
    assert ("run again" in error.remedy) is not retries
    assert ("unless with retry=None" in error.remedy) is not retries
    assert "tx.lock_many" in error.remedy


async def test_the_next_attempt_locks_all_in_order(face: Face, holder: Connection) -> None:
    """A retried unit takes part in the order by itself: two attempts, and the second one waits."""
    await accounts(face)
    hold(holder, 1)
    seen: list[int] = []

    async def work(tx: Any) -> None:
        seen.append(tx.attempt)
        await result(tx.lock(Account, 2))
        await result(tx.lock(Account, 1))

    async def child() -> None:
        await result(face.uow.run(as_function(face, work)))

    running = face.start(child)
    await wait_for_waiter(face)
    assert not is_locked_by_others(holder, 2)
    holder.rollback()
    await face.join(running)
    assert seen == [1, 2]


def as_function(face: Face, work: Any) -> Any:
    """What `run` takes: a function of the face's colour."""
    from tests.contract.face import drive

    if face.is_async:
        return work
    return lambda tx: drive(work(tx))


def is_locked_by_others(holder: Connection, key: int) -> bool:
    """Asked in the holder's own transaction, which must not end."""
    with holder.begin_nested() as savepoint:
        found = holder.scalar(
            text(f"SELECT count(*) FROM lock_account WHERE id = {key}"),
        )
        skipped = holder.execute(
            text(f"SELECT 1 FROM lock_account WHERE id = {key} FOR UPDATE SKIP LOCKED")
        ).all()
        savepoint.rollback()
    return found == 1 and not skipped


async def test_a_savepoint_forgets_what_its_rollback_released(
    face: Face, holder: Connection
) -> None:
    """The server releases them, so they must be locked again before they are written."""
    await accounts(face)
    async with both(face.uow()) as tx:
        await result(tx.lock(Account, 0))
        with pytest.raises(KeyError):
            async with both(tx.savepoint()):
                await result(tx.lock(Account, 3))
                raise KeyError
        assert [each.key for each in tx.unit.book.held] == [(0,)]
        assert not is_locked(holder, "lock_account", "id = 3")
        hold(holder, 3)
        with pytest.raises(Exception, match="lock timeout"):
            await result(tx.lock(Account, 3, timeout=0.05))
        holder.rollback()
        tx.set_rollback_only()


async def change_both(tx: Any) -> None:
    (await result(tx.get(Account, 2))).balance = 1
    (await result(tx.get(Entry, 2))).account_id = 3
    await result(tx.flush())


FIRST_IN_SAVEPOINT: dict[str, Any] = {
    "lock_across": lambda tx: result(tx.lock_across({Account: [2], Entry: [2]})),
    "flush": change_both,
    "update": lambda tx: result(
        tx.execute(update(Account).where(Account.owner == "me").values(balance=1))
    ),
    "lock_name": lambda tx: result(tx.lock_name("two")),
}


@pytest.mark.parametrize("how", FIRST_IN_SAVEPOINT)
async def test_what_a_savepoint_begins_with_is_released_by_its_rollback(
    face: Face, holder: Connection, how: str
) -> None:
    """The SAVEPOINT is there before the first lock of its block, so that book and server agree."""
    await accounts(face)
    face.aside("INSERT INTO lock_entry VALUES (2, 2)")
    async with both(face.uow()) as tx:
        await result(tx.get(Account, 1))
        with pytest.raises(KeyError):
            async with both(tx.savepoint()):
                await FIRST_IN_SAVEPOINT[how](tx)
                assert tx.unit.book.held
                raise KeyError
        assert not tx.unit.book.held
        assert not is_locked(holder, "lock_account", "id = 2", "UPDATE")
        assert not is_locked(holder, "lock_entry", "id = 2", "UPDATE")
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert face.aside(held) == [(0,)]


async def test_an_absent_row_is_not_held(face: Face) -> None:
    """It was asked for and not found; whoever creates it meanwhile owns it."""
    await accounts(face)
    async with both(face.uow()) as tx:
        rows = await result(tx.lock_where(select(Account).where(Account.id.in_([1, 50]))))
        assert len(rows) == 1
        assert [each.key for each in tx.unit.book.held] == [(1,)]


async def test_after_some_refusals_all_others_are_kept_out(
    face: Face, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The serial mode: the tables are locked, so that no further row of them can be refused."""
    await accounts(face)
    refused = 0

    async def work(tx: Any) -> None:
        nonlocal refused
        await result(tx.lock(Account, 1))
        if tx.attempt <= 4:
            refused += 1
            raise LateLockError("as if refused", "")

    statements.clear()
    await result(face.uow.run(as_function(face, work)))
    assert refused == 4
    (tables,) = (one for one in statements if one.startswith(LOCKS_TABLES))
    assert "ARRAY['lock_account']" in tables


async def test_the_serial_mode_gives_way_to_an_insert(
    face: Face, holder: Connection, statements: list[str]
) -> None:
    """An INSERT has the lock of its own table before that of the table that it refers to.

    The serial mode has the parents' table and waits for that of the children: it lets go of the
    first before the server would find a deadlock, and waits for the second first then.
    """
    await accounts(face)
    face.aside("INSERT INTO lock_entry VALUES (1, 1)")
    sleeps = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

    async def work(tx: Any) -> None:
        await result(tx.lock_across({Account: [1], Entry: [1]}))
        if tx.attempt <= SERIAL_AFTER:
            raise LateLockError("as if refused", "")

    def insert() -> None:
        holder.execute(text("INSERT INTO lock_entry SELECT 2, 2 FROM pg_sleep(1.5)"))
        holder.commit()

    inserting = asyncio.create_task(asyncio.to_thread(insert))
    while not face.aside(sleeps):
        await asyncio.sleep(0.01)
    await result(face.uow.run(as_function(face, work)))
    assert any("ARRAY['lock_account', 'lock_entry']" in one for one in statements)
    await inserting  # a deadlock would be its error
    assert face.aside("SELECT id FROM lock_entry ORDER BY id") == [(1,), (2,)]


async def test_a_queue_comes_after_what_was_learnt(face: Face) -> None:
    """Its query is no raw SQL because another one, of the unit's own, goes before it."""
    await accounts(face)

    async def work(tx: Any) -> int:
        await result(tx.lock_where(select(Account).limit(1), skip_locked=True))
        if tx.attempt == 1:
            raise LateLockError("as if refused", "")
        assert not tx.unit.sent_unordered
        return int(tx.attempt)

    run = face.uow.run(as_function(face, work), strict_locks=True)
    assert await result(run) == 2


async def test_the_serial_mode_does_not_get_its_tables_in_time(
    face: Face, holder: Connection
) -> None:
    """The error after `lock_timeout` tells the rows for which it wanted them."""
    await accounts(face)

    async def work(tx: Any) -> None:
        await result(tx.lock(Account, 1))
        if tx.attempt == SERIAL_AFTER:
            tx.on_rollback(lambda: holder.execute(lock_tables([Account.__table__])))
        raise LateLockError("as if refused", "")

    policy = RetryPolicy(attempts=SERIAL_AFTER + 1, wait_initial=0.001)
    with pytest.raises(RetriesExceededError) as caught:
        await result(face.uow.run(as_function(face, work), retry=policy, lock_timeout=0.3))
    error = caught.value.__cause__
    assert isinstance(error, DBAPIError), error
    assert "lock_account 1" in "".join(error.__notes__)
    holder.rollback()


async def test_an_insert_into_a_table_before_what_is_held(face: Face, holder: Connection) -> None:
    """A unit in its serial mode may keep all others out of it, and wait for what is held here."""
    await accounts(face)
    with pytest.raises(DBAPIError, match="lock timeout"):
        async with both(face.uow()) as tx:
            tx.add(Entry(id=1, account_id=2))
            await result(tx.flush())
            holder.execute(lock_tables([Base.metadata.tables["lock_by_uuid"]]))
            tx.add(ByUuid(key=uuid.uuid4()))
            began = time.monotonic()
            await result(tx.flush())
    assert time.monotonic() - began < 3  # the session's own lock_timeout is 5 s
    holder.rollback()


async def test_an_inner_unit_must_not_wait_below_the_outer_one(
    face: Face, holder: Connection
) -> None:
    """Its own transaction has nothing locked, but the outer unit can't end before it."""
    await accounts(face)
    hold(holder, 1)
    async with both(face.uow(connections=2)) as outer:
        await result(outer.lock(Account, 2))
        with pytest.raises(LateLockError) as caught:
            async with both(face.uow(propagation="requires_new")) as tx:
                await result(tx.lock(Account, 1))
        (told,) = [one for one in caught.value.what.splitlines() if "locked at" in one]
        assert "lock_account 2: NO_KEY_UPDATE, locked at " in told
        assert "/tests/" in told.replace(os.sep, "/")
        assert f"by unit {outer.name!r} around it" in told
        assert caught.value.held == ("lock_account 2",)
        async with both(face.uow(propagation="requires_new")) as tx:
            await result(tx.lock(Account, 3))
        with pytest.raises(TransactionStateError, match="wait for itself"):
            async with both(face.uow(propagation="requires_new")) as tx:
                await result(tx.lock(Account, 2))
    holder.rollback()


async def test_two_engines_have_an_order_too(face: Face, holder: Connection) -> None:
    """A unit of an earlier engine inside of one of a later engine never waits for a row."""
    await accounts(face)
    first, second = face.uow, face.make(pool_size=2)
    hold(holder, 1)
    with pytest.raises(LateLockError, match=r"lock_account 0: .* by unit 'other' around it"):
        async with both(second(name="other")) as outer:
            await result(outer.lock(Account, 0))
            async with both(first()) as tx:
                await result(tx.lock(Account, 1))
    holder.rollback()


async def test_locks_are_taken_again_after_a_release(face: Face, holder: Connection) -> None:
    """`relock=True`: what was held before is held again before anything else; else it is not."""
    await accounts(face)
    async with both(face.uow()) as tx:
        first = await result(tx.lock(Account, 1))
        await result(tx.lock(Account, 3))
        first.balance = 4
        with pytest.raises(UnsavedWorkError, match="locked: lock_account 1"):
            await result(tx.release())
        async with both(tx.released(commit=True, relock=True)):
            assert not is_locked(holder, "lock_account", "id = 1")
        assert is_locked(holder, "lock_account", "id = 1")
        assert is_locked(holder, "lock_account", "id = 3")
        async with both(tx.released(commit=True)):
            pass
        assert not tx.unit.book


async def test_names_come_before_rows(face: Face, holder: Connection) -> None:
    """A name after a row is late: it is tried, and refused where another one has it."""
    await accounts(face)
    async with both(face.uow()) as tx:
        await result(tx.lock_name("a"))
        (held,) = tx.unit.book.held
    holder.execute(text(f"SELECT pg_advisory_xact_lock({held.order[0]})"))
    with pytest.raises(LateLockError, match="name 'a'") as caught:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 1))
            await result(tx.lock_name("b"))
            await result(tx.lock_name("a"))
    assert "lock_names=[('a',)]" in caught.value.remedy
    assert "a hash decides" in caught.value.remedy
    holder.rollback()


async def test_a_refusal_is_not_waited_for(face: Face) -> None:
    """The next attempt waits in line for the locks themselves; a back-off would only add to it."""
    from unitofwork.core.retried import arrangement

    story = Story(RetryPolicy(wait_initial=100, wait_max=100))
    story.failed.append((LateLockError("", ""), 0.0))  # type: ignore[arg-type]
    story.failed[-1] = type("A", (), {"error": LateLockError("", "")})()
    assert arrangement(story)["wait"](None) == 0.0


async def test_hot_rows_asked_for_late(face: Face) -> None:
    """Transfers that lock one row after the other: nothing deadlocks, at most two attempts."""
    await accounts(face, 4)
    uow = face.make(pool_size=4)
    attempts: list[int] = []

    def transfer(first: int, second: int) -> Any:
        async def work(tx: Any) -> None:
            one = await result(tx.lock(Account, first))
            other = await result(tx.lock(Account, second))
            one.balance -= 1
            other.balance += 1
            attempts.append(tx.attempt)

        async def child() -> None:
            await result(uow.run(as_function(face, work)))

        return child

    before = deadlocks(face)
    pairs = [(one, other) for one in range(4) for other in range(4) if one != other] * 4
    children = [face.start(transfer(*pair)) for pair in pairs]
    for child in children:
        await face.join(child)
    assert len(attempts) == len(pairs)
    assert max(attempts) <= 2
    assert deadlocks(face) == before
    assert face.aside("SELECT sum(balance) FROM lock_account") == [(0,)]


def deadlocks(face: Face) -> int:
    """As far as the server has counted them; sessions report when they end, or after a second."""
    face.aside("SELECT pg_stat_force_next_flush()")
    ((count,),) = face.aside("SELECT sum(deadlocks)::int FROM pg_stat_database")
    return int(count)


async def test_the_wait_after_a_lock_is_short(face: Face) -> None:
    """The tripwire: a write whose locks were taken has nothing to wait for."""
    await accounts(face)
    uow = face.uow
    show = text("SHOW lock_timeout")

    async def work(tx: Any) -> list[str]:
        found = [await result(tx.scalar(show))]
        await result(tx.lock(Account, 1))
        found.append(await result(tx.scalar(show)))
        await result(tx.lock(Account, 2))
        found.append(await result(tx.scalar(show)))
        return found

    assert await result(uow.run(as_function(face, work))) == ["4s", "10ms", "10ms"]
    async with both(uow()) as tx:  # nobody would run it again: just before the detector
        await result(tx.lock(Account, 1))
        assert await result(tx.scalar(show)) == "160ms"
    async with both(uow(lock_timeout=0.05)) as tx:
        await result(tx.lock(Account, 1))
        assert await result(tx.scalar(show)) == "50ms"


async def test_a_wait_in_order_has_its_patience_back(face: Face, holder: Connection) -> None:
    """The short limit that an earlier lock has left does not hold for the next one."""
    await accounts(face)
    hold(holder, 2)

    async def work(tx: Any) -> int:
        await result(tx.lock(Account, 1))
        account = await result(tx.lock(Account, 2))
        return int(account.id + tx.attempt)

    async def child() -> int:
        return int(await result(face.uow.run(as_function(face, work))))

    running = face.start(child)
    await wait_for_waiter(face)
    await asyncio.sleep(0.3)
    holder.rollback()
    assert await face.join(running) == 3


async def test_a_unit_that_trips_again_and_again_becomes_patient(
    face: Face, holder: Connection
) -> None:
    """Another one inserts the same unique value: nothing to lock first, but it ends some time.

    At last it waits as long as its caller allows.
    """
    await accounts(face)
    holder.execute(text("INSERT INTO lock_account VALUES (77, '', 0)"))
    limits: list[str] = []

    async def work(tx: Any) -> None:
        await result(tx.lock(Account, 1))
        limits.append(await result(tx.scalar(text("SHOW lock_timeout"))))
        tx.add(Account(id=77))
        await result(tx.flush())

    async def child() -> None:
        await result(face.uow.run(as_function(face, work)))

    running = face.start(child)
    await face.until(lambda: len(limits) > 5 or running.done())
    await wait_for_waiter(face)
    await asyncio.sleep(0.5)
    holder.rollback()
    await face.join(running)
    assert limits == ["10ms", "10ms", "10ms", "160ms", "160ms", limits[5]]
    assert limits[5] not in ("10ms", "160ms")


@pytest.mark.parametrize("with_query", [False, True])
async def test_a_delete_that_found_nothing_has_locked_nothing(
    face: Face, holder: Connection, with_query: bool
) -> None:
    """Another one had deleted the row, and makes it anew: then it can be locked, and is."""
    await accounts(face)
    async with both(face.uow()) as tx:
        gone = await result(tx.get(Account, 4))
        if with_query:
            await result(tx.lock(Account, 1))
        holder.execute(text("DELETE FROM lock_account WHERE id = 4"))
        holder.commit()
        await result(tx.delete(gone))
        with pytest.warns(SAWarning, match="0 were matched"):
            await result(tx.flush())
        holder.execute(text("INSERT INTO lock_account VALUES (4, '', 0)"))
        holder.commit()
        await result(tx.lock(Account, 4))
        assert is_locked_by_others(holder, 4)


async def test_what_is_learnt_is_not_part_of_a_savepoint(face: Face, holder: Connection) -> None:
    """Begun before the first statement, it is sent after the rows of earlier attempts are locked.

    Its rollback gives back none of them.
    """
    await accounts(face)
    hold(holder, 1)
    seen: list[list[Any]] = []

    async def work(tx: Any) -> None:
        try:
            async with both(tx.savepoint()):
                await result(tx.lock(Account, 2))
                if tx.attempt == 1:
                    await result(tx.lock(Account, 1))
                raise KeyError
        except KeyError:
            seen.append(sorted(each.key for each in tx.unit.book.held))
            assert is_locked_by_others(holder, 2)

    async def child() -> None:
        await result(face.uow.run(as_function(face, work)))

    running = face.start(child)
    await wait_for_waiter(face)
    holder.rollback()
    await face.join(running)
    assert seen == [[(1,), (2,)]]


@pytest.mark.parametrize("how", ["lock", "lock_across", "flush"])
async def test_what_is_learnt_counts_for_the_first_call(
    face: Face, holder: Connection, how: str
) -> None:
    """It is locked as the transaction begins, so a first request below it is late already."""
    await accounts(face)
    hold(holder, 1)
    attempts = 0

    async def work(tx: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await result(tx.lock(Account, 4))
            raise LateLockError("as if refused", "")
        if how == "lock":
            await result(tx.lock(Account, 1))
        elif how == "lock_across":
            await result(tx.lock_across({Account: [1], Entry: []}))
        else:
            account = Account(id=1, balance=5, owner="")
            make_transient_to_detached(account)
            tx.add(account)
            account.owner = "x"
            await result(tx.flush())

    async def child() -> None:
        await result(face.uow.run(as_function(face, work)))

    running = face.start(child)
    await face.until(lambda: attempts == 3 or running.done())
    await wait_for_waiter(face)
    holder.rollback()
    await face.join(running)
    assert attempts == 3
    # Refused, and not ended by a limit.
    assert face.uow.stats().uncovered_waits == 0


async def test_a_late_lock_behind_a_row_of_ones_own(face: Face, holder: Connection) -> None:
    """The error says that it is the insert that makes the request late."""
    await accounts(face)
    hold(holder, 1)
    with pytest.raises(LateLockError, match="rows of lock_entry that it has inserted"):
        async with both(face.uow()) as tx:
            tx.add(Entry(id=1, account_id=3))
            await result(tx.flush())
            tx.unit.book.held.clear()
            await result(tx.lock(Account, 1))
    holder.rollback()


async def test_many_parents_locked_alternately(face: Face) -> None:
    """A flush that updates every second parent and has children of the others is one short query
    a table, however many they are."""
    face.aside("INSERT INTO lock_account SELECT n, '', 0 FROM generate_series(1, 400) n")
    began = time.monotonic()
    async with both(face.uow()) as tx:
        rows = (await result(tx.scalars(select(Account)))).all()
        for row in rows:
            if row.id % 2:
                row.balance = 1
            else:
                tx.add(Entry(id=row.id, account_id=row.id))
        await result(tx.flush())
        assert len(tx.unit.book.held) == 400
    assert time.monotonic() - began < 20


def test_the_serial_mode_follows_a_translated_schema(holder: Connection) -> None:
    """The tables that others are kept out of are those that the unit writes to."""
    holder.execute(text("CREATE SCHEMA lock_tenant"))
    holder.execute(text("CREATE TABLE lock_tenant.lock_account (id int PRIMARY KEY)"))
    tenant = holder.execution_options(schema_translate_map={None: "lock_tenant"})
    tenant.execute(lock_tables([Account.__table__]))
    locked = holder.scalars(
        text("SELECT relation::regclass::text FROM pg_locks WHERE mode = 'ExclusiveLock'")
    ).all()
    assert "lock_tenant.lock_account" in locked
    assert "lock_account" not in locked
    holder.rollback()


@pytest.mark.parametrize("how", [{"nowait": True}, {"timeout": 0.05}, {}], ids=str)
async def test_a_row_that_is_missing_leaves_no_limit_behind(
    face: Face, how: dict[str, Any]
) -> None:
    """What the lock query has set for itself is taken back, whether it has found a row or not."""
    await accounts(face)
    limit = text("SELECT current_setting('lock_timeout')")
    async with both(face.uow()) as tx:
        await result(tx.lock(Account, 1, **how))
        expected = await result(tx.scalar(limit))
    async with both(face.uow()) as tx:
        for _ in range(2):
            with pytest.raises(RowNotFoundError):
                await result(tx.lock(Account, 99, **how))
            assert await result(tx.scalar(limit)) == expected

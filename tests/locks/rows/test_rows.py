"""Loading and locking rows: fresh, complete, sorted on the way, in the caller's order."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest
from sqlalchemy import Connection, exc, select, text, update
from tests.contract.face import Face, both, result

from unitofwork import ConfigurationError, LateLockError, RowNotFoundError, UnsavedWorkError

from .model import KEYS, Account, Base, Beast, ByTwo, Cat, Chief, Engineer, Entry, Person, made


async def add(face: Face, *rows: Base) -> None:
    async with both(face.uow()) as tx:
        tx.add_all(rows)


async def accounts(face: Face, count: int = 5) -> None:
    await add(face, *(Account(id=number, owner="me") for number in range(count)))


def is_locked(holder: Connection, table: str, where: str, how: str = "NO KEY UPDATE") -> bool:
    """Whether another transaction has the row locked."""
    try:
        holder.execute(text(f"SELECT 1 FROM {table} WHERE {where} FOR {how} NOWAIT"))
    except exc.OperationalError:
        return True
    finally:
        holder.rollback()
    return False


async def test_a_row_that_was_read_before_comes_fresh(face: Face) -> None:
    """The identity map has an old copy, which the lock overwrites: no update from stale values."""
    await accounts(face)
    async with both(face.uow()) as tx:
        account = await result(tx.get(Account, 1))
        face.aside("UPDATE lock_account SET balance = 7 WHERE id = 1")
        assert account.balance == 0
        assert await result(tx.lock(Account, 1)) is account
        assert account.balance == 7


@pytest.mark.parametrize("entity", KEYS, ids=lambda entity: entity.__name__)
async def test_any_key(face: Face, entity: type[Any]) -> None:
    """Keys of every type are found, in the order asked, and locked in the global one."""
    keys = KEYS[entity]
    await add(face, *(made(entity, key) for key in keys))
    async with both(face.uow()) as tx:
        asked = [*reversed(keys), keys[0]]
        rows = await result(tx.lock_many(entity, asked))
        again = [await result(tx.get(entity, key)) for key in asked]
        if entity.__name__ != "ByChar":  # whose stored key has its padding
            assert rows == again
        assert len(rows) == len(asked)
        assert rows[-1] is rows[-2]
        held = list(tx.unit.book.held)
        assert len(held) == len(keys) * len(entity.__mapper__.tables)
        assert held == sorted(held)
        for row in rows:
            row.n = 3 if entity is not Account else 0
        face_rows = len(rows)
    assert face_rows == len(keys) + 1


async def test_one_round_trip(face: Face, statements: list[str]) -> None:
    """Loading and locking many rows of one table is one statement."""
    await accounts(face)
    async with both(face.uow()) as tx:
        statements.clear()
        await result(tx.lock_many(Account, [4, 0, 2]))
        assert len(statements) == 1


async def test_ten_thousand_keys(face: Face, statements: list[str]) -> None:
    """A call takes as many keys as one likes."""
    face.aside("INSERT INTO lock_account SELECT n, '', 0 FROM generate_series(1, 10000) n")
    async with both(face.uow()) as tx:
        statements.clear()
        rows = await result(tx.lock_many(Account, range(10_000, 0, -1)))
        assert [row.id for row in rows] == list(range(10_000, 0, -1))
        assert len(statements) == 1


PLANS = text(
    "SELECT max(custom_plans), sum(generic_plans) FROM pg_prepared_statements "
    "WHERE statement LIKE 'WITH uow_%'"
)


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("what", ["one table", "composite", "two tables"])
async def test_few_keys_are_planned_once(face: Face, what: str, count: int) -> None:
    """The server makes five plans for a prepared lock query, and then keeps a general one.

    It would go on making one each time if a general plan, which is for any number of keys, looked
    dearer to it; that takes it longer than the query.
    """
    face.aside("INSERT INTO lock_account SELECT n, '', 0 FROM generate_series(1, 10000) n")
    face.aside("INSERT INTO lock_entry SELECT n, n FROM generate_series(1, 10000) n")
    face.aside("INSERT INTO lock_by_two SELECT n, 'x', 0 FROM generate_series(1, 10000) n")
    face.aside("ANALYZE lock_account, lock_entry, lock_by_two")
    for start in range(1, 1001, 50):
        keys = range(start, start + count)
        async with both(face.uow()) as tx:
            match what:
                case "one table":
                    await result(tx.lock_many(Account, keys))
                case "composite":
                    await result(tx.lock_many(ByTwo, [(key, "x") for key in keys]))
                case _:
                    await result(tx.lock_across({Account: keys, Entry: keys}))
    async with both(face.uow()) as tx:
        made, kept = (await result(tx.execute(PLANS))).one()
    assert made <= 5
    assert kept >= 10


async def test_what_is_missing_is_listed(face: Face) -> None:
    """All of it, by class and key; and what was found is locked all the same."""
    await accounts(face)
    async with both(face.uow()) as tx:
        with pytest.raises(RowNotFoundError, match="Account 77") as caught:
            await result(tx.lock_many(Account, [1, 77, 2, 99]))
        assert caught.value.missing == (("Account", 77), ("Account", 99))
        with pytest.raises(RowNotFoundError):
            await result(tx.lock(Account, 77))


async def test_each_missing_row_once(face: Face) -> None:
    """Of many some, and how many more; and of those that only need a flush, that they do."""
    async with both(face.uow()) as tx:
        with pytest.raises(RowNotFoundError) as caught:
            await result(tx.lock_many(Account, [*range(30), 7, 7]))
        assert caught.value.missing == tuple(("Account", key) for key in range(30))
        assert caught.value.what.count("Account 7") == 1
        assert caught.value.what.endswith("and 10 more")
        assert "flush" not in caught.value.remedy
        tx.add(Account(id=7))
        with pytest.raises(RowNotFoundError, match=r"Account 7 \(added, but not flushed\)") as new:
            await result(tx.lock_many(Account, [7, 8]))
        assert "tx.flush()" in new.value.remedy
        await result(tx.flush())
        await result(tx.lock(Account, 7))


async def test_several_classes(face: Face) -> None:
    """Parents before children, whatever the order of asking."""
    await add(face, Account(id=1), Account(id=2))
    await add(face, Entry(id=1, account_id=1))
    async with both(face.uow()) as tx:
        found = await result(tx.lock_across({Entry: [1], Account: [2, 1]}))
        assert [row.id for row in found[Account]] == [2, 1]
        assert [row.id for row in found[Entry]] == [1]
        assert [each.rank.name for each in tx.unit.book.held] == [
            "lock_account",
            "lock_account",
            "lock_entry",
        ]


async def test_both_rows_of_an_inheritance_are_locked(face: Face, holder: Connection) -> None:
    """The base table's row and the sub-table's."""
    await add(face, Engineer(id=1))
    async with both(face.uow()) as tx:
        await result(tx.lock(Engineer, 1))
        assert is_locked(holder, "lock_person", "id = 1")
        assert is_locked(holder, "lock_engineer", "id = 1")


async def test_the_default_strength_lets_children_be_inserted(face: Face) -> None:
    """A foreign key's check does not wait for it; for strength "update" it does."""
    await accounts(face)
    async with both(face.uow()) as tx:
        await result(tx.lock(Account, 1))
        face.aside("SET lock_timeout = 300; INSERT INTO lock_entry VALUES (1, 1); RESET ALL")
        await result(tx.lock(Account, 2, strength="update"))
        with pytest.raises(Exception, match="lock timeout"):
            face.aside("SET lock_timeout = 300; INSERT INTO lock_entry VALUES (2, 2)")
        face.aside("RESET lock_timeout")


async def test_share_locks_are_shared(face: Face, holder: Connection) -> None:
    """Two may hold one; a writer waits for both."""
    await accounts(face)
    async with both(face.uow()) as tx:
        await result(tx.lock(Account, 1, strength="share"))
        assert not is_locked(holder, "lock_account", "id = 1", "SHARE")
        assert is_locked(holder, "lock_account", "id = 1")


async def test_nowait_is_the_databases_own_error(face: Face, holder: Connection) -> None:
    """At once, SQLSTATE 55P03."""
    await accounts(face)
    holder.execute(text("SELECT 1 FROM lock_account WHERE id = 1 FOR UPDATE"))
    with pytest.raises(exc.DBAPIError, match="could not obtain lock"):
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 1, nowait=True))
    holder.rollback()


@pytest.mark.parametrize("how", [{"nowait": True}, {"timeout": 0.05}], ids=str)
async def test_a_limit_of_the_call_is_not_retried(
    face: Face, holder: Connection, how: dict[str, Any]
) -> None:
    """The error is the answer that was asked for, also where a unit would be run again."""
    await accounts(face)
    holder.execute(text("SELECT 1 FROM lock_account WHERE id = 1 FOR UPDATE"))
    attempts: list[int] = []

    async def work(tx: Any) -> None:
        attempts.append(tx.attempt)
        await result(tx.lock(Account, 1, **how))

    with pytest.raises(exc.DBAPIError, match=r"could not obtain lock|lock timeout"):
        await result(face.uow.run(face.function(work)))
    assert attempts == [1]
    holder.rollback()


REFUSALS: dict[str, Any] = {
    "timeout": lambda tx: tx.lock_many(Account, [2, 1], timeout=0.05),
    "nowait": lambda tx: tx.lock(Account, 1, nowait=True),
    "lock_timeout": lambda tx: tx.lock_across({Account: [1, 2], Entry: [1]}),
    "a query": lambda tx: tx.lock_where(select(Account).where(Account.id == 1), nowait=True),
    "a name": lambda tx: tx.lock_name("one", timeout=0.05),
    "update()": lambda tx: tx.execute(update(Account).where(Account.id == 1).values(balance=1)),
}


@pytest.mark.parametrize("call", REFUSALS)
async def test_a_refusal_tells_what_was_asked_and_who_holds_it(face: Face, call: str) -> None:
    """As far as it is a unit of this engine; beside the server's own error."""
    await accounts(face)
    holding = done = False

    async def hold_it() -> None:
        nonlocal holding
        async with both(face.uow(name="holder")) as tx:
            await result(tx.lock_name("one"))
            await result(tx.lock(Account, 1))
            holding = True
            await face.until(lambda: done)

    child = face.start(hold_it)
    await face.until(lambda: holding)
    try:
        with pytest.raises(exc.DBAPIError, match=r"lock timeout|could not obtain") as caught:
            async with both(face.uow(name="asker", lock_timeout=0.2)) as tx:
                await result(REFUSALS[call](tx))
    finally:
        done = True
        await face.join(child)
    (note,) = caught.value.__notes__
    assert "Unit 'asker' asked at " in note
    assert "/tests/" in note.replace(os.sep, "/")
    asked, held = note.split("  Of these, ")
    assert ("lock_account 2: NO_KEY_UPDATE" in asked) is (call in ("timeout", "lock_timeout"))
    assert "lock_account 2" not in held
    match call:
        case "a query":
            assert "none that is known" in held
        case "a name":
            assert "name 'one', by unit 'holder', locked at " in held
        case _:
            assert "lock_account 1: NO_KEY_UPDATE, by unit 'holder', locked at " in held


async def test_a_late_lock_has_its_own_error_and_no_note(face: Face, holder: Connection) -> None:
    """Nor has what the server said below it; but with nowait=True, there is nothing else."""
    await accounts(face)
    holder.execute(text("SELECT 1 FROM lock_account WHERE id = 1 FOR UPDATE"))
    with pytest.raises(LateLockError) as late:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 2))
            await result(tx.lock(Account, 1))
    cause = late.value.__cause__
    assert isinstance(cause, exc.DBAPIError)
    assert not hasattr(cause, "__notes__")
    with pytest.raises(exc.DBAPIError) as refused:
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 2))
            await result(tx.lock(Account, 1, nowait=True))
    assert "none that is known" in refused.value.__notes__[0]
    holder.rollback()


@pytest.mark.parametrize("call", ["lock", "lock_many", "lock_across", "lock_where"])
@pytest.mark.parametrize("how", ["nowait", "skip_locked"])
async def test_no_wait_at_all(face: Face, holder: Connection, call: str, how: str) -> None:
    """Not where the server would wait for KEY SHARE NOWAIT (LOCKS class 25), either."""
    await accounts(face)
    holder.execute(text("UPDATE lock_account SET balance = 1 WHERE id = 1"))
    holder.execute(text("SELECT 1 FROM lock_account WHERE id = 1 FOR UPDATE"))
    options: dict[str, Any] = {"strength": "key_share", how: True}
    began = time.monotonic()
    with pytest.raises(exc.DBAPIError, match=r"lock timeout|could not obtain lock"):
        async with both(face.uow(lock_timeout=20.0)) as tx:
            match call:
                case "lock":
                    await result(tx.lock(Account, 1, **options))
                case "lock_many":
                    await result(tx.lock_many(Account, [1], **options))
                case "lock_across":
                    await result(tx.lock_across({Account: [1], Entry: [1]}, **options))
                case _:
                    one = select(Account).where(Account.id == 1)
                    await result(tx.lock_where(one, **options))
    assert time.monotonic() - began < 10
    holder.rollback()


async def test_a_timeout_of_the_call(face: Face, holder: Connection) -> None:
    """It bounds the wait of this call, not of the next one."""
    await accounts(face)
    holder.execute(text("SELECT 1 FROM lock_account WHERE id = 1 FOR UPDATE"))
    with pytest.raises(exc.DBAPIError, match="lock timeout"):
        async with both(face.uow()) as tx:
            await result(tx.lock(Account, 0, timeout=0.05))
            await result(tx.lock(Account, 1, timeout=0.05))
    holder.rollback()


async def test_locked_rows_are_passed_over(face: Face, holder: Connection) -> None:
    """`skip_locked`: the others come in the order asked, and waits for none."""
    await accounts(face)
    holder.execute(text("SELECT 1 FROM lock_account WHERE id IN (1, 3) FOR UPDATE"))
    async with both(face.uow()) as tx:
        rows = await result(tx.lock_many(Account, [4, 3, 2, 1], skip_locked=True))
        assert [row.id for row in rows] == [4, 2]
        for key in (3, 77):  # the answer is the same
            with pytest.raises(RowNotFoundError, match=r"locked by another .*, or does not exist"):
                await result(tx.lock(Account, key, skip_locked=True))
    holder.rollback()


async def test_changes_that_are_not_flushed_are_not_overwritten(face: Face) -> None:
    """An error says so; after a flush the lock goes through and has the unit's own values."""
    await accounts(face)
    async with both(face.uow()) as tx:
        account = await result(tx.get(Account, 1))
        account.balance = 5
        with pytest.raises(UnsavedWorkError, match="Account"):
            await result(tx.lock(Account, 1))
        assert account.balance == 5
        await result(tx.lock(Account, 2))
        await result(tx.flush())
        await result(tx.lock(Account, 1))
        assert account.balance == 5
    assert face.aside("SELECT balance FROM lock_account WHERE id = 1") == [(5,)]


async def test_a_select_is_locked_as_it_matches(face: Face, holder: Connection) -> None:
    """A row that stops matching while it is waited for is left out; the order is the select's."""
    await accounts(face)
    holder.execute(text("UPDATE lock_account SET owner = 'you' WHERE id = 2"))

    async def work() -> list[int]:
        async with both(face.uow()) as tx:
            mine = select(Account).where(Account.owner == "me").order_by(Account.id.desc())
            return [row.id for row in await result(tx.lock_where(mine))]

    child = face.start(work)
    assert face.probe is not None
    await wait_for_waiter(face)
    holder.commit()
    assert await face.join(child) == [4, 3, 1, 0]


async def wait_for_waiter(face: Face) -> None:
    """Until the server has a session that waits for a lock."""
    for _ in range(500):
        if face.aside("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits for a lock")


async def test_a_queue(face: Face, holder: Connection) -> None:
    """`lock_where(..., skip_locked=True)` gives each worker other rows, up to its limit."""
    await accounts(face)
    holder.execute(text("SELECT 1 FROM lock_account WHERE id < 2 FOR UPDATE"))
    async with both(face.uow()) as tx:
        jobs = select(Account).order_by(Account.id).limit(2)
        assert [row.id for row in await result(tx.lock_where(jobs, skip_locked=True))] == [2, 3]
        assert len(tx.unit.book.held) == 2
    holder.rollback()


async def test_a_distinct_select(face: Face) -> None:
    """Sorted by another column than the key; each row comes once."""
    await accounts(face)
    query = select(Account).distinct().order_by(Account.owner, Account.id.desc()).limit(3)
    async with both(face.uow()) as tx:
        assert [row.id for row in await result(tx.lock_where(query))] == [4, 3, 2]


async def test_rows_of_another_class_in_the_table(face: Face, holder: Connection) -> None:
    """They are no rows of the class, but they are locked: the book knows of it."""
    await add(face, Person(id=1, kind="person"), Chief(id=2), Chief(id=3))
    async with both(face.uow()) as tx:
        with pytest.raises(RowNotFoundError, match="Chief 1"):
            await result(tx.lock_many(Chief, [1]))
        assert is_locked(holder, "lock_person", "id = 1")
        assert [each.key for each in tx.unit.book.held] == [(1,)]
    async with both(face.uow()) as tx:
        found = await result(tx.lock_many(Chief, [1, 2], skip_locked=True))
        assert [row.id for row in found] == [2]


async def test_a_queue_of_a_class_with_subclasses_loaded_along(face: Face) -> None:
    """An outer join can't be locked as a whole: the base's rows are."""
    await add(face, Beast(id=1), Cat(id=2))
    async with both(face.uow()) as tx:
        found = await result(tx.lock_where(select(Beast).order_by(Beast.id), skip_locked=True))
        assert [type(row) for row in found] == [Beast, Cat]


async def test_names(face: Face, holder: Connection) -> None:
    """A name is held to the end of the unit; another name is free."""
    async with both(face.uow()) as tx:
        await result(tx.lock_name("invoices", 2026))
        async with (
            both(face.uow(propagation="requires_new", connections=2))
            if False
            else both(face.uow()) as same
        ):
            await result(same.lock_name("invoices", 2026))
        (held,) = tx.unit.book.held
        (key,) = held.order
        free = holder.scalar(text(f"SELECT pg_try_advisory_xact_lock({key})"))
        assert free is False
        holder.rollback()
    assert holder.scalar(text(f"SELECT pg_try_advisory_xact_lock({key})")) is True
    holder.rollback()


async def test_the_transaction_id_rides_along(face: Face) -> None:
    """A unit that has locked knows its id, so that a lost COMMIT can be settled."""
    await accounts(face)
    async with both(face.uow()) as tx:
        await result(tx.lock(Account, 1))
        known = tx.unit.transaction_id
        asked = await result(tx.scalar(text("SELECT pg_current_xact_id()::text")))
        assert known.partition("@")[0] == asked


@pytest.mark.parametrize(
    ("entity", "key", "options"),
    [
        (Account, (1, 2), {}),
        (Account, None, {}),
        (Account, 1, {"strength": "heavy"}),
        (Account, 1, {"nowait": True, "skip_locked": True}),
        (Account, 1, {"nowait": True, "timeout": 1.0}),
        (Account, 1, {"timeout": 0}),
        (object, 1, {}),
        ("Account", 1, {}),
    ],
)
async def test_bad_input(face: Face, entity: Any, key: Any, options: dict[str, Any]) -> None:
    """It is refused before any I/O, and the unit goes on."""
    async with both(face.uow()) as tx:
        with pytest.raises(ConfigurationError):
            await result(tx.lock(entity, key, **options))
        assert tx.unit.connection is None
        assert await result(tx.scalar(text("SELECT 1"))) == 1


BAD_CALLS: dict[str, tuple[Any, str]] = {
    "a key for keys": (lambda tx: tx.lock_many(Account, 5), "5 is no list of keys of Account"),
    "text for keys": (lambda tx: tx.lock_many(Account, "12"), "'12' is no list of keys"),
    "bytes for keys": (lambda tx: tx.lock_many(Account, b"12"), "no list of keys"),
    "pairs": (lambda tx: tx.lock_across([(Account, 1)]), "no mapping"),
    "a key for keys of a class": (lambda tx: tx.lock_across({Account: 1}), "1 is no list of keys"),
    "a list in a name": (lambda tx: tx.lock_name("a", ["x"]), "can't be a name"),
    "distinct": (
        lambda tx: tx.lock_where(select(Account).distinct(), skip_locked=True),
        "takes no DISTINCT",
    ),
    "group by": (
        lambda tx: tx.lock_where(select(Account).group_by(Account.id), nowait=True),
        "takes no DISTINCT, GROUP BY",
    ),
}


@pytest.mark.parametrize("call", BAD_CALLS)
async def test_bad_calls(face: Face, call: str) -> None:
    """The same for what is passed in the wrong shape."""
    send, told = BAD_CALLS[call]
    async with both(face.uow()) as tx:
        with pytest.raises(ConfigurationError, match=told):
            await result(send(tx))
        assert tx.unit.connection is None


@pytest.mark.parametrize("found", [Account, (Account, 1), [Account], None], ids=str)
async def test_a_declaration_that_gives_no_pairs(face: Face, found: Any) -> None:
    """It is found with the first flush, before anything is sent."""
    uow = face.make()
    uow.writes_also(Entry, lambda entry: found)
    with pytest.raises(ConfigurationError, match="no list of pairs"):
        async with both(uow()) as tx:
            tx.add(Entry(id=1, account_id=1))
            await result(tx.flush())


async def test_only_a_select_of_a_class(face: Face) -> None:
    """What `lock_where` can't lock is refused."""
    one = select(Account).where(Account.id == 1)
    others = (text("SELECT 1"), select(Account).from_statement(one), one.union(one))
    async with both(face.uow()) as tx:
        for statement in (select(Account.id), select(Account, Entry), *others):
            with pytest.raises(ConfigurationError, match="one mapped class"):
                await result(tx.lock_where(statement))


async def test_a_plain_read_locks_nothing(face: Face, holder: Connection) -> None:
    """And the book stays empty."""
    await accounts(face)
    async with both(face.uow()) as tx:
        await result(tx.get(Account, 1))
        assert not tx.unit.book
        assert not is_locked(holder, "lock_account", "id = 1", "UPDATE")


@pytest.mark.parametrize("how", ["flush", "update", "update by key", "lock", "lock both"])
async def test_a_row_that_is_made_anew_meanwhile(face: Face, holder: Connection, how: str) -> None:
    """What has waited for the old row does not see the new one, and the write that follows does."""
    await accounts(face)
    statements = {
        "update": (update(Account).where(Account.id == 1).values(balance=7), None),
        "update by key": (update(Account), [{"id": 1, "balance": 7}]),
    }

    async def write() -> list[Any]:
        async with both(face.uow()) as tx:
            account = await result(tx.get(Account, 1))
            await result(tx.lock(Account, 0))
            if how in statements:
                await result(tx.execute(*statements[how]))
            elif how == "flush":
                account.balance = 7
                await result(tx.flush())
            else:
                classes = {Account: [0, 1]} if how == "lock" else {Entry: [], Account: [0, 1]}
                account = (await result(tx.lock_across(classes)))[Account][1]
                assert account.owner == "anew"
                account.balance = 7
                await result(tx.flush())
            return sorted(resource.key for resource in tx.unit.book.held)

    holder.execute(text("DELETE FROM lock_account WHERE id = 1"))
    holder.execute(text("INSERT INTO lock_account VALUES (1, 'anew', 0)"))
    child = face.start(write)
    await wait_for_waiter(face)
    holder.commit()
    assert await face.join(child) == [(0,), (1,)]
    assert face.aside("SELECT owner, balance FROM lock_account WHERE id = 1") == [("anew", 7)]

"""`guard_reads`: what a flush overwrites is still what the unit has read."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import selectinload
from tests.contract.face import Face, both, result
from tests.pool.pool_face import line

from unitofwork import PropagationError, StaleReadError

from .model import (
    KEYS,
    Account,
    Base,
    Box,
    ByUuid,
    Engineer,
    Entry,
    Label,
    Person,
    Shelf,
    Thing,
    made,
)
from .test_late import as_function
from .test_rows import accounts


async def test_twenty_units_count_exactly(face: Face) -> None:
    """Read, add one, write, with plain get(): no update is lost."""
    await accounts(face, 1)
    uow = face.make(pool_size=5, guard_reads=True)

    async def work(tx: Any) -> None:
        account = await result(tx.get(Account, 0))
        account.balance += 1

    async def child() -> None:
        from unitofwork import RetryPolicy

        await result(uow.run(as_function(face, work), retry=RetryPolicy(attempts=50)))

    children = [face.start(child) for _ in range(20)]
    for one in children:
        await face.join(one)
    assert face.aside("SELECT balance FROM lock_account") == [(20,)]


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_row_that_was_changed_meanwhile(face: Face, guarded: bool) -> None:
    """With the guard an error that may be retried; without it the change is overwritten."""
    await accounts(face, 2)

    async def change() -> None:
        async with both(face.uow(guard_reads=guarded)) as tx:
            account = await result(tx.get(Account, 0))
            face.aside("UPDATE lock_account SET balance = 7 WHERE id = 0")
            account.balance += 1

    if guarded:
        with pytest.raises(StaleReadError, match="balance was 0, is 7"):
            await change()
    else:
        await change()
    left = face.aside("SELECT balance FROM lock_account WHERE id = 0")
    assert left == [(7,) if guarded else (1,)]


async def test_the_line_of_the_flush_is_told(face: Face) -> None:
    """And what to do about it, which is nothing of a release."""
    await accounts(face, 1)

    async def change() -> None:
        async with face.uow(guard_reads=True) as tx:
            (await tx.get(Account, 0)).balance += 1
            face.aside("UPDATE lock_account SET balance = 7 WHERE id = 0")
            await tx.flush()  # tasks

    def change_in_a_thread() -> None:
        with face.uow(guard_reads=True) as tx:
            tx.get(Account, 0).balance += 1
            face.aside("UPDATE lock_account SET balance = 7 WHERE id = 0")
            tx.flush()  # threads

    with pytest.raises(StaleReadError) as caught:
        await change() if face.is_async else change_in_a_thread()
    number = line(__file__, "tasks" if face.is_async else "threads")
    assert f"test_guard_reads.py:{number} in " in caught.value.what
    assert "tx.lock()" in caught.value.remedy
    assert "recheck" not in caught.value.remedy


async def test_what_was_read_under_a_lock_is_not_read_again(
    face: Face, statements: list[str]
) -> None:
    """The lock has kept it as it was."""
    await accounts(face, 2)
    async with both(face.uow(guard_reads=True)) as tx:
        account = await result(tx.lock(Account, 0))
        account.balance += 1
        statements.clear()
    assert [one.split()[0] for one in statements] == ["UPDATE"]


async def test_one_query_locks_and_compares(face: Face, statements: list[str]) -> None:
    """Rows of one class cost one statement more than the flush alone, however many they are."""
    await accounts(face, 3)
    async with both(face.uow(guard_reads=True)) as tx:
        rows = [await result(tx.get(Account, number)) for number in range(3)]
        for row in rows:
            row.balance += 1
        statements.clear()
    assert [one.split()[0] for one in statements] == ["WITH", "UPDATE"]


async def test_a_row_that_is_gone(face: Face) -> None:
    """It is told as such, before the flush would miss it."""
    await accounts(face, 2)
    with pytest.raises(StaleReadError, match=r"lock_account \(1,\).*deleted"):
        async with both(face.uow(guard_reads=True)) as tx:
            rows = [await result(tx.get(Account, number)) for number in range(2)]
            face.aside("DELETE FROM lock_account WHERE id = 1")
            for row in rows:
                row.balance += 1


async def test_rows_of_two_classes(face: Face) -> None:
    """What one query can't compare is locked first, and then compared."""
    await accounts(face, 2)
    face.aside("INSERT INTO lock_entry VALUES (1, 0)")
    with pytest.raises(StaleReadError, match="owner was 'me', is 'x'"):
        async with both(face.uow(guard_reads=True)) as tx:
            account = await result(tx.get(Account, 0))
            entry = await result(tx.get(Entry, 1))
            face.aside("UPDATE lock_account SET owner = 'x' WHERE id = 0")
            account.balance += 1
            entry.account_id = 1


async def test_one_s_own_writes_are_no_surprise(face: Face) -> None:
    """A second flush compares with what the first one wrote."""
    await accounts(face, 2)
    async with both(face.uow(guard_reads=True)) as tx:
        account = await result(tx.get(Account, 0))
        for _ in range(3):
            account.balance += 1
            await result(tx.flush())
    assert face.aside("SELECT balance FROM lock_account WHERE id = 0") == [(3,)]


async def test_a_joined_block_can_t_ask_for_it(face: Face) -> None:
    """The flush is the outer unit's."""
    async with both(face.uow()):
        with pytest.raises(PropagationError, match="guard_reads"):
            async with both(face.uow(guard_reads=True)):
                pass


TABLE: Any = Account.__table__
#: What locks a row, and leaves an object as it is that was read before.
LOCKS: dict[str, Any] = {
    "update of one row": lambda: update(Account).where(Account.id == 0).values(owner="mine"),
    "update of what it finds": lambda: (
        update(Account).where(Account.owner == "me").values(owner="mine")
    ),
    "update of the table": lambda: update(TABLE).values(owner="mine"),
    "upsert": lambda: (
        insert(Account)
        .values(id=0, owner="new", balance=0)
        .on_conflict_do_update(index_elements=["id"], set_={"owner": "mine"})
    ),
}


@pytest.mark.parametrize("kind", [*LOCKS])
@pytest.mark.parametrize("others", [True, False])
async def test_a_statement_locks_what_was_read_before(face: Face, kind: str, others: bool) -> None:
    """Held is not read under a lock: another one's change is found, the unit's own is none."""
    await accounts(face, 1)

    async def change() -> None:
        async with both(face.uow(guard_reads=True)) as tx:
            account = await result(tx.get(Account, 0))
            if others:
                face.aside("UPDATE lock_account SET balance = 100 WHERE id = 0")
            await result(tx.execute(LOCKS[kind]()))
            account.balance += 1

    if others:
        with pytest.raises(StaleReadError, match="balance was 0, is 100"):
            await change()
    else:
        await change()
        assert face.aside("SELECT owner, balance FROM lock_account") == [("mine", 1)]


async def test_what_came_before_the_lock_stays_known(face: Face) -> None:
    """A first flush that leaves the column alone makes a second one no better."""
    await accounts(face, 1)
    async with both(face.uow(guard_reads=True)) as tx:
        account = await result(tx.get(Account, 0))
        face.aside("UPDATE lock_account SET balance = 100 WHERE id = 0")
        await result(tx.execute(LOCKS["update of the table"]()))
        account.owner = "you"
        with pytest.raises(StaleReadError, match="owner was 'me', is 'mine'"):
            await result(tx.flush())
        await result(tx.refresh(account, ["owner"]))
        for owner in ("you", "they"):
            account.owner = owner
            await result(tx.flush())
        account.balance += 1
        with pytest.raises(StaleReadError, match="balance was 0, is 100"):
            await result(tx.flush())
        await result(tx.refresh(account))
        account.balance += 1
    assert face.aside("SELECT owner, balance FROM lock_account") == [("they", 101)]


@pytest.mark.parametrize("others", [True, False])
async def test_a_declared_row_was_read_before(face: Face, others: bool) -> None:
    """The same with a row that a flush locks because a trigger writes it."""
    await accounts(face, 1)
    face.aside("INSERT INTO lock_entry VALUES (1, 0), (2, 0)")
    uow = face.make(guard_reads=True)
    uow.writes_also(Entry, lambda entry: [(Account, entry.account_id)])

    async def change() -> None:
        async with both(uow()) as tx:
            account = await result(tx.get(Account, 0))
            if others:
                face.aside("UPDATE lock_account SET balance = 100 WHERE id = 0")
            await result(tx.delete(await result(tx.get(Entry, 1))))
            await result(tx.flush())
            account.balance += 1

    if others:
        with pytest.raises(StaleReadError, match="balance was 0, is 100"):
            await change()
    else:
        await change()


async def test_what_is_read_of_a_locked_row(face: Face, statements: list[str]) -> None:
    """What a statement has locked before it was read is not read again; nor what was inserted."""
    await accounts(face, 1)
    async with both(face.uow(guard_reads=True)) as tx:
        await result(tx.execute(LOCKS["update of one row"]()))
        account = await result(tx.get(Account, 0))
        new = Account(id=1)
        tx.add(new)
        await result(tx.flush())
        account.balance = new.balance = 7
        statements.clear()
    assert [one.split()[0] for one in statements] == ["UPDATE"]


async def test_a_lock_of_the_base_is_none_of_the_sub_table(face: Face) -> None:
    """`tx.lock` of a base class holds one of the two rows that an object has."""
    face.aside("INSERT INTO lock_person VALUES (1, 'engineer')")
    face.aside("INSERT INTO lock_engineer VALUES (1, 0)")
    with pytest.raises(StaleReadError, match=r"lock_engineer .* n was 0, is 9"):
        async with both(face.uow(guard_reads=True)) as tx:
            engineer = await result(tx.get(Engineer, 1))
            await result(tx.lock(Person, 1))
            await result(tx.refresh(engineer))
            face.aside("UPDATE lock_engineer SET n = 9")
            engineer.n += 1


async def test_a_child_that_changes_its_parent(face: Face) -> None:
    """Its row is written although nobody has set anything of it."""
    face.aside("INSERT INTO lock_shelf VALUES (1, 0), (2, 0), (3, 0)")
    face.aside("INSERT INTO lock_box VALUES (1, 1)")
    with pytest.raises(StaleReadError, match=r"lock_box .* shelf_id was 1, is 3"):
        async with both(face.uow(guard_reads=True)) as tx:
            load = [selectinload(Shelf.boxes)]
            here, there = [await result(tx.get(Shelf, n, options=load)) for n in (1, 2)]
            face.aside("UPDATE lock_box SET shelf_id = 3")
            there.boxes.append(here.boxes.pop())


async def test_an_orphan(face: Face) -> None:
    """What is deleted because it was taken out of a collection must be as it was read."""
    face.aside("INSERT INTO lock_box VALUES (1, NULL)")
    face.aside("INSERT INTO lock_thing VALUES (1, 1, 0)")
    with pytest.raises(StaleReadError, match=r"lock_thing .* n was 0, is 7"):
        async with both(face.uow(guard_reads=True)) as tx:
            box = await result(tx.get(Box, 1, options=[selectinload(Box.things)]))
            face.aside("UPDATE lock_thing SET n = 7")
            box.things.clear()
    assert face.aside("SELECT n FROM lock_thing") == [(7,)]
    async with both(face.uow(guard_reads=True)) as tx:
        box = await result(tx.get(Box, 1, options=[selectinload(Box.things)]))
        box.things.clear()
        box.things.append(Thing(id=2))
    assert face.aside("SELECT id FROM lock_thing") == [(2,)]


async def test_a_row_that_is_not_written(face: Face) -> None:
    """A collection in a table of its own, or a value set to what it was, overwrites nothing."""
    face.aside("INSERT INTO lock_shelf VALUES (1, 0)")
    face.aside("INSERT INTO lock_label VALUES (1)")
    async with both(face.uow(guard_reads=True)) as tx:
        shelf = await result(tx.get(Shelf, 1, options=[selectinload(Shelf.labels)]))
        face.aside("UPDATE lock_shelf SET n = 7")
        shelf.n = 0
        shelf.labels.append(await result(tx.get(Label, 1)))
    assert face.aside("SELECT n FROM lock_shelf") == [(7,)]
    assert face.aside("SELECT label_id FROM lock_shelf_label") == [(1,)]


class Undo(Exception):
    pass


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("others", [True, False])
async def test_a_lock_that_a_savepoint_has_let_go(face: Face, guarded: bool, others: bool) -> None:
    """What was read under it stays readable, and is compared when it is overwritten."""
    await accounts(face, 1)

    async def change() -> None:
        async with both(face.uow(guard_reads=guarded)) as tx:
            with pytest.raises(Undo):
                async with both(tx.savepoint()):
                    account = await result(tx.lock(Account, 0))
                    raise Undo
            if others:
                face.aside("UPDATE lock_account SET balance = 100 WHERE id = 0")
            account.balance += 1

    if others:
        with pytest.raises(StaleReadError, match="balance was 0, is 100"):
            await change()
    else:
        await change()
        assert face.aside("SELECT balance FROM lock_account") == [(1,)]


async def test_a_lock_that_is_taken_again(face: Face, statements: list[str]) -> None:
    """After a rollback to a savepoint it makes the object good again."""
    await accounts(face, 1)
    async with both(face.uow()) as tx:
        with pytest.raises(Undo):
            async with both(tx.savepoint()):
                account = await result(tx.lock(Account, 0))
                raise Undo
        face.aside("UPDATE lock_account SET balance = 100 WHERE id = 0")
        await result(tx.lock(Account, 0))
        account.balance += 1
        statements.clear()
    assert [one.split()[0] for one in statements] == ["UPDATE"]
    assert face.aside("SELECT balance FROM lock_account") == [(101,)]


async def test_a_key_that_was_given_as_text(face: Face) -> None:
    """The row comes back with its key in another form; it is the same row, and not deleted."""
    key = uuid.UUID(int=5)
    async with both(face.uow()) as tx:
        row = ByUuid(key=str(key))
        tx.add(row)
        async with both(tx.released(commit=True)):
            pass
        row.n = 3
    assert face.aside("SELECT key, n FROM lock_by_uuid") == [(key, 3)]


@pytest.mark.parametrize("entity", [one for one in KEYS if hasattr(one, "n")])
async def test_keys_of_any_type(face: Face, entity: type[Base]) -> None:
    """Several rows are compared at a flush and after a release, whatever their keys."""
    async with both(face.uow()) as tx:
        tx.add_all([made(entity, key) for key in KEYS[entity]])
    async with both(face.uow(guard_reads=True)) as tx:
        await result(tx.get(Account, 0))
        rows = (await result(tx.scalars(select(entity)))).all()
        async with both(tx.released()):
            pass
        for row in rows:
            row.n += 1
    assert face.aside(f"SELECT DISTINCT n FROM {entity.__tablename__}") == [(1,)]

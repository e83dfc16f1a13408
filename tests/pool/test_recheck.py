"""Back from the outside world: the rows that were read are read again and compared."""

from __future__ import annotations

import decimal
import gc
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.probe import ServerProbe

from unitofwork import ConfigurationError, Outcome, StaleReadError

from .model import Account, Boss, Employee, Oddity, Person, Seat, Versioned
from .pool_face import PoolFace, both, result, statements

#: Of each kind of row: how it is got, the change behind its back, and what the error tells.
CHANGES: dict[str, tuple[Any, Any, str, tuple[Any, ...]]] = {
    "one column": (
        *(Account, 1, "UPDATE pool_account SET balance = 7 WHERE id = 1"),
        ("pool_account", (1,), "balance", 100, 7),
    ),
    "to null": (
        *(Account, 1, "UPDATE pool_account SET note = NULL WHERE id = 1"),
        ("pool_account", (1,), "note", "note", None),
    ),
    "version": (
        *(Versioned, 1, "UPDATE pool_versioned SET version = 2 WHERE id = 1"),
        ("pool_versioned", (1,), "version", 1, 2),
    ),
    "composite key": (
        *(Seat, ("A", 2), "UPDATE pool_seat SET guest = 'cid' WHERE seat_row = 'A' AND number = 2"),
        ("pool_seat", ("A", 2), "guest", None, "cid"),
    ),
    "own table of a joined class": (
        *(Employee, 1, "UPDATE pool_employee SET salary = 11 WHERE id = 1"),
        ("pool_employee", (1,), "salary", 10, 11),
    ),
    "single table": (
        *(Boss, 2, "UPDATE pool_person SET car = 'blue' WHERE id = 2"),
        ("pool_person", (2,), "car", "red", "blue"),
    ),
}


@pytest.mark.parametrize("kind", [*CHANGES])
async def test_a_change_is_found(face: PoolFace, bank: Any, probe: ServerProbe, kind: str) -> None:
    """`StaleReadError` with table, key, column, old and new; the unit is rolled back."""
    entity, key, sql, told = CHANGES[kind]
    with pytest.raises(StaleReadError) as caught:
        async with both(bank(name="reader")) as tx:
            row = await result(tx.get(entity, key))
            async with both(tx.released()):
                probe.execute(sql)
    assert row is not None
    (stale,) = caught.value.rows
    assert (stale.table, stale.key, stale.column, stale.old, stale.new) == told
    for part in ("'reader'", told[0], repr(told[1]), repr(told[3]), repr(told[4])):
        assert part in str(caught.value)
    assert "recheck='refresh'" in caught.value.remedy
    assert tx.outcome is Outcome.ROLLED_BACK


async def test_the_parents_table_of_a_joined_class(bank: Any, rows: None, probe: Any) -> None:
    """A column that an entity inherits is compared like its own."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank()) as tx:
            row = await result(tx.get(Employee, 1))
            async with both(tx.released()):
                probe.execute("UPDATE pool_person SET count = 4 WHERE id = 1")
    assert row is not None
    (stale,) = caught.value.rows
    assert stale == ("pool_person", (1,), "count", 0, 4)


async def test_polymorphic_rows(bank: Any, rows: None, probe: ServerProbe) -> None:
    """Rows of several classes that one query has read are all compared."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank()) as tx:
            people = (await result(tx.scalars(select(Person).order_by(Person.id)))).all()
            async with both(tx.released()):
                probe.execute("UPDATE pool_person SET count = 4 WHERE id IN (2, 3)")
    assert len(people) == 3
    assert sorted(stale.key for stale in caught.value.rows) == [(2,), (3,)]


async def test_a_deleted_row(bank: Any, rows: None, probe: ServerProbe) -> None:
    """A row that is gone is a change; `column` is None."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank()) as tx:
            row = await result(tx.get(Account, 2))
            async with both(tx.released()):
                probe.execute("DELETE FROM pool_account WHERE id = 2")
    assert row.id == 2
    (stale,) = caught.value.rows
    assert (stale.table, stale.key, stale.column) == ("pool_account", (2,), None)


@pytest.mark.parametrize("kind", [*CHANGES])
async def test_refresh(bank: Any, rows: None, probe: ServerProbe, kind: str) -> None:
    """`recheck="refresh"` takes the new values over, and they are what a write builds on."""
    entity, key, sql, told = CHANGES[kind]
    async with both(bank()) as tx:
        row = await result(tx.get(entity, key))
        async with both(tx.released(recheck="refresh")):
            probe.execute(sql)
        assert getattr(row, told[2]) == told[4]
        async with both(tx.released()):
            pass
    assert tx.outcome is Outcome.COMMITTED


async def test_refresh_can_not_bring_a_row_back(bank: Any, rows: None, probe: ServerProbe) -> None:
    """With "refresh" a row that is gone still raises: there is nothing to take over."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank()) as tx:
            row = await result(tx.get(Account, 2))
            async with both(tx.released(recheck="refresh")):
                probe.execute("DELETE FROM pool_account WHERE id = 2")
    assert row.id == 2
    assert "recheck='refresh'" not in caught.value.remedy


async def test_ignore(bank: Any, rows: None, probe: ServerProbe) -> None:
    """`recheck="ignore"` reads nothing again: the old values stay, on the caller's own account."""
    async with both(bank()) as tx:
        row = await result(tx.get(Account, 1))
        async with both(tx.released(recheck="ignore")):
            probe.execute("UPDATE pool_account SET balance = 7 WHERE id = 1")
        sent = statements(bank)
        assert row.balance == 100
        assert sent == []
    assert tx.outcome is Outcome.COMMITTED


@pytest.mark.parametrize("recheck", ["raise", "refresh"])
async def test_what_is_equal_is_no_change(bank: Any, rows: None, recheck: str) -> None:
    """Nothing happened: also with NULL, NaN, decimals, times, JSON and bytes; versions; keys."""
    async with both(bank()) as tx:
        kept = [
            (await result(tx.scalars(select(entity)))).all()
            for entity in (Account, Versioned, Seat, Person, Oddity)
        ]
        async with both(tx.released(recheck=recheck)):
            assert [len(each) for each in kept] == [3, 3, 3, 3, 2]
    assert tx.outcome is Outcome.COMMITTED


async def test_an_array_in_a_row(bank: Any, rows: None, probe: ServerProbe) -> None:
    """Values that answer `==` element by element are compared as a whole."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank()) as tx:
            row = await result(tx.get(Oddity, 1))
            async with both(tx.released()):
                probe.execute("UPDATE pool_oddity SET vector = '1,3' WHERE id = 1")
    assert row is not None
    (stale,) = caught.value.rows
    assert stale.column == "vector"
    assert stale.new.numbers == (1.0, 3.0)


async def test_columns_that_were_not_loaded_do_not_matter(
    bank: Any, rows: None, probe: ServerProbe
) -> None:
    """A deferred column that nobody has seen may change."""
    async with both(bank()) as tx:
        row = await result(tx.get(Account, 1))
        async with both(tx.released()):
            probe.execute("UPDATE pool_account SET memo_text = 'new' WHERE id = 1")
        row.balance += 1
    assert tx.outcome is Outcome.COMMITTED


async def test_rows_that_were_not_read_do_not_matter(
    bank: Any, rows: None, probe: ServerProbe
) -> None:
    """A neighbour may change."""
    async with both(bank()) as tx:
        row = await result(tx.get(Account, 1))
        async with both(tx.released()):
            probe.execute("UPDATE pool_account SET balance = 7 WHERE id = 2")
    assert row.balance == 100


async def test_many_rows_in_few_statements(bank: Any, rows: None, probe: ServerProbe) -> None:
    """A thousand rows of one table are read again in a handful of statements, not one each."""
    probe.execute(
        "INSERT INTO pool_account (id, balance) SELECT n, n FROM generate_series(1001, 2000) n"
    )
    async with both(bank()) as tx:
        kept = (await result(tx.scalars(select(Account).where(Account.id > 1000)))).all()
        sent = statements(bank)
        async with both(tx.released()):
            assert len(kept) == 1000
        assert 1 <= len(sent) <= 4


async def test_a_row_that_the_code_let_go_of(bank: Any, rows: None, probe: ServerProbe) -> None:
    """A decision was made on it: that its object is not kept doesn't make it less read."""
    with pytest.raises(StaleReadError):
        async with both(bank()) as tx:
            assert (await result(tx.get(Account, 1))).balance >= 100
            gc.collect()
            async with both(tx.released()):
                probe.execute("UPDATE pool_account SET balance = 0 WHERE id = 1")


async def test_a_change_just_before_the_write(bank: Any, rows: None, probe: ServerProbe) -> None:
    """Between the comparison and the flush another one writes: found, not overwritten."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank()) as tx:
            row = await result(tx.get(Account, 1))
            async with both(tx.released()):
                pass
            row.balance += 1
            probe.execute("UPDATE pool_account SET balance = 7 WHERE id = 1")
    assert [(stale.column, stale.old, stale.new) for stale in caught.value.rows] == [
        ("balance", 100, 7)
    ]
    assert probe.execute("SELECT balance FROM pool_account WHERE id = 1") == [(7,)]


async def test_a_second_release_compares_again(bank: Any, rows: None, probe: ServerProbe) -> None:
    """Each release has its own comparison, with what was read since included."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank()) as tx:
            first = await result(tx.get(Account, 1))
            async with both(tx.released()):
                pass
            second = await result(tx.get(Account, 2))
            async with both(tx.released()):
                probe.execute("UPDATE pool_account SET balance = 7 WHERE id IN (1, 2)")
    assert (first.id, second.id) == (1, 2)
    assert sorted(stale.key for stale in caught.value.rows) == [(1,), (2,)]


async def test_the_pair_takes_recheck_at_its_end(bank: Any, rows: None, probe: Any) -> None:
    """`reacquire(recheck=...)` decides; its error leaves a unit that can only roll back."""
    async with both(bank()) as tx:
        row = await result(tx.get(Account, 1))
        await result(tx.release())
        probe.execute("UPDATE pool_account SET balance = 7 WHERE id = 1")
        await result(tx.reacquire(recheck="refresh"))
        assert row.balance == 7


async def test_an_unknown_recheck(bank: Any, rows: None) -> None:
    """Refused before anything is let go."""
    async with both(bank()) as tx:
        await result(tx.get(Account, 1))
        with pytest.raises(ConfigurationError):
            tx.released(recheck="sometimes")
        assert bank.stats().checked_out == 1


async def test_under_repeatable_read(bank: Any, rows: None, probe: ServerProbe) -> None:
    """The new transaction has a new snapshot, so the comparison sees what was committed."""
    with pytest.raises(StaleReadError):
        async with both(bank(isolation="REPEATABLE READ")) as tx:
            row = await result(tx.get(Account, 1))
            async with both(tx.released()):
                probe.execute("UPDATE pool_account SET balance = 7 WHERE id = 1")
    assert row.balance == 100


async def test_a_lock_after_the_return(bank: Any, rows: None, probe: ServerProbe) -> None:
    """What was read anew since, under a lock or not, is what a write builds on."""
    async with both(bank()) as tx:
        first, second = [await result(tx.get(Account, key)) for key in (1, 2)]
        async with both(tx.released()):
            pass
        probe.execute("UPDATE pool_account SET balance = 7")
        await result(tx.lock(Account, 1))
        await result(tx.refresh(second))
        first.balance += 1
        second.balance += 1
    assert probe.execute("SELECT balance FROM pool_account WHERE id < 3") == [(8,), (8,)]


#: Values that come back from the database as others than were sent.
WRITTEN: dict[str, tuple[str, Any]] = {
    "rounded": ("number", decimal.Decimal("1.005")),
    "of another type": ("number", 1.1),
    "padded": ("code", "xyz"),
    "a tuple in JSON": ("data", {"a": (1, 2)}),
    "a number as a key in JSON": ("data", {1: 2}),
}


@pytest.mark.parametrize("kind", [*WRITTEN])
@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("recheck", ["raise", "refresh"])
async def test_one_s_own_write_is_no_change(
    bank: Any, rows: None, probe: ServerProbe, kind: str, guarded: bool, recheck: str
) -> None:
    """What the database made of a value is not another one's doing, release after release."""
    name, value = WRITTEN[kind]
    async with both(bank(guard_reads=guarded)) as tx:
        row, new = await result(tx.get(Oddity, 1)), Oddity(id=9, **{name: value})
        tx.add(new)
        setattr(row, name, value)
        async with both(tx.released(commit=True, recheck=recheck)):
            pass
        async with both(tx.released(recheck=recheck)):
            pass
        row.ratio = new.ratio = 0.5
    assert tx.outcome is Outcome.COMMITTED
    assert probe.execute("SELECT count(*) FROM pool_oddity WHERE ratio = 0.5") == [(2,)]


async def test_own_writes_of_several_parts(bank: Any, rows: None, probe: ServerProbe) -> None:
    """What was learnt of the first part is known in the third."""
    async with both(bank()) as tx:
        row, new = await result(tx.get(Oddity, 1)), Oddity(id=9)
        tx.add(new)
        row.number = decimal.Decimal("1.005")
        async with both(tx.released(commit=True)):
            pass
        row.code = "xyz"
        async with both(tx.released(commit=True)):
            pass
        new.ratio = row.ratio = 0.5
    assert tx.outcome is Outcome.COMMITTED
    assert probe.execute("SELECT count(*) FROM pool_oddity WHERE ratio = 0.5") == [(2,)]


async def test_what_a_trigger_has_set(bank: Any, rows: None, probe: ServerProbe) -> None:
    """That belongs to the unit's own write too."""
    probe.execute(
        "CREATE OR REPLACE FUNCTION pool_touch() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$"
    )
    probe.execute(
        "CREATE OR REPLACE TRIGGER pool_touch BEFORE UPDATE ON pool_account "
        "FOR EACH ROW EXECUTE FUNCTION pool_touch()"
    )
    try:
        async with both(bank()) as tx:
            row = await result(tx.get(Account, 1))
            row.balance += 1
            async with both(tx.released(commit=True)):
                pass
            row.balance += 1
    finally:
        probe.execute("DROP TRIGGER pool_touch ON pool_account")
    assert probe.execute("SELECT balance FROM pool_account WHERE id = 1") == [(102,)]


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_change_of_what_one_has_written(
    bank: Any, rows: None, probe: ServerProbe, guarded: bool
) -> None:
    """After a commit another one may write the same column: that is found."""
    with pytest.raises(StaleReadError) as caught:
        async with both(bank(guard_reads=guarded)) as tx:
            row = await result(tx.get(Account, 1))
            row.balance += 1
            async with both(tx.released(commit=True)):
                probe.execute("UPDATE pool_account SET balance = 7 WHERE id = 1")
    assert caught.value.rows == (("pool_account", (1,), "balance", 101, 7),)

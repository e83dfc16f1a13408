"""What a block does about the unit that its task is in: the five propagations."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from unitofwork import (
    NestedUnitError,
    NoUnitError,
    Outcome,
    Propagation,
    PropagationError,
    SilentRollbackError,
    current,
)

from .face import Face, both, checked_out, pool_events, result
from .model import Item


async def add(tx: Any, number: int) -> None:
    tx.add(Item(id=number, name=f"item {number}"))
    await result(tx.flush())


async def fail_joined(face: Face) -> None:
    """A joined block that adds an item and is left by an error."""
    async with both(face.uow()) as tx:
        await add(tx, 7)
        raise LookupError("in the joined block")


# --- each propagation, without and with a unit around it


@pytest.mark.parametrize("propagation", ["required", "requires_new", "nested", "never"])
async def test_without_a_unit_one_is_opened(face: Face, propagation: Any) -> None:
    """All but "mandatory" open a unit where there is none."""
    with pytest.raises(NoUnitError):
        current()
    async with both(face.uow(propagation=propagation)) as tx:
        assert current() is tx
        await add(tx, 1)
    assert tx.outcome is Outcome.COMMITTED
    assert face.names() == ["item 1"]
    with pytest.raises(NoUnitError):
        current()


async def test_mandatory_needs_a_unit(face: Face) -> None:
    """Without one it is refused before any I/O, and says how to open one."""
    events = pool_events(face.uow)
    with pytest.raises(NoUnitError, match="mandatory") as caught:
        async with both(face.uow(propagation="mandatory")):
            pass
    assert "with uow() as tx" in caught.value.remedy
    assert events == []


@pytest.mark.parametrize("propagation", ["required", "mandatory", Propagation.REQUIRED])
async def test_a_joining_block_is_part_of_the_outer_unit(face: Face, propagation: Any) -> None:
    """Same transaction, same connection; only the outermost end commits, or undoes all."""
    with pytest.raises(LookupError):
        async with both(face.uow()) as outer:
            await add(outer, 1)
            async with both(face.uow(propagation=propagation)) as inner:
                assert inner is outer
                await add(inner, 2)
                assert checked_out(face.uow) == 1
            assert outer.outcome is Outcome.PENDING
            assert current() is outer
            if face.is_postgres:
                assert face.names() == []
            raise LookupError
    assert face.names() == []
    async with both(face.uow()) as outer:
        async with both(face.uow(propagation=propagation)) as inner:
            await add(inner, 3)
    assert face.names() == ["item 3"]


async def test_requires_new_commits_by_itself(face: Face) -> None:
    """The inner unit has its own connection and end; the outer one's rollback leaves it."""
    with pytest.raises(LookupError):
        async with both(face.uow(connections=2)) as outer:
            if face.is_postgres:  # SQLite has one writer at a time
                await add(outer, 1)
            async with both(face.uow(propagation="requires_new")) as inner:
                assert inner is not outer
                assert current() is inner
                await add(inner, 2)
                assert checked_out(face.uow) == (2 if face.is_postgres else 1)
            assert current() is outer
            assert inner.outcome is Outcome.COMMITTED
            assert face.names() == ["item 2"]
            await add(outer, 3)
            raise LookupError
    assert outer.outcome is Outcome.ROLLED_BACK
    assert face.names() == ["item 2"]


async def test_requires_new_fails_by_itself(face: Face) -> None:
    """Its failure, caught outside, does not touch the outer unit."""
    async with both(face.uow(connections=2)) as outer:
        with pytest.raises(LookupError):
            async with both(face.uow(propagation="requires_new")) as inner:
                await add(inner, 1)
                raise LookupError
        await add(outer, 2)
    assert inner.outcome is Outcome.ROLLED_BACK
    assert face.names() == ["item 2"]


async def test_requires_new_needs_a_reservation(face: Face) -> None:
    """A second connection that the tree did not reserve is refused at once, with both places."""
    async with both(face.uow()) as outer:
        await add(outer, 1)
        with pytest.raises(NestedUnitError) as caught:
            async with both(face.uow(propagation="requires_new")):
                pass
        assert current() is outer
        await add(outer, 2)
    assert "connections=2" in caught.value.remedy
    assert caught.value.outer_opened_at.file == __file__
    assert caught.value.inner_opened_at.line > caught.value.outer_opened_at.line
    assert face.names() == ["item 1", "item 2"]


@pytest.mark.parametrize("spelling", ["nested", "savepoint"])
async def test_nested_rolls_back_alone(face: Face, spelling: str) -> None:
    """An error that leaves the inner block undoes its part; the outer unit commits the rest."""

    def block(tx: Any) -> Any:
        return both(face.uow(propagation="nested") if spelling == "nested" else tx.savepoint())

    async with both(face.uow()) as tx:
        tx.add(Item(id=1, name="before"))  # pending: the savepoint comes after it
        error = LookupError()
        with pytest.raises(LookupError) as caught:
            async with block(tx):
                await add(tx, 2)
                raise error
        assert caught.value is error
        assert tx.outcome is Outcome.PENDING
        async with block(tx):
            await add(tx, 3)
    assert face.names() == ["before", "item 3"]


async def test_nested_in_nested(face: Face) -> None:
    """A savepoint in a savepoint: each failure undoes as far as it was let through."""
    async with both(face.uow()) as tx:
        with pytest.raises(LookupError):
            async with both(face.uow(propagation="nested")) as outer:
                assert outer is tx
                await add(tx, 1)
                async with both(face.uow(propagation="nested")):
                    await add(tx, 2)
                raise LookupError
        async with both(face.uow(propagation="nested")):
            await add(tx, 3)
            with pytest.raises(LookupError):
                async with both(face.uow(propagation="nested")):
                    await add(tx, 4)
                    raise LookupError
    assert face.names() == ["item 3"]


async def test_a_statement_that_failed_in_a_savepoint_is_undone_with_it(face: Face) -> None:
    """A duplicate key, caught outside of the savepoint, costs the outer unit nothing."""
    face.aside("INSERT INTO item VALUES (1, 'there')")
    async with both(face.uow()) as tx:
        await add(tx, 2)
        with pytest.raises(Exception, match=r"(?i)unique"):
            async with both(tx.savepoint()):
                await add(tx, 1)
        await add(tx, 3)
    assert face.names() == ["there", "item 2", "item 3"]


async def test_never_refuses_a_unit(face: Face) -> None:
    """Inside a unit it is refused, naming the outer one; the outer one goes on."""
    async with both(face.uow(name="outer")) as outer:
        with pytest.raises(PropagationError, match="never") as caught:
            async with both(face.uow(propagation="never")):
                pass
        assert caught.value.outer_name == "outer"
        assert caught.value.outer_opened_at.file == __file__
        await add(outer, 1)
    assert face.names() == ["item 1"]


# --- failures that were caught in between


async def test_a_joined_failure_dooms_the_outer_unit(face: Face) -> None:
    """Caught outside of the joined block, it still can't be half committed: the end says so."""
    with pytest.raises(SilentRollbackError) as caught:
        async with both(face.uow(name="outer")) as outer:
            await add(outer, 1)
            try:
                await fail_joined(face)
            except LookupError as error:
                swallowed = error
            await add(outer, 2)
    assert caught.value.swallowed is swallowed
    assert caught.value.raised_at.function == "fail_joined"
    assert caught.value.raised_at.file == __file__
    assert "outer" in str(caught.value)
    assert outer.outcome is Outcome.ROLLED_BACK
    assert face.names() == []


async def test_an_error_after_a_joined_failure_arrives_itself(face: Face) -> None:
    """The unit rolls back anyway: what leaves the outer block is not replaced."""
    error = KeyError("later")
    with pytest.raises(KeyError) as caught:
        async with both(face.uow()):
            with pytest.raises(LookupError):
                await fail_joined(face)
            raise error
    assert caught.value is error


async def test_a_joined_failure_stays_inside_a_savepoint(face: Face) -> None:
    """Undone by the savepoint around it, it does not doom the outer unit."""
    async with both(face.uow()) as outer:
        await add(outer, 1)
        with pytest.raises(LookupError):
            async with both(outer.savepoint()):
                await fail_joined(face)
        await add(outer, 2)
    assert face.names() == ["item 1", "item 2"]


async def test_a_joined_failure_swallowed_inside_a_savepoint(face: Face) -> None:
    """The savepoint can't be kept and says so at its own end; the outer unit may go on."""
    async with both(face.uow()) as outer:
        await add(outer, 1)
        with pytest.raises(SilentRollbackError) as caught:
            async with both(outer.savepoint()):
                with pytest.raises(LookupError):
                    await fail_joined(face)
        assert isinstance(caught.value.swallowed, LookupError)
        await add(outer, 2)
    assert face.names() == ["item 1", "item 2"]


async def test_a_joined_failure_before_a_savepoint(face: Face) -> None:
    """A savepoint that goes well in between neither pays for it nor makes it forgotten."""
    reached = False
    with pytest.raises(SilentRollbackError) as caught:
        async with both(face.uow()) as outer:
            with pytest.raises(LookupError):
                await fail_joined(face)
            async with both(outer.savepoint()):
                await add(outer, 1)
            await add(outer, 2)
            reached = True
    assert reached
    assert isinstance(caught.value.swallowed, LookupError)
    assert face.names() == []


# --- rollback without an error


async def test_set_rollback_only(face: Face) -> None:
    """The block ends without an error and nothing is kept; its rollback callbacks run."""
    seen = []
    async with both(face.uow()) as tx:
        await add(tx, 1)
        tx.on_rollback(lambda: seen.append("rolled back"))
        tx.on_commit(lambda: seen.append("committed"))
        tx.set_rollback_only()
        await result(tx.execute(text("SELECT 1")))
    assert tx.outcome is Outcome.ROLLED_BACK
    assert seen == ["rolled back"]
    assert face.names() == []


@pytest.mark.parametrize("propagation", ["required", "nested"])
async def test_set_rollback_only_holds_for_the_whole_unit(face: Face, propagation: Any) -> None:
    """Asked for in an inner block, it is the outermost end that rolls back."""
    async with both(face.uow()) as outer:
        async with both(face.uow(propagation=propagation)) as inner:
            await add(inner, 1)
            inner.set_rollback_only()
        assert outer.outcome is Outcome.PENDING
        await add(outer, 2)
    assert outer.outcome is Outcome.ROLLED_BACK
    assert face.names() == []


# --- engines


async def test_units_of_different_engines_do_not_join(face: Face) -> None:
    """Each engine has its own transaction; a third block finds that of its own engine."""
    elsewhere = face.make()
    async with both(face.uow()) as one:
        async with both(elsewhere()) as two:
            assert two is not one
            assert current() is two
            async with both(face.uow()) as three:
                assert three is one
            with pytest.raises(NoUnitError):
                async with both(face.make()(propagation="mandatory")):
                    pass
            await add(two, 1)
        assert face.names() == ["item 1"]
        assert current() is one


async def test_units_of_work_over_one_engine_join(face: Face) -> None:
    """A second object over the same engine, or a copy of it, is no other database."""
    kind = type(face.uow)
    copy = face.uow.engine.execution_options(logging_token="copy")
    async with both(face.uow()) as one:
        async with both(kind(face.uow.engine)()) as two, both(kind(copy)()) as three:
            assert one is two is three

"""`@transactional` in its three spellings: a unit around each call, or part of the caller's."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from sqlalchemy import text

from unitofwork import (
    CURRENT,
    Outcome,
    PropagationError,
    SilentRollbackError,
    current,
    transactional,
)

from .face import Face, both, pool_events, result
from .model import Item

SPELLINGS: dict[str, Any] = {
    "bare": lambda uow: transactional,
    "bare with options": lambda uow: transactional(isolation="SERIALIZABLE"),
    "of the library": lambda uow: transactional(uow),
    "of the library with options": lambda uow: transactional(uow, isolation="SERIALIZABLE"),
    "of the unit of work": lambda uow: uow.transactional,
    "called": lambda uow: uow.transactional(),
    "of the unit of work with options": lambda uow: uow.transactional(isolation="SERIALIZABLE"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_each_spelling_runs_the_call_in_a_unit(face: Face, spelling: str) -> None:
    """The unit commits when the function returns; its value comes back."""

    @SPELLINGS[spelling](face.uow)
    @face.function
    async def add(number: int, *, tx: Any = CURRENT) -> Any:
        assert current() is tx
        tx.add(Item(id=number, name=f"item {number}"))
        return tx

    async with both(face.uow.lifespan()):
        tx = await result(add(1))
        assert tx.outcome is Outcome.COMMITTED
        assert await result(add(number=2)) is not tx
        assert face.names() == ["item 1", "item 2"]


async def test_an_error_rolls_back(face: Face) -> None:
    """The very object that the function raised arrives, and nothing was kept."""
    error = LookupError("mine")

    @face.uow.transactional
    @face.function
    async def add(*, tx: Any = CURRENT) -> None:
        tx.add(Item(id=1, name="one"))
        await result(tx.flush())
        raise error

    with pytest.raises(LookupError) as caught:
        await result(add())
    assert caught.value is error
    assert face.names() == []


async def test_it_joins_the_callers_unit(face: Face) -> None:
    """In a unit, or called by another such function: one transaction, one end."""

    @face.uow.transactional
    @face.function
    async def inner(number: int, *, tx: Any = CURRENT) -> Any:
        tx.add(Item(id=number, name=f"item {number}"))
        return tx

    @face.uow.transactional
    @face.function
    async def outer(*, tx: Any = CURRENT) -> None:
        assert await result(inner(1)) is tx
        assert await result(inner(2, tx=tx)) is tx
        assert tx.outcome is Outcome.PENDING

    await result(outer())
    assert face.names() == ["item 1", "item 2"]
    with pytest.raises(LookupError):
        async with both(face.uow()) as tx:
            assert await result(inner(3)) is tx
            raise LookupError
    assert face.names() == ["item 1", "item 2"]


async def test_a_bare_one_joins_whatever_unit_is_running(face: Face) -> None:
    """Inside a unit there is no doubt which unit of work is meant, however many there are."""
    face.make()

    @transactional
    @face.function
    async def look(*, tx: Any = CURRENT) -> Any:
        return tx

    async with both(face.uow()) as tx:
        assert await result(look()) is tx


async def test_its_failure_dooms_the_callers_unit(face: Face) -> None:
    """Caught in the caller, it still can't be half committed."""

    @face.uow.transactional
    @face.function
    async def fail() -> None:
        raise LookupError

    with pytest.raises(SilentRollbackError):
        async with both(face.uow()) as tx:
            tx.add(Item(id=1, name="one"))
            with pytest.raises(LookupError):
                await result(fail())
    assert face.names() == []


async def test_its_options_hold(face: Face) -> None:
    """They are those of the unit that it opens, and must agree with one that it joins."""

    @face.uow.transactional(propagation="requires_new", name="mine")
    @face.function
    async def separate(*, tx: Any = CURRENT) -> Any:
        return tx

    @face.uow.transactional(isolation="SERIALIZABLE")
    @face.function
    async def serializable() -> None:
        raise AssertionError("must not run")

    async with both(face.uow(connections=2)) as tx:
        own = await result(separate())
        assert own is not tx
        assert own.name == "mine"
        with pytest.raises(PropagationError, match="isolation"):
            await result(serializable())
    assert tx.outcome is Outcome.COMMITTED


async def test_methods(face: Face) -> None:
    """Methods, class methods and static methods, with `tx` filled in as for functions."""

    class Service:
        name = "service"

        @face.uow.transactional
        @face.function
        async def method(self, number: int, tx: Any = CURRENT) -> str:
            assert current() is tx
            return f"{self.name} {number}"

        @classmethod
        @face.uow.transactional
        @face.function
        async def of_class(cls, number: int, tx: Any = CURRENT) -> str:
            assert current() is tx
            return f"{cls.name} {number}"

        @staticmethod
        @face.uow.transactional
        @face.function
        async def static(number: int, tx: Any = CURRENT) -> str:
            assert current() is tx
            return f"{tx.name} {number}"

    assert await result(Service().method(1)) == "service 1"
    assert await result(Service.of_class(2)) == "service 2"
    assert await result(Service.static(number=3)) == f"{Service.static.__qualname__} 3"


async def test_a_transaction_passed_by_hand(face: Face) -> None:
    """By keyword or position it must be the unit's own: anything else is refused, not ignored."""

    @face.uow.transactional
    @face.function
    async def look(number: int, tx: Any = CURRENT, *more: int, **others: int) -> Any:
        return number, tx, more, others

    async with both(face.uow()) as tx:
        assert await result(look(1)) == (1, tx, (), {})
        assert await result(look(1, tx, 2, three=3)) == (1, tx, (2,), {"three": 3})
        assert await result(look(number=1, tx=tx)) == (1, tx, (), {})
    async with both(face.uow()) as tx:
        with pytest.raises(PropagationError, match="tx="):
            await result(look(1, tx=None))
        tx.set_rollback_only()
    async with both(face.uow()) as other:
        pass
    with pytest.raises(PropagationError, match="look") as caught:
        await result(look(1, other))
    assert "filled in" in caught.value.remedy


async def test_no_parameter_is_needed(face: Face) -> None:
    """A function that uses other functions, or `current()`, takes no `tx`."""
    events = pool_events(face.uow)

    @face.uow.transactional
    @face.function
    async def look(number: int) -> int:
        await result(current().execute(text("SELECT 1")))
        return number

    assert await result(look(1)) == 1
    assert events == ["connect", "checkout", "checkin"]


async def test_it_looks_like_the_function(face: Face) -> None:
    """Name, docstring, signature and colour are the function's; so are wrong arguments' errors."""

    @face.uow.transactional
    @face.function
    async def transfer(amount: int, *, tx: Any = CURRENT) -> int:
        """Moves money."""
        assert tx.name.endswith("transfer")
        return amount

    assert transfer.__name__ == "transfer"
    assert transfer.__doc__ == "Moves money."
    assert transfer.__module__ == __name__
    assert list(inspect.signature(transfer).parameters) == ["amount", "tx"]
    assert inspect.iscoroutinefunction(transfer) is face.is_async
    assert await result(transfer(3)) == 3
    with pytest.raises(TypeError, match="transfer"):
        await result(transfer())


async def test_each_call_has_its_own_unit(face: Face) -> None:
    """Calls in several tasks (threads) at once don't meet."""

    @face.uow.transactional
    @face.function
    async def look(*, tx: Any = CURRENT) -> Any:
        await face.pause(0.05)
        return tx

    async def call() -> Any:
        return await result(look())

    children = [face.start(call) for _ in range(3)]
    seen = [await face.join(child) for child in children]
    assert len({id(tx) for tx in seen}) == 3

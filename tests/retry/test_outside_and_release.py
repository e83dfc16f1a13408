"""Retries of units that were released: kept results, and parts that are committed already."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import exc
from tests.support.proxy import Proxy

from unitofwork import CommitUnknownError, Outcome
from unitofwork.sql.symptoms import sqlstate_of

from .world import Posting, Purse, RetryFace, both, each, fail, result


class Service:
    """Something outside that must not be asked twice for the same thing."""

    def __init__(self, face: RetryFace) -> None:
        self.calls: list[Any] = []
        self.charge = face.function(self._charge)
        self.refund = face.function(self._refund)

    async def _charge(self, *what: Any, **how: Any) -> int:
        self.calls.append(("charge", *what, *sorted(how.items())))
        return len(self.calls)

    async def _refund(self, *what: Any) -> int:
        self.calls.append(("refund", *what))
        return len(self.calls)


async def test_a_result_is_kept(face: RetryFace) -> None:
    """The calls of the first attempt are not made again, and their results are the same."""
    service = Service(face)
    seen = []

    async def body(tx: Any) -> None:
        one = await result(tx.outside(service.charge, 1))
        two = await result(tx.outside(service.charge, 2, currency="EUR"))
        three = await result(tx.outside(service.refund, 2))
        seen.append((one, two, three))
        await fail(tx, 2)

    await face.run(body)
    assert service.calls == [("charge", 1), ("charge", 2, ("currency", "EUR")), ("refund", 2)]
    assert seen == [(1, 2, 3)] * 3


async def test_the_same_call_twice_is_two_calls(face: RetryFace) -> None:
    """Results belong to their point in the unit."""
    service = Service(face)
    seen = []

    async def body(tx: Any) -> None:
        one = await result(tx.outside(service.charge, 1))
        two = await result(tx.outside(service.charge, 1))
        seen.append((one, two))
        await fail(tx, 1)

    await face.run(body)
    assert len(service.calls) == 2
    assert seen == [(1, 2)] * 2


async def test_other_arguments_are_another_call(face: RetryFace) -> None:
    """An attempt that has read something else asks anew, from there on."""
    service = Service(face)

    async def body(tx: Any) -> None:
        balance = (await result(tx.get(Purse, 1))).balance
        await result(tx.outside(service.charge, "first"))
        await result(tx.outside(service.charge, balance))
        await result(tx.outside(service.refund, "last"))
        if tx.attempt == 1:
            face.aside("UPDATE retry_purse SET balance = 7 WHERE id = 1")
        await fail(tx, 1)

    await face.run(body)
    asked = [what for _, what in service.calls]
    assert asked == ["first", 100, "last", 7, "last"]


async def test_another_function_is_another_call(face: RetryFace) -> None:
    """The same arguments say nothing of another function."""
    service = Service(face)

    async def body(tx: Any) -> None:
        function = service.charge if tx.attempt == 1 else service.refund
        await result(tx.outside(function, 1))
        await fail(tx, 1)

    await face.run(body)
    assert service.calls == [("charge", 1), ("refund", 1)]


async def test_arguments_that_change_in_place(face: RetryFace) -> None:
    """The same list with other things in it is not the same argument."""
    charged: list[list[str]] = []
    basket = ["book"]

    async def charge(what: list[str]) -> None:
        charged.append(list(what))

    function = face.function(charge)

    async def body(tx: Any) -> None:
        await result(tx.outside(function, basket))
        if tx.attempt == 1:
            basket.append("pen")
        await fail(tx, 1)

    await face.run(body)
    assert charged == [["book"], ["book", "pen"]], "what was charged is not what is in the basket"


async def test_a_call_that_failed_is_made_again(face: RetryFace) -> None:
    """Only results are kept."""
    service = Service(face)

    async def body(tx: Any) -> None:
        await result(tx.outside(flaky, tx.attempt))

    async def call(attempt: int) -> None:
        service.calls.append(attempt)
        if attempt == 1:
            raise exc.OperationalError("their database", {}, _deadlock())

    flaky = face.function(call)
    await face.run(body)
    assert service.calls == [1, 2]


def _deadlock() -> Exception:
    error = Exception("planted")
    error.sqlstate = "40P01"  # type: ignore[attr-defined]
    return error


async def test_kept_in_the_block_form_too(face: RetryFace) -> None:
    """`attempts()` has the same memory."""
    service = Service(face)
    async for attempt in each(face.uow.attempts()):
        async with both(attempt) as tx:
            await result(tx.outside(service.charge, 1))
            await fail(tx, 2)
    assert service.calls == [("charge", 1)]


async def test_a_row_that_changed_meanwhile(face: RetryFace) -> None:
    """StaleReadError runs the unit again: it reads the new value, and doesn't ask again."""
    service = Service(face)
    seen = []

    async def work(tx: Any) -> None:
        purse = await result(tx.get(Purse, 1))
        seen.append(purse.balance)
        await result(tx.outside(slow, 1))
        purse.balance += 1

    async def ask(what: int) -> None:
        service.calls.append(what)
        face.aside("UPDATE retry_purse SET balance = 500 WHERE id = 1")

    slow = face.function(ask)
    await face.run(work)
    assert seen == [100, 500]
    assert service.calls == [1]
    assert face.balances() == [501, 100]


async def test_a_committed_part_is_not_done_twice(face: RetryFace) -> None:
    """After `release(commit=True)` a deadlock leaves the unit, with a note that says why."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))
        async with both(tx.released(commit=True)):
            pass
        tx.add(Posting(amount=2))
        await result(tx.flush())
        await fail(tx, 1)

    with pytest.raises(exc.DBAPIError) as caught:
        await face.run(body)
    assert len(calls) == 1
    assert calls[0].outcome is Outcome.ROLLED_BACK
    assert face.postings() == [1]
    note = caught.value.__notes__[-1]  # after what the server said
    assert "release(commit=True)" in note
    assert "not run again" in note


async def test_a_part_whose_commit_was_refused(face: RetryFace) -> None:
    """COMMIT at the release fails with 40001: nothing is committed, so the unit is run again."""
    face.plant_at_commit(1, "40001")
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))
        async with both(tx.released(commit=True)):
            pass

    await face.run(body)
    assert len(calls) == 2
    assert face.postings() == [1]


async def test_a_part_whose_commit_failed_for_good(face: RetryFace) -> None:
    """The error of that COMMIT itself arrives."""
    face.plant_at_commit(1, "23505")
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))
        async with both(tx.released(commit=True)):
            pass

    with pytest.raises(exc.DBAPIError) as caught:
        await face.run(body)
    assert sqlstate_of(caught.value.orig or caught.value) == "23505"
    assert len(calls) == 1
    assert face.postings() == []


async def test_a_part_whose_commit_is_unknown(face: RetryFace, proxy: Proxy) -> None:
    """The connection is lost in the COMMIT of a release: the unit is not run again."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))
        await result(tx.flush())
        proxy.when(b"COMMIT", action="cut_after")
        async with both(tx.released(commit=True)):
            pass

    with pytest.raises(CommitUnknownError):
        await face.run(body)
    assert len(calls) == 1
    assert face.postings() == [1]

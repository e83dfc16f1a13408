"""Which errors end a unit at once: of the user's, of the server, and unknown commits."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from sqlalchemy import exc, select, text, update
from tests.contract.face import Face
from tests.contract.model import Item
from tests.support.proxy import Proxy

from unitofwork import CommitUnknownError, Outcome, SilentRollbackError
from unitofwork.sql.symptoms import symptom_of

from .world import QUICK, Posting, Purse, RetryFace, both, fail, result


@pytest.mark.parametrize("state", ["23505", "23514", "P0001", "57014", "25P03", "53300"])
async def test_never(face: RetryFace, state: str) -> None:
    """The error itself arrives, after one attempt."""
    calls = []

    async def post(tx: Any) -> None:
        calls.append(tx)
        await fail(tx, 99, state)

    with pytest.raises(exc.DBAPIError) as caught:
        await face.run(post)
    assert symptom_of(caught.value).sqlstate == state
    assert len(calls) == 1


async def test_a_unique_violation(face: RetryFace) -> None:
    """A row that exists already will exist the next time too."""
    calls = []

    async def insert(tx: Any) -> None:
        calls.append(tx)
        tx.add(Purse(id=1, balance=0))

    with pytest.raises(exc.IntegrityError):
        await face.run(insert)
    assert len(calls) == 1


async def test_an_error_of_the_users(face: RetryFace) -> None:
    """The very object arrives, after one attempt."""
    error = LookupError("mine")
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        raise error

    with pytest.raises(LookupError) as caught:
        await face.run(body)
    assert caught.value is error
    assert len(calls) == 1


async def test_what_was_handled_around_the_unit_decides_nothing(face: RetryFace) -> None:
    """A unit opened in an `except` block: Python chains its errors to what was handled there."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        raise LookupError("mine")

    with pytest.raises(LookupError):
        try:
            async with both(face.uow()) as tx:
                await fail(tx)
        except exc.DBAPIError:
            await face.run(body)
    assert len(calls) == 1


async def test_a_swallowed_unique_violation(face: RetryFace) -> None:
    """It is as final swallowed as it is raised."""
    calls = []

    async def body(tx: Any) -> None:
        calls.append(tx)
        with contextlib.suppress(exc.DBAPIError):
            await fail(tx, 99, "23505")

    with pytest.raises(SilentRollbackError):
        await face.run(body)
    assert len(calls) == 1


@pytest.mark.parametrize("action", ["cut_before", "cut_after"])
async def test_an_unknown_commit(face: RetryFace, proxy: Proxy, action: Any) -> None:
    """The connection is lost around COMMIT, before or after the server acted: never again."""
    face.url = face.url.replace(f":{proxy.upstream[1]}/", f":{proxy.port}/")
    proxy.when(b"COMMIT", action=action)
    calls = []

    async def post(tx: Any) -> None:
        calls.append(tx)
        tx.add(Posting(amount=1))
        await result(tx.flush())
        if len(calls) == 1:
            proxy.rules[0].times = 1

    proxy.rules[0].times = 0
    with pytest.raises(CommitUnknownError):
        await face.run(post)
    assert len(calls) == 1
    assert calls[0].outcome is Outcome.UNKNOWN
    assert face.postings() == ([1] if action == "cut_after" else [])


async def test_a_unit_that_asked_for_read_only_itself(face: RetryFace) -> None:
    """Its write is its own mistake: one attempt, and the pool keeps its connections."""
    calls = []

    async def write(tx: Any) -> None:
        calls.append(await result(tx.scalar(text("SELECT pg_backend_pid()"))))
        await result(tx.execute(update(Purse).values(balance=1)))

    with pytest.raises(exc.DBAPIError):
        await face.run(write, read_only=True)
    assert len(calls) == 1
    assert calls[0] in {one.pid for one in face.probe.sessions()}


async def test_sqlite_constraint(sqlite_face: Face) -> None:
    """A row that exists already is final there too."""
    sqlite_face.aside("INSERT INTO item VALUES (1, 'theirs')")
    calls = []

    async def add(tx: Any) -> None:
        calls.append(tx)
        tx.add(Item(id=1, name="ours"))

    with pytest.raises(exc.IntegrityError):
        await result(sqlite_face.uow.run(sqlite_face.function(add), retry=QUICK))
    assert len(calls) == 1
    assert (await _names(sqlite_face)) == ["theirs"]


async def _names(face: Face) -> list[str]:
    async with both(face.uow()) as tx:
        return list(await result(tx.scalars(select(Item.name))))

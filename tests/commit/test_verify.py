"""`verify=`: the application says what became of a COMMIT that the server can't be asked about."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from tests.contract.face import Face, both, checked_out, result
from tests.support.proxy import Proxy

from unitofwork import CommitUnknownError, ConfigurationError, Outcome, PropagationError, UnitOfWork

from .conftest import rows

INSERT = text("INSERT INTO lost_commit VALUES (1)")
COUNT = text("SELECT count(*) FROM lost_commit")


def in_colour(face: Face, plain: Callable[[], Any]) -> Callable[[], Any]:
    """A hook of the face: a coroutine function for the async one."""

    async def hook() -> Any:
        await asyncio.sleep(0)
        return plain()

    return hook if face.is_async else plain


async def insert(tx: Any, proxy: Proxy, cut: Any, called: list[str]) -> None:
    tx.on_commit(lambda: called.append("commit"))
    tx.on_rollback(lambda: called.append("rollback"))
    await result(tx.execute(INSERT))
    proxy.when(b"COMMIT", action=cut)


async def test_true_is_success(face: Face, proxy: Proxy) -> None:
    """COMMITTED, no error, and the callbacks of a commit."""
    called: list[str] = []
    async with both(face.uow(verify=in_colour(face, lambda: rows(face) == 1))) as tx:
        await insert(tx, proxy, "cut_after", called)
    assert tx.outcome is Outcome.COMMITTED
    assert called == ["commit"]
    assert face.uow.stats().committed == 1


async def test_false_is_a_lost_connection(face: Face, proxy: Proxy) -> None:
    """ROLLED_BACK, with the driver's error, and the callbacks of a rollback."""
    called: list[str] = []
    with pytest.raises(DBAPIError) as caught:
        async with both(face.uow(verify=in_colour(face, lambda: rows(face) == 1))) as tx:
            await insert(tx, proxy, "cut_before", called)
    assert caught.value.connection_invalidated
    assert tx.outcome is Outcome.ROLLED_BACK
    assert called == ["rollback"]


@pytest.mark.parametrize("cut", ["cut_before", "cut_after"])
async def test_it_is_run_again_only_if_not_done(face: Face, proxy: Proxy, cut: str) -> None:
    """`run` ends well with one row, whichever way the COMMIT was lost."""
    called: list[str] = []
    attempts: list[int] = []

    async def work(tx: Any) -> str:
        attempts.append(tx.attempt)
        if tx.attempt == 1:
            await insert(tx, proxy, cut, called)
        else:
            await result(tx.execute(INSERT))
        return "done"

    verify = in_colour(face, lambda: rows(face) == 1)
    assert await result(face.uow.run(face.function(work), verify=verify)) == "done"
    assert rows(face) == 1
    assert attempts == ([1, 2] if cut == "cut_before" else [1])


def nothing() -> None:
    return None


def failing() -> None:
    raise ZeroDivisionError


def wordy() -> str:
    return "yes"


@pytest.mark.parametrize("answer", [nothing, failing, wordy])
async def test_no_answer_leaves_it_unknown(
    face: Face, proxy: Proxy, answer: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """CommitUnknownError, UNKNOWN, no callback; a failure of the hook is logged, not raised."""
    called: list[str] = []
    with caplog.at_level(logging.ERROR, "unitofwork"), pytest.raises(CommitUnknownError) as caught:
        async with both(face.uow(verify=in_colour(face, answer))) as tx:
            await insert(tx, proxy, "cut_after", called)
    assert caught.value.outcome is tx.outcome is Outcome.UNKNOWN
    assert called == []
    assert ("verify" in caplog.text) == (answer is not nothing)
    assert face.uow.stats().running_units == 0


async def test_it_is_called_with_nothing_held(face: Face, proxy: Proxy) -> None:
    """No connection, no permit: it can open a unit of its own on a pool of one, and does."""
    uow = face.make(pool_size=1)
    seen: list[Any] = []

    async def look() -> bool:
        seen.append((checked_out(uow), uow.stats().admitted))
        async with both(uow()) as tx:
            seen.append(await result(tx.scalar(COUNT)))
        return True

    async with both(uow(verify=face.function(look))) as outer:
        await insert(outer, proxy, "cut_after", [])
    assert seen == [(0, 0), 1]
    assert outer.outcome is Outcome.COMMITTED


async def test_it_is_asked_only_about_what_is_unknown(face: Face, proxy: Proxy) -> None:
    """Not where the server can say it, nor where COMMIT was answered by an error."""
    asked: list[str] = []

    def verify() -> bool:
        asked.append("asked")
        return True

    async with both(face.uow(verify=verify, confirm_commit=True)) as tx:
        await insert(tx, proxy, "cut_after", [])
    assert tx.outcome is Outcome.COMMITTED
    with pytest.raises(DBAPIError, match="unique"):
        async with both(face.uow(verify=verify)) as tx:
            await result(tx.execute(INSERT))
    assert tx.outcome is Outcome.ROLLED_BACK
    assert asked == []


async def test_a_part_committed_at_a_release(face: Face, proxy: Proxy) -> None:
    """A COMMIT that is lost at `release(commit=True)` and verified lets the unit go on."""
    async with both(face.uow(verify=in_colour(face, lambda: True))) as tx:
        await insert(tx, proxy, "cut_after", [])
        await result(tx.release(commit=True))
        await result(tx.reacquire())
        assert await result(tx.scalar(COUNT)) == 1
        await result(tx.execute(text("INSERT INTO lost_commit VALUES (2)")))
    assert tx.outcome is Outcome.COMMITTED
    assert rows(face) == 2


async def test_a_part_settled_at_a_release(face: Face, proxy: Proxy) -> None:
    """The same where the server was asked: the unit goes on with its session."""
    async with both(face.uow(confirm_commit=True)) as tx:
        await insert(tx, proxy, "cut_after", [])
        await result(tx.release(commit=True))
        await result(tx.reacquire())
        assert await result(tx.scalar(COUNT)) == 1
    assert tx.outcome is Outcome.COMMITTED


async def test_an_unknown_part_ends_the_unit(face: Face, proxy: Proxy) -> None:
    """An unknown COMMIT at a release is the unit's outcome, not a rollback."""
    with pytest.raises(CommitUnknownError):
        async with both(face.uow(verify=in_colour(face, nothing))) as tx:
            await insert(tx, proxy, "cut_after", [])
            await result(tx.release(commit=True))
    assert tx.outcome is Outcome.UNKNOWN
    assert face.uow.stats().admitted == 0


async def test_a_sync_unit_can_not_await(
    sync_face: Face, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """An async hook of a sync unit is no answer, and the log says why."""

    async def verify() -> bool:
        return True

    with caplog.at_level(logging.ERROR, "unitofwork"), pytest.raises(CommitUnknownError):
        with sync_face.uow(verify=verify) as tx:
            await insert(tx, proxy, "cut_after", [])
    assert "can't await" in caplog.text


async def test_an_interrupted_hook_leaves_it_unknown(sync_face: Face, proxy: Proxy) -> None:
    """Ctrl-C in the hook: UNKNOWN, never a rollback that may not be true."""

    def verify() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with sync_face.uow(verify=verify) as tx:
            await insert(tx, proxy, "cut_after", [])
    assert tx.outcome is Outcome.UNKNOWN
    assert sync_face.uow.stats().running_units == 0


async def test_a_joined_block_has_no_commit_to_verify(face: Face) -> None:
    """A `verify` that would never be asked is refused."""
    async with both(face.uow(verify=nothing)):
        async with both(face.uow(verify=nothing)):
            pass
        with pytest.raises(PropagationError, match="verify"):
            async with both(face.uow(verify=failing)):
                pass


def test_only_what_can_be_called() -> None:
    """Anything else is refused before any I/O."""
    wrong: Any = True
    with pytest.raises(ConfigurationError, match="verify"):
        UnitOfWork(create_engine("sqlite://"))(verify=wrong)

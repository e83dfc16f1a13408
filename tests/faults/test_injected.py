"""Injected faults are what they say, for the driver and for the server."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import pytest
from sqlalchemy import create_engine, exc, text
from tests.contract.face import Face, both, checked_out, result

from unitofwork import CommitUnknownError, ConfigurationError, Outcome, UnitOfWork
from unitofwork.testing.faults import Fault, inject

INSERT = text("INSERT INTO item VALUES (1, 'one')")
STATES = {"deadlock": "40P01", "serialization": "40001"}


def sqlstate(error: exc.DBAPIError) -> Any:
    return getattr(error.orig, "sqlstate", None)


@pytest.mark.parametrize("fault", STATES)
async def test_the_server_aborts(postgres_face: Face, fault: Fault) -> None:
    """The statement fails with the SQLSTATE, and the transaction is really an aborted one."""
    face = postgres_face
    with pytest.raises(LookupError):
        async with both(face.uow()) as tx:
            await result(tx.execute(INSERT))
            with (
                inject(face.uow, fault, 1) as injected,
                pytest.raises(exc.DBAPIError) as raised,
            ):
                await result(tx.execute(text("SELECT 1")))
            assert injected.done
            assert injected.where == "SELECT 1"
            assert sqlstate(raised.value) == STATES[fault]
            with pytest.raises(exc.DBAPIError) as aborted:
                await result(tx.execute(text("SELECT 2")))
            assert sqlstate(aborted.value) == "25P02"
            raise LookupError
    assert face.names() == []


@pytest.mark.parametrize("fault", STATES)
async def test_the_server_aborts_at_commit(postgres_face: Face, fault: Fault) -> None:
    """COMMIT itself is refused; nothing of the unit is left, and nothing of the fault."""
    face = postgres_face
    with (
        inject(face.uow, fault, site="commit") as injected,
        pytest.raises(exc.DBAPIError) as raised,
    ):
        async with both(face.uow()) as tx:
            await result(tx.execute(INSERT))
    assert injected.done
    assert sqlstate(raised.value) == STATES[fault]
    assert tx.outcome is Outcome.ROLLED_BACK
    assert face.names() == []
    assert face.aside("SELECT 1 FROM pg_class WHERE relname = 'unitofwork_fault'") == []


async def test_the_connection_is_lost(postgres_face: Face) -> None:
    """The server process is gone, and the statement finds a dead connection."""
    face = postgres_face
    with inject(face.uow, "connection_lost", 3) as injected, pytest.raises(exc.DBAPIError) as lost:
        async with both(face.uow()) as tx:
            pid = await result(tx.scalar(text("SELECT pg_backend_pid()")))
            await result(tx.execute(INSERT))
            await result(tx.execute(text("SELECT 3")))
    assert injected.done
    assert lost.value.connection_invalidated
    await face.until(lambda: face.aside(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}") == [])
    assert face.names() == []
    assert checked_out(face.uow) == 0


@pytest.mark.parametrize(
    ("fault", "left"), [("commit_lost_before", []), ("commit_lost_after", ["one"])]
)
async def test_commit_is_lost(postgres_face: Face, fault: Fault, left: list[str]) -> None:
    """The unit can't know; the server has rolled back, or has committed."""
    face = postgres_face
    with inject(face.uow, fault) as injected, pytest.raises(CommitUnknownError):
        async with both(face.uow()) as tx:
            await result(tx.execute(INSERT))
    assert injected.done
    assert tx.outcome is Outcome.UNKNOWN
    assert face.names() == left


async def test_sqlite_is_busy(sqlite_face: Face) -> None:
    """SQLITE_BUSY, by its code, at a statement and at COMMIT."""
    face = sqlite_face
    for site in ("statement", "commit"):
        with (
            inject(face.uow, "busy", site=site) as injected,  # type: ignore[arg-type]
            pytest.raises(exc.OperationalError) as raised,
        ):
            async with both(face.uow()) as tx:
                await result(tx.execute(INSERT))
        assert injected.done
        assert getattr(raised.value.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
        assert face.names() == []


async def test_sqlite_is_closed(sqlite_face: Face) -> None:
    """The connection is closed below SQLAlchemy, which drops it; the next unit gets another."""
    face = sqlite_face
    with inject(face.uow, "connection_lost", 3), pytest.raises(exc.DBAPIError) as lost:
        async with both(face.uow()) as tx:
            await result(tx.execute(INSERT))
            await result(tx.execute(text("SELECT 3")))
    assert lost.value.connection_invalidated
    async with both(face.uow()) as tx:
        await result(tx.execute(INSERT))
    assert face.names() == ["one"]


async def test_a_checkout_is_slow(face: Face) -> None:
    """The pool takes so much longer, once."""
    for least, most in ((0.3, 30.0), (0.0, 0.3)):
        began = time.monotonic()
        with inject(face.uow, "slow_checkout", 1 if least else 2, slow=0.3) as injected:
            async with both(face.uow()) as tx:
                await result(tx.execute(text("SELECT 1")))
        assert injected.done == bool(least)
        assert least <= time.monotonic() - began < most


async def test_a_fault_strikes_once_and_not_afterwards(face: Face) -> None:
    """A second unit meets none inside the block, and behind it nothing is even counted."""
    fault: Fault = "deadlock" if face.is_postgres else "busy"
    with inject(face.uow, fault) as injected:
        for _ in range(2):
            try:
                async with both(face.uow()) as tx:
                    await result(tx.execute(INSERT))
            except exc.DBAPIError:
                assert face.names() == []
        assert face.names() == ["one"]
    injected.start(None)
    async with both(face.uow()) as tx:
        await result(tx.execute(text("SELECT 1")))
    assert injected.counts == {}


async def test_what_can_not_be_injected_is_refused(face: Face) -> None:
    """Another database's fault, a site that the fault can't strike at, a cancellation."""
    wrong: Fault = "busy" if face.is_postgres else "commit_lost_after"
    for fault, site in ((wrong, None), ("connection_lost", "commit"), ("cancel", None)):
        with (
            pytest.raises(ConfigurationError, match=fault),
            inject(face.uow, fault, site=site),  # type: ignore[arg-type]
        ):
            pass


def test_a_database_in_memory_keeps_its_connection() -> None:
    """It would be gone with it: "connection_lost" is refused there."""
    engine = create_engine("sqlite://")
    with (
        pytest.raises(ConfigurationError, match="connection_lost"),
        inject(UnitOfWork(engine), "connection_lost"),
    ):
        pass
    engine.dispose()

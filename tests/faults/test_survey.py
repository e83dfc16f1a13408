"""A survey's own conduct: what it refuses, prints, counts, and leaves behind."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.contract.face import Face, both, result

from unitofwork import AsyncTransaction, ConfigurationError, Transaction
from unitofwork.testing.faults import AsyncFaults, Faults, FaultsFoundError
from unitofwork.testing.faults.fixtures import MakeFaults, faults

from . import planted, sound
from .world import Shop, insert, load, take

__all__ = ["faults"]


def check(make: MakeFaults, shop: Shop, unit: Any, **options: Any) -> Any:
    return make(shop.uow, state=shop.state, reset=shop.reset, **options).check(unit)


async def test_the_fixture_takes_either_face(
    faults: MakeFaults, any_face: Face, tmp_path: Path
) -> None:
    """A report is returned where nothing differs; counts are kept for the print at the end."""
    shop = Shop(any_face, tmp_path)
    report = await result(check(faults, shop, sound.changes_rows(shop)))
    (made,) = faults.made
    assert isinstance(made, AsyncFaults if shop.face.is_async else Faults)
    assert made.injected == report.injected
    assert report.total == sum(report.ended.values()) > 10


async def test_check_raises_a_readable_report(faults: MakeFaults, shop: Shop) -> None:
    """An AssertionError that names point, statement and difference."""
    with pytest.raises(FaultsFoundError) as raised:
        await result(check(faults, shop, planted.charges_inside(shop)))
    told = str(raised.value)
    assert isinstance(raised.value, AssertionError)
    assert "at commit 1\n    the unit returned\n    - state: a clean run leaves" in told
    assert "[100], " in told
    assert "[100, 100], " in told
    assert raised.value.report.findings


async def test_lost_connections_don_t_use_up_the_retries(shop: Shop) -> None:
    """Retries after losses are on a budget of the process, which one survey must not exhaust."""

    async def body(shop: Shop, tx: Any) -> None:
        for _ in range(30):
            await load(tx)
            tx.expire_all()
        await take(tx)

    report = await shop.survey(shop.unit(body), ["connection_lost"])
    assert report.injected["connection_lost"] >= 30
    assert report.ended == {"returned": report.total}


async def test_clean_runs_must_be_alike(shop: Shop) -> None:
    """A reset that forgets something would make every point a finding."""

    async def body(shop: Shop, tx: Any) -> None:
        await insert(tx, 2 + len(shop.raw), "order")
        shop.raw.append("not put back")

    with pytest.raises(ConfigurationError, match="Two clean runs differ after"):
        await shop.survey(shop.unit(body))


async def test_a_unit_that_fails_by_itself_has_nothing_to_compare(shop: Shop) -> None:
    """Its own error comes out, before any fault is injected."""

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await shop.survey(shop.unit(body))


async def test_it_leaves_nothing_behind(shop: Shop) -> None:
    """Neither the listeners nor the way callbacks are registered stay as they were made."""
    before = [kind.on_commit for kind in (AsyncTransaction, Transaction)]
    report = await shop.survey(sound.mails_after_the_commit(shop))
    assert [kind.on_commit for kind in (AsyncTransaction, Transaction)] == before
    assert "on_commit" not in vars(AsyncTransaction) | vars(Transaction)
    counts = report.counts.copy()
    async with both(shop.uow()) as tx:
        await take(tx)
    assert report.counts == counts


async def test_what_state_and_reset_send_is_not_the_unit_s(face: Face, tmp_path: Path) -> None:
    """They may use the same engine: faults strike at the unit only."""
    shop = Shop(face, tmp_path)

    async def look() -> list[str]:
        async with both(shop.uow()) as tx:
            return list(await result(tx.scalars(text("SELECT name FROM item ORDER BY id"))))

    async def start_again() -> None:
        async with both(shop.uow()) as tx:
            await result(tx.execute(text("DELETE FROM item WHERE id > 1")))
            await result(tx.execute(text("UPDATE item SET name = 'stock 5'")))

    shop.reset()
    kind: Any = AsyncFaults if face.is_async else Faults
    state, reset = face.function(look), face.function(start_again)
    with kind(shop.uow, state=state, reset=reset, slow=0.01) as injected:
        report = await result(injected.check(sound.changes_rows(shop)))
    assert report.total > 10
    assert report.skipped == 0


async def test_a_run_that_hangs_is_given_up(async_face: Face, tmp_path: Path) -> None:
    """A unit that waits for ever after a fault is an error, not a test without an end."""
    shop = Shop(async_face, tmp_path)

    async def work() -> None:
        try:
            async with shop.uow() as tx:
                await take(tx)
        except Exception:
            await asyncio.Event().wait()

    options: Any = {"state": shop.state, "reset": shop.reset, "within": 1.0}
    with (
        AsyncFaults(shop.uow, **options) as injected,
        pytest.raises(AssertionError, match="still runs after 1 s"),
    ):
        await injected.survey(work)


async def test_cancelling_can_be_chosen(server_face: Face, tmp_path: Path) -> None:
    """Only it, and in another way: anyio cancels the awaits after the first one, too."""
    shop = Shop(server_face, tmp_path)

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)

    unit = shop.unit(body)

    async def work() -> None:
        try:
            await unit()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            shop.mails.append("stopped")
            raise

    options: Any = {"state": shop.state, "reset": shop.reset, "faults": ["cancel"]}
    with AsyncFaults(shop.uow, how="cancel", **options) as injected:
        report = await injected.survey(work)
    assert len(report.findings) == report.injected["cancel"] == report.total > 5
    with AsyncFaults(shop.uow, how="anyio", **options) as injected:
        report = await injected.check(work)
    assert report.ended["cancelled"] > 5


async def test_what_comes_late_counts(shop: Shop) -> None:
    """A task (thread) that the unit has started is waited for, before the state is looked at."""
    running: set[Any] = set()

    async def send_soon() -> None:
        await shop.face.pause(0.05)
        shop.mails.append("late")

    async def body(shop: Shop, tx: Any) -> None:
        running.add(shop.face.start(send_soon))
        await take(tx)

    fault: Any = "deadlock" if shop.face.is_postgres else "busy"
    report = await shop.survey(shop.unit(body), [fault])
    assert len(report.findings) == report.total
    assert all("['late', 'late']" in each.differences[0] for each in report.findings)


def test_a_thread_that_stays_costs_little(shop: Shop) -> None:
    """A worker that the unit has started does not stop the survey; it is waited for briefly."""
    if shop.face.is_async:
        return
    stop = threading.Event()

    async def body(shop: Shop, tx: Any) -> None:
        threading.Thread(target=stop.wait, daemon=True).start()
        await take(tx)

    kind = Faults(shop.uow, state=shop.state, reset=shop.reset, faults=["slow_checkout"])
    with kind as injected:
        report = injected.check(shop.unit(body))
    stop.set()
    assert report.total == 1

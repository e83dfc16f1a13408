"""A unit cancelled at each of its awaits, in every way, on every async driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.cancellation.world import DRIVERS, Counter, World, make_world
from tests.support.hygiene import Hygiene

from unitofwork import Outcome
from unitofwork.testing.cancellation import WAYS, Way, cancel_at_each_suspension
from unitofwork.testing.postgres import EmbeddedPostgres


@pytest_asyncio.fixture(params=DRIVERS)
async def world(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, hygiene: Hygiene, tmp_path: Path
) -> AsyncIterator[World]:
    driver = request.param
    file = tmp_path / "units.db"
    url = f"sqlite+aiosqlite:///{file}" if driver == "aiosqlite" else postgres.url(driver)
    world = await make_world(url)
    hygiene.watch(world.engine)
    yield world
    await hygiene.check_async()
    await world.engine.dispose()


async def settled(world: World, hygiene: Hygiene) -> None:
    """Nothing is checked out, the server is quiet, and both counters are as reported."""
    await hygiene.check_async()
    tx = world.units[-1]
    assert tx.outcome in (Outcome.COMMITTED, Outcome.ROLLED_BACK)
    assert await world.values() == [world.committed] * 2, tx.outcome
    assert len(world.called_back) == world.committed


# aiosqlite leaves a connection whose opening was cancelled to the collector: 3.13 says so.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("pool", ["warm", "cold"])
async def test_cancelled_at_each_suspension(
    world: World, hygiene: Hygiene, how: Way, pool: str
) -> None:
    """Whichever await is cancelled, the caller sees it, the outcome is true, nothing is left."""
    cuts = 0
    if pool == "cold":
        await world.engine.dispose()
    async for cut in cancel_at_each_suspension(world.unit, how=how):
        assert cut.outcome == "cancelled", cut
        cuts += 1
        await settled(world, hygiene)
        if pool == "cold":
            await world.engine.dispose()
    await settled(world, hygiene)
    assert world.committed >= 1
    assert cuts >= 5, "a lock, SAVEPOINT, UPDATE, RELEASE, the end"


STORIES = (
    "released_unit",
    "released_by_the_pair",
    "tree_of_units",
    "decorated",
    "waiting_at_the_gate",
)


@pytest.mark.parametrize("how", ["cancel", "anyio"])
@pytest.mark.parametrize("story", STORIES)
async def test_every_other_await_of_the_api(
    world: World, hygiene: Hygiene, how: Way, story: str
) -> None:
    """Release, reacquire, inner units, decorated functions and the gate: the same promises."""
    cuts = 0
    async for cut in cancel_at_each_suspension(getattr(world, story), how=how):
        assert cut.outcome == "cancelled", cut
        cuts += 1
        await hygiene.check_async()
        if world.units:
            await settled(world, hygiene)
    await settled(world, hygiene)
    assert world.committed >= 1
    assert cuts >= 4


@pytest.mark.parametrize("twice", [False, True])
async def test_cancelled_at_each_turn_of_the_loop(
    world: World, hygiene: Hygiene, twice: bool
) -> None:
    """The same at any turn of the event loop, so also anywhere inside COMMIT and the callbacks."""
    turns = 0
    while True:
        # Later turns are mostly empty ones that wait for the server: longer steps.
        turns += 1 + turns // 20
        task = asyncio.create_task(world.unit())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        if twice:
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if world.units:
            await settled(world, hygiene)
    assert turns > 10
    await settled(world, hygiene)


@pytest.mark.parametrize("how", WAYS)
async def test_cancelled_while_an_error_rolls_it_back(
    world: World, hygiene: Hygiene, how: Way
) -> None:
    """A unit that is cancelled while an error is already rolling it back ends just once."""

    async def failing() -> None:
        async with world.uow() as tx:
            world.units.append(tx)
            counter = await tx.get(Counter, 1, with_for_update=True)
            assert counter is not None
            counter.value += 1
            await tx.flush()
            raise ValueError("the user's")

    with pytest.raises(ValueError, match="the user's"):
        async for cut in cancel_at_each_suspension(failing, how=how):
            assert cut.outcome == "cancelled"
            await settled(world, hygiene)
    await settled(world, hygiene)
    assert world.committed == 0

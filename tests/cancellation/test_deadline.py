"""The end of a unit whose time is over, where no timer could fire before it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.cancellation.world import DRIVERS, make_world
from tests.support.hygiene import Hygiene

from unitofwork import Outcome, UnitTimeoutError
from unitofwork.testing.postgres import EmbeddedPostgres


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_deadline_that_passed_while_the_loop_was_blocked(
    driver: str, postgres: EmbeddedPostgres, hygiene: Hygiene, tmp_path: Path
) -> None:
    """The work is not committed, and the caller is told so: never a silent rollback."""
    sqlite = f"sqlite+aiosqlite:///{tmp_path / 'deadline.db'}"
    world = await make_world(sqlite if driver == "aiosqlite" else postgres.url(driver))
    hygiene.watch(world.engine)
    with pytest.raises(UnitTimeoutError):
        async with world.uow(timeout=0.3) as tx:
            await world._first(tx)
            time.sleep(0.4)
    assert tx.outcome is Outcome.ROLLED_BACK
    assert await world.values() == [0, 0]
    await hygiene.check_async()
    await world.engine.dispose()

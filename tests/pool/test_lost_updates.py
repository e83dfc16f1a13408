"""Units that read, let go and write few rows: whatever the interleaving, no update is lost."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy.orm.exc import StaleDataError
from tests.support.probe import ServerProbe

from unitofwork import StaleReadError

from .model import Account, Employee, Versioned
from .pool_face import LONG, PoolFace, both, result

UNITS = 10_000 if LONG else 400  # over the four kinds of row
WORKERS = 8

#: What is counted up: the class, the attribute, and where the server keeps it.
COUNTERS: dict[str, tuple[Any, str, str]] = {
    "plain": (Account, "balance", "SELECT id, balance - 100 FROM pool_account"),
    "version": (Versioned, "value", "SELECT id, value FROM pool_versioned"),
    "parents table": (Employee, "count", "SELECT id, count FROM pool_person"),
    "own table": (Employee, "salary", "SELECT id, salary - 10 FROM pool_employee"),
}


@pytest.mark.parametrize("counter", [*COUNTERS])
@pytest.mark.parametrize("recheck", ["raise", "refresh"])
@pytest.mark.timeout(900)
async def test_no_update_is_lost(
    face: PoolFace, rows: None, probe: ServerProbe, counter: str, recheck: str
) -> None:
    """Each unit adds one to a row that it read before its release; the sums are exact."""
    entity, attribute, totals = COUNTERS[counter]
    keys = [1] if entity is Employee else [1, 2, 3]
    uow = face.make(pool_size=4)
    dice = random.Random(3)
    left = iter(range(UNITS // 4))
    done: Counter[int] = Counter()
    stale: Counter[str] = Counter()

    async def add_one(key: int) -> None:
        async with both(uow()) as tx:
            row = await result(tx.get(entity, key))
            async with both(tx.released(recheck=recheck)):
                await face.pause(dice.choice([0, 0.001, 0.002]))
            setattr(row, attribute, getattr(row, attribute) + 1)
            if dice.random() < 0.5:
                await result(tx.flush())
                await face.pause(0.001)

    async def worker() -> None:
        for number in left:
            key = keys[number % len(keys)]
            while True:
                try:
                    await add_one(key)
                    break
                except (StaleReadError, StaleDataError) as error:
                    stale[type(error).__name__] += 1
                    await face.pause(dice.uniform(0, 0.005))
            done[key] += 1

    assert await face.all([worker] * WORKERS) == [None] * WORKERS
    assert sum(done.values()) == UNITS // 4
    found = dict(probe.execute(totals))
    assert {key: found[key] for key in keys} == dict(done)
    assert stale["StaleReadError"], "the units never met"
    stats = uow.stats()
    assert stats.admitted == stats.checked_out == 0

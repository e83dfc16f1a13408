"""What releasing is for: the pool serves others while a request waits for the outside world."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.support.probe import ServerProbe

from .model import Account
from .pool_face import PoolFace, both, result

CALL = 0.2
CLIENTS = 100
POOL = 5
IDLE = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)
    FROM pg_stat_activity WHERE state = 'idle in transaction'
"""


async def rate(
    face: PoolFace,
    uow: Any,
    *,
    releasing: bool,
    call: float = CALL,
    each: int = 1,
    clients: int = CLIENTS,
) -> float:
    """Requests per second of so many clients, with an external call in each request."""

    async def client() -> None:
        for _ in range(each):
            async with both(uow(acquire_timeout=60)) as tx:
                account = await result(tx.get(Account, 1))
                if releasing:
                    async with both(tx.released()):
                        await face.pause(call)
                else:
                    await face.pause(call)
                assert account.balance == 100

    began = time.perf_counter()
    assert await face.all([client] * clients) == [None] * clients
    return clients * each / (time.perf_counter() - began)


async def idle_times(face: PoolFace, probe: ServerProbe, seconds: float) -> list[float]:
    """How long the laziest transaction has been idle, in seconds, looked at again and again."""
    end = time.monotonic() + seconds
    found = []
    while time.monotonic() < end:
        ((longest,),) = probe.execute(IDLE)
        found.append(float(longest))
        await face.pause(CALL / 10)
    return sorted(found)


@pytest.mark.timeout(900)
async def test_ten_times_the_requests(face: PoolFace, rows: None, probe: ServerProbe) -> None:
    """On a pool of 5, releasing around a 200 ms call does at least 10 times what holding does."""
    uow = face.make(pool_size=POOL)
    await face.warm(uow, POOL)
    # A machine that is too busy to do so many requests at all, without a call, can't show it:
    # there the call is longer, and both rates lower.
    able = await rate(face, uow, releasing=True, call=0, each=2)
    call = min(max(CALL, 10 * POOL / (able / 3)), 5 * CALL)
    holding = await rate(face, uow, releasing=False, call=call, clients=CLIENTS // 4)
    assert holding <= POOL / call
    best = max([await rate(face, uow, releasing=True, call=call, each=3) for _ in range(3)])
    assert best >= 10 * holding


async def test_nothing_idles_in_a_transaction(
    face: PoolFace, rows: None, probe: ServerProbe
) -> None:
    """The server sees transactions that wait for the call where it is held, and none if not."""
    uow = face.make(pool_size=POOL)
    await face.warm(uow, POOL)
    looking = face.start(lambda: idle_times(face, probe, 1.0))
    await rate(face, uow, releasing=False)
    held = await face.join(looking)
    assert held[-1] >= CALL / 2
    looking = face.start(lambda: idle_times(face, probe, 1.0))
    await rate(face, uow, releasing=True, each=3)
    released = await face.join(looking)
    # Between two statements a transaction is idle for as long as the busy client takes.
    assert released[len(released) * 3 // 4] < CALL / 4

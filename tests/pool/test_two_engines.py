"""Trees of units over two engines, in opposite orders: nobody hangs, on whatever side."""

from __future__ import annotations

import time
from typing import Any

import pytest

from unitofwork import NestedUnitError, Outcome

from .pool_face import PoolFace, both, line, one


def pair(face: PoolFace, pool_size: int) -> tuple[Any, Any]:
    """Two units of work; a tree may wait for the second while it holds the first."""
    return face.make(pool_size=pool_size), face.make(pool_size=pool_size)


async def across(outer: Any, inner: Any) -> None:
    async with both(outer()) as tx:
        await one(tx)
        async with both(inner()) as other:  # crossing
            assert other is not tx
            await one(other)
        assert other.outcome is Outcome.COMMITTED
        await one(tx)


async def test_opposite_orders_end(face: PoolFace) -> None:
    """50 trees in each direction over two pools of 2: each succeeds or is refused; all end."""
    first, second = pair(face, 2)
    began = time.monotonic()
    along = [lambda: across(first, second)] * 50
    against = [lambda: across(second, first)] * 50
    mixed = [work for both_ways in zip(along, against, strict=True) for work in both_ways]
    ended = await face.all(mixed)
    # The side that goes in the order of the engines is always served: it alone may wait.
    assert ended[::2] == [None] * 50
    refused = [error for error in ended[1::2] if error is not None]
    assert {type(error) for error in refused} <= {NestedUnitError}
    assert time.monotonic() - began < 30
    for uow in (first, second):
        stats = uow.stats()
        assert stats.timeouts == stats.waiting == stats.admitted == stats.checked_out == 0
    assert first.stats().committed + second.stats().committed == 200 - 2 * len(refused)


async def test_against_the_order_one_does_not_wait(face: PoolFace) -> None:
    """What a tree can't have at once, against the order of engines, it is refused, not queued."""
    first, second = pair(face, 1)
    gong = face.event()

    async def hold_first_and_want_second() -> None:
        async with both(first()) as tx:
            await one(tx)
            await gong.heard()
            async with both(second()) as other:
                await one(other)

    child = face.start(hold_first_and_want_second)
    await face.until(lambda: first.stats().checked_out == 1)
    async with both(second()) as tx:
        await one(tx)
        gong.ring()
        await face.until(lambda: second.stats().waiting == 1)
        began = time.perf_counter()
        with pytest.raises(NestedUnitError) as caught:
            async with both(first()):  # refused
                raise AssertionError("was admitted")
        inside = caught.value.inner_opened_at
        assert inside is not None
        assert (inside.file, inside.line) == (__file__, line(__file__, "refused"))
        assert time.perf_counter() - began < 1
        await one(tx)
    await face.join(child)


async def test_against_the_order_a_free_one_is_taken(face: PoolFace) -> None:
    """Where nothing needs to be waited for, the order of engines doesn't matter."""
    first, second = pair(face, 1)
    await across(second, first)
    await across(first, second)
    assert [uow.stats().committed for uow in (first, second)] == [2, 2]


async def test_a_second_unit_on_the_inner_engine_counts(face: PoolFace) -> None:
    """The reservation is per engine: an inner unit on the second one needs its own."""
    first, second = pair(face, 2)

    async def deep(**options: Any) -> None:
        async with both(first()) as tx:
            await one(tx)
            async with both(second(**options)) as other:
                await one(other)
                async with both(second(propagation="requires_new")) as third:
                    await one(third)

    ended = await face.all([deep] * 4)
    assert [type(error) for error in ended] == [NestedUnitError] * 4
    assert await face.all([lambda: deep(connections=2)] * 10) == [None] * 10

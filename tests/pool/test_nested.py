"""A tree of units that needs a second connection: reserved beforehand, or refused at once."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import pytest

from unitofwork import NestedUnitError, Outcome

from .pool_face import PoolFace, both, line, one

Refused = tuple[NestedUnitError | None, float]


def crowd(face: PoolFace) -> int:
    """How many ask at once: tasks are cheap, threads are not."""
    return 200 if face.is_async else 50


async def inner(uow: Any) -> Refused:
    """Open a unit where another one is around; the error, and the seconds that it took."""
    began = time.perf_counter()
    try:
        async with both(uow(propagation="requires_new")) as tx:  # inner
            assert await one(tx) == 1
    except NestedUnitError as error:
        return error, time.perf_counter() - began
    return None, time.perf_counter() - began


async def in_itself(face: PoolFace, uow: Any) -> Refused:
    return await inner(uow)


async def in_a_child(face: PoolFace, uow: Any) -> Refused:
    return await face.join(face.start(lambda: inner(uow)))


async def in_gather(face: PoolFace, uow: Any) -> Refused:
    (refused,) = await asyncio.gather(inner(uow))
    return refused


async def in_a_task_group(face: PoolFace, uow: Any) -> Refused:
    async with asyncio.TaskGroup() as group:
        child = group.create_task(inner(uow))
    return child.result()


async def tree(face: PoolFace, uow: Any, way: Any, **options: Any) -> Refused:
    async with both(uow(**options)) as tx:  # outer
        assert await one(tx) == 1
        refused = await way(face, uow)
        assert await one(tx) == 1
    assert tx.outcome is Outcome.COMMITTED
    return refused


async def all_refused(face: PoolFace, way: Any) -> float:
    """The seconds that a refusal takes, at the median."""
    uow = face.make(pool_size=5)
    await face.warm(uow, 5)
    ended = await face.all([lambda: tree(face, uow, way)] * crowd(face))
    errors = [error for error, _ in ended]
    assert [type(error) for error in errors] == [NestedUnitError] * crowd(face)
    for error in errors:
        outer, inside = error.outer_opened_at, error.inner_opened_at
        assert (outer.file, outer.line) == (__file__, line(__file__, "outer"))
        assert (inside.file, inside.line) == (__file__, line(__file__, "inner"))
        assert f"opened at {outer}" in str(error)
        assert f"opened at {inside}" in str(error)
        assert "connections=2" in error.remedy
    stats = uow.stats()
    assert stats.committed == crowd(face)
    assert stats.timeouts == stats.waiting == stats.admitted == stats.checked_out == 0
    return statistics.median(seconds for _, seconds in ended)


async def all_served(face: PoolFace, way: Any) -> int:
    """How many units were committed."""
    uow = face.make(pool_size=5)
    ended = await face.all([lambda: tree(face, uow, way, connections=2)] * crowd(face))
    assert [error for error, _ in ended] == [None] * crowd(face)
    stats = uow.stats()
    assert stats.timeouts == stats.waiting == stats.admitted == stats.checked_out == 0
    return int(stats.committed)


@pytest.mark.parametrize("way", [in_itself, in_a_child])
async def test_an_undeclared_second_connection_is_refused_at_once(face: PoolFace, way: Any) -> None:
    """On a pool of 5 all of 200 trees are refused, with both places, and in milliseconds."""
    assert await all_refused(face, way) < 0.05


@pytest.mark.parametrize("way", [in_gather, in_a_task_group])
async def test_children_are_refused_like_their_parent(async_face: PoolFace, way: Any) -> None:
    """The same where the inner unit is opened in a task of `gather` or of a TaskGroup."""
    assert await all_refused(async_face, way) < 0.05


@pytest.mark.parametrize("way", [in_itself, in_a_child])
async def test_a_reserved_second_connection_is_there(face: PoolFace, way: Any) -> None:
    """With `connections=2` all 200 trees on a pool of 5 succeed: none waits while it holds one."""
    assert await all_served(face, way) == 2 * crowd(face)


@pytest.mark.parametrize("way", [in_gather, in_a_task_group])
async def test_a_reservation_serves_the_children(async_face: PoolFace, way: Any) -> None:
    """The same where the inner unit is opened in a task of `gather` or of a TaskGroup."""
    assert await all_served(async_face, way) == 2 * crowd(async_face)


async def test_a_reservation_is_a_number_not_a_switch(face: PoolFace) -> None:
    """`connections=3` is for two children at once; the third is refused, and served afterwards."""
    uow = face.make(pool_size=3)
    gong = face.event()

    async def hold() -> None:
        async with both(uow()) as tx:
            await one(tx)
            await gong.heard()

    async with both(uow(connections=3)) as tx:
        await one(tx)
        children = [face.start(hold), face.start(hold)]
        await face.until(lambda: uow.stats().checked_out == 3)
        error, _ = await in_a_child(face, uow)
        assert isinstance(error, NestedUnitError)
        assert "connections=4" in error.remedy
        gong.ring()
        for child in children:
            await face.join(child)
        error, _ = await in_a_child(face, uow)
        assert error is None


async def test_a_tree_of_three_levels_counts_as_one(face: PoolFace) -> None:
    """A unit in a unit in a unit takes from the outermost one's reservation."""
    uow = face.make(pool_size=3)

    async def level(depth: int, **options: Any) -> int:
        async with both(uow(propagation="requires_new", **options)) as tx:
            await one(tx)
            return 1 if depth == 1 else 1 + await level(depth - 1)

    trees = crowd(face) // 5
    assert await face.all([lambda: level(3, connections=3)] * trees) == [3] * trees
    ended = await face.all([lambda: level(3, connections=2)] * trees)
    assert [type(error) for error in ended] == [NestedUnitError] * trees
    assert uow.stats().admitted == 0


async def test_a_child_that_outlives_its_tree_gives_its_permit_back(face: PoolFace) -> None:
    """The outer unit ends first: its own permit is free at once, the child's when that ends."""
    uow = face.make(pool_size=2)
    inside, gong = face.event(), face.event()

    async def outlive() -> None:
        async with both(uow()) as tx:
            await one(tx)
            inside.ring()
            await gong.heard()
            await one(tx)

    async with both(uow(connections=2)) as tx:
        await one(tx)
        child = face.start(outlive)
        await inside.heard()
    assert uow.stats().admitted == 1
    async with both(uow()) as tx:
        await one(tx)
        assert uow.stats().admitted == 2
    gong.ring()
    await face.join(child)
    assert uow.stats().admitted == 0


async def test_an_ended_tree_lends_nothing(face: PoolFace) -> None:
    """A task made inside a unit that opens its own after that unit's end queues like any other."""
    uow = face.make(pool_size=1)
    gong = face.event()

    async def late() -> Refused:
        await gong.heard()
        return await inner(uow)

    async with both(uow()) as tx:
        await one(tx)
        child = face.start(late)
    gong.ring()
    error, _ = await face.join(child)
    assert error is None


async def test_joining_needs_no_second_connection(face: PoolFace) -> None:
    """A nested call in the same task joins: one permit, one connection, however deep."""
    uow = face.make(pool_size=1)

    async def level(depth: int) -> None:
        async with both(uow()) as tx:
            await one(tx)
            if depth:
                await level(depth - 1)

    assert await face.all([lambda: level(5)] * 10) == [None] * 10
    assert uow.stats().granted == 10

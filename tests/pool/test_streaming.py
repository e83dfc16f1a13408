"""A large result for a slow client: by keyset pages, with nothing held while the client reads."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.probe import ServerProbe

from .model import Person
from .pool_face import PoolFace, result


async def read_page(tx: Any, after: int, size: int) -> list[Any]:
    page = select(Person.id).where(Person.id > after).order_by(Person.id).limit(size)
    return list((await result(tx.scalars(page))).all())


async def pages(uow: Any, size: int = 100) -> Any:
    """The documented pattern: a unit for each page, by keyset; nothing is held while yielding."""
    last = 0
    while True:
        async with uow() as tx:
            page = await read_page(tx, last, size)
        if not page:
            return
        for key in page:
            yield key
        last = page[-1]


async def pages_of_one_unit(uow: Any, size: int = 100) -> Any:
    """The same in one unit that is released while the client takes its time."""
    last = 0
    async with uow() as tx:
        while page := await read_page(tx, last, size):
            async with tx.released():
                for key in page:
                    yield key
            last = page[-1]


@pytest.fixture
def people(rows: None, probe: ServerProbe) -> list[int]:
    probe.execute(
        "INSERT INTO pool_person (id, kind, count) "
        "SELECT n, 'person', 0 FROM generate_series(1001, 1997) n"
    )
    return [1, 2, 3, *range(1001, 1998)]


@pytest.mark.parametrize("stream", [pages, pages_of_one_unit])
async def test_streaming(async_face: PoolFace, people: list[int], stream: Any) -> None:
    """A thousand rows to 20 slow clients over one connection, each row once and in order."""
    uow = async_face.make(pool_size=1)
    held = 0

    async def client() -> list[int]:
        nonlocal held
        got = []
        async for key in stream(uow):
            got.append(key)
            if len(got) % 100 == 0:
                await asyncio.sleep(0.01)
                held += any(holder.idle_for > 0.005 for holder in uow.holders())
        return got

    assert await async_face.all([client] * 20) == [people] * 20
    assert held <= 5


@pytest.mark.parametrize("stream", [pages, pages_of_one_unit])
@pytest.mark.parametrize("how", ["break", "error", "cancel", "forget"])
async def test_an_abandoned_stream(
    async_face: PoolFace, people: list[int], stream: Any, how: str
) -> None:
    """A client that goes away in the middle leaves no connection, permit or transaction behind."""
    uow = async_face.make(pool_size=1)

    async def client() -> None:
        async for key in stream(uow):
            if key == 1050:
                if how == "error":
                    raise LookupError
                if how == "cancel":
                    await asyncio.sleep(30)
                return

    tasks = [asyncio.create_task(client()) for _ in range(10)]
    if how == "cancel":
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = {"break": None, "forget": None, "error": LookupError, "cancel": asyncio.CancelledError}
    kind = kinds[how]
    assert all(end is None if kind is None else isinstance(end, kind) for end in ended)
    tasks.clear()
    del ended
    gc.collect()
    await async_face.until(lambda: uow.stats().running_units == 0)
    stats = uow.stats()
    assert stats.checked_out == stats.admitted == stats.waiting == 0
    async with uow(acquire_timeout=1) as tx:
        assert await read_page(tx, 0, 1) == [1]

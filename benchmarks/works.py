"""The units of work, written once for `begin()` of a session maker and of a unit of work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .model import Account, next_id, ten_entries

#: One unit of each kind; coroutine functions in the async face.
Works = dict[str, Callable[[], Any]]
Begin = Callable[[], Any]

EMPTY = "empty"
READ = "one-row read"
WRITE = "one-row read-modify-write"
TEN = "ten-row write"
JOINED = "two reads, the second in a joined inner unit"


def async_works(begin: Begin, joining: Begin | None = None) -> Works:
    """`begin()` opens a block; `joining()` one inside it: by hand the session is passed on."""

    async def empty() -> None:
        async with begin():
            pass

    async def read() -> None:
        async with begin() as session:
            await session.get(Account, next_id())

    async def write() -> None:
        async with begin() as session:
            account = await session.get(Account, next_id())
            account.balance += 1

    async def ten() -> None:
        async with begin() as session:
            session.add_all(ten_entries())

    async def joined() -> None:
        async with begin() as session:
            await session.get(Account, next_id())
            await inner(session)

    async def inner(session: Any) -> None:
        if joining is None:
            await session.get(Account, next_id())
            return
        async with joining() as session:
            await session.get(Account, next_id())

    return {EMPTY: empty, READ: read, WRITE: write, TEN: ten, JOINED: joined}


def sync_works(begin: Begin, joining: Begin | None = None) -> Works:
    """The same for threads."""

    def empty() -> None:
        with begin():
            pass

    def read() -> None:
        with begin() as session:
            session.get(Account, next_id())

    def write() -> None:
        with begin() as session:
            account = session.get(Account, next_id())
            account.balance += 1

    def ten() -> None:
        with begin() as session:
            session.add_all(ten_entries())

    def joined() -> None:
        with begin() as session:
            session.get(Account, next_id())
            inner(session)

    def inner(session: Any) -> None:
        if joining is None:
            session.get(Account, next_id())
            return
        with joining() as session:
            session.get(Account, next_id())

    return {EMPTY: empty, READ: read, WRITE: write, TEN: ten, JOINED: joined}

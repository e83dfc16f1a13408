"""The load: tasks and threads that increment counters in units of several kinds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from tests.contract.face import both, drive, result

from unitofwork import AsyncUnitOfWork, Outcome, UnitOfWork

from .books import COUNTERS, Books, Told

#: Seconds for a unit.
TIMEOUT = 1.5
KINDS = ("confirmed", "verified", "plain", "run again")
LOCK = text("SELECT 1 FROM counter WHERE id = :counter FOR UPDATE")
INCREMENT = text("UPDATE counter SET value = value + 1 WHERE id = :counter")
ENTER = text("INSERT INTO entry VALUES (:id, :counter)")
ENTERED = text("SELECT count(*) FROM entry WHERE id = :id")


class Load:
    """One driver's workers, over a pool that is smaller than their number."""

    def __init__(self, name: str, url: str, books: Books) -> None:
        self.is_async = not name.endswith("sync")
        maker: Any = AsyncUnitOfWork if self.is_async else UnitOfWork
        self.name = name
        self.uow: Any = maker.from_url(url, pool_size=4)
        self.books = books
        self.stopping = False

    async def work(self, pause: Callable[[float], Any]) -> None:
        """One worker; `pause` sleeps. It waits for nothing but the database where that is sync."""
        while not self.stopping:
            number = self.books.number()
            kind = KINDS[number % len(KINDS)]
            seen = Seen()
            error = ""
            try:
                await self._increment(number, kind, seen)
            except Exception as failed:
                error = type(failed).__name__
                await result(pause(0.05))
            self.books.told[number] = Told(
                f"{self.name}, {kind}", seen.outcome(bool(error)), error, seen.slowest
            )

    async def _increment(self, number: int, kind: str, seen: Seen) -> None:
        values = {"id": number, "counter": number % COUNTERS + 1}
        options: dict[str, Any] = {"timeout": TIMEOUT}

        async def body(tx: Any) -> None:
            await result(tx.execute(INCREMENT, values))
            await result(tx.execute(ENTER, values))

        async def look() -> bool:
            async with both(self.uow(timeout=TIMEOUT)) as tx:
                # The lost transaction has this lock, if it should not be over yet.
                await result(tx.execute(LOCK, values))
                return bool(await result(tx.scalar(ENTERED, values)))

        if kind in ("confirmed", "run again"):
            options["confirm_commit"] = True
        if kind == "verified":
            options["verify"] = look if self.is_async else _plain(look)
        if kind == "run again":
            await self._run(body, seen, options)
        else:
            async with seen.attempt(self.uow(**options)) as tx:
                await body(tx)

    async def _run(self, body: Callable[[Any], Any], seen: Seen, options: dict[str, Any]) -> None:
        async def attempt(tx: Any) -> None:
            seen.last = tx
            await body(tx)

        function = attempt if self.is_async else _plain(attempt)
        await result(self.uow.run(function, **options))


class Seen:
    """What the caller sees of the attempts of one increment."""

    def __init__(self) -> None:
        self.last: Any = None
        self.slowest = 0.0
        self._began = 0.0

    def outcome(self, failed: bool) -> Outcome:
        """Of the last attempt that began; one that could not begin has done nothing."""
        if self.last is None:
            return Outcome.ROLLED_BACK
        outcome: Outcome = self.last.outcome
        assert failed or outcome is Outcome.COMMITTED
        return outcome

    def attempt(self, block: Any) -> Seen:
        self._block = both(block)
        self.last = None
        self._began = time.monotonic()
        return self

    async def __aenter__(self) -> Any:
        try:
            self.last = await self._block.__aenter__()
        except BaseException:
            self._over()
            raise
        return self.last

    async def __aexit__(self, *error: Any) -> Any:
        try:
            return await self._block.__aexit__(*error)
        finally:
            self._over()

    def _over(self) -> None:
        self.slowest = max(self.slowest, time.monotonic() - self._began)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return drive(function(*args))

    return call

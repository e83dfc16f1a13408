"""A shop: rows in the database, and everything else that a unit of it can touch."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy import text
from tests.contract.face import Face, both, result
from tests.contract.model import Item
from tests.retry.world import each

from unitofwork import RetryPolicy
from unitofwork.testing.faults import AsyncFaults, Fault, Faults, Report

__all__ = ["QUICK", "Body", "Shop", "both", "each", "insert", "load", "result", "take"]

QUICK = RetryPolicy(attempts=4, wait_initial=0.001, wait_max=0.005)
Body = Callable[["Shop", Any], Coroutine[Any, Any, Any]]


class Shop:
    """What units change: the rows of `item`, mails, a bank, a key-value store, a file."""

    def __init__(self, face: Face, directory: Path) -> None:
        self.face = face
        self.uow = face.uow
        self.file = directory / "orders.log"
        self.mails: list[str] = []
        self.charges: list[int] = []
        self.store: dict[str, int] = {}
        self.basket: list[int] = []
        #: Lists that a unit has beyond these.
        self.more: list[list[Any]] = []
        self.raw: list[Any] = []
        self.settings: dict[str, Any] = {}
        self.calls = 0

    def reset(self) -> None:
        self.face.aside("DELETE FROM item")
        self.face.aside("INSERT INTO item VALUES (1, 'stock 5')")
        self.mails.clear()
        self.charges.clear()
        self.store.clear()
        self.basket[:] = [11, 12]
        for one in self.more:
            one.clear()
        self.file.write_text("")
        self.calls = 0

    def state(self) -> Any:
        rows = self.face.aside("SELECT id, name FROM item ORDER BY id")
        outside = (self.mails, self.charges, self.basket, *self.more)
        return rows, *map(list, outside), dict(self.store), self.file.read_text()

    def unit(self, body: Body) -> Callable[[], Any]:
        """`body(shop, tx)` in a unit that is retried, its COMMIT confirmed where that can be."""
        options = {"retry": QUICK, "confirm_commit": self.face.is_postgres or None}

        async def with_tx(tx: Any) -> None:
            self.calls += 1
            await body(self, tx)

        return lambda: self.uow.run(self.face.function(with_tx), **options | self.settings)

    def plain(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
        """`work()` as it is, in the colour of the face."""
        return self.face.function(work)

    async def survey(self, unit: Callable[[], Any], faults: list[Fault] | None = None) -> Report:
        kind: Any = AsyncFaults if self.face.is_async else Faults
        with kind(
            self.uow, state=self.state, reset=self.reset, faults=faults, slow=0.01
        ) as injected:
            report: Report = await result(injected.survey(unit))
        print(report)
        return report


async def insert(tx: Any, key: int, name: str) -> None:
    """A row."""
    values = {"id": key, "name": name}
    await result(tx.execute(text("INSERT INTO item VALUES (:id, :name)"), values))


async def take(tx: Any) -> None:
    """One from the stock."""
    await result(tx.execute(text("UPDATE item SET name = 'stock 4' WHERE id = 1")))


async def load(tx: Any) -> Item:
    """The row of the stock."""
    item: Item = await result(tx.get_one(Item, 1))
    return item

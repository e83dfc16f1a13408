"""Units with a mistake each, as people make them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import exc, text
from tests.contract.face import drive

from unitofwork import UnitOfWorkError

from .world import Shop, both, insert, load, result, take

LOG = text("INSERT INTO item SELECT max(id) + 1, 'log' FROM item")
ORDERS: list[str] = []


def appends_to_a_global(shop: Shop) -> Any:
    """The second attempt sees what the first one has left, and numbers its row after it."""

    async def body(shop: Shop, tx: Any) -> None:
        ORDERS.append("order")
        await insert(tx, 10 + len(ORDERS), "order")

    shop.more.append(ORDERS)
    return shop.unit(body)


def empties_a_list_of_its_closure(shop: Shop) -> Any:
    """Only arguments are put back between attempts: the second one finds nothing to do."""
    basket = shop.basket

    async def body(shop: Shop, tx: Any) -> None:
        while basket:
            await insert(tx, basket.pop(), "order")

    return shop.unit(body)


def sends_a_mail_inside(shop: Shop) -> Any:
    """The mail is out, whether the unit commits or not."""

    async def body(shop: Shop, tx: Any) -> None:
        await insert(tx, 2, "order")
        shop.mails.append("thanks for your order")
        await take(tx)

    return shop.unit(body)


def charges_inside(shop: Shop) -> Any:
    """The last thing before COMMIT, which can still fail."""

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        await insert(tx, 2, "paid")
        shop.charges.append(100)

    return shop.unit(body)


def swallows_the_error(shop: Shop) -> Any:
    """Whoever called it believes that the order is stored."""

    async def body(shop: Shop, tx: Any) -> None:
        await insert(tx, 2, "order")

    shop.settings["retry"] = None
    unit = shop.unit(body)

    async def work() -> None:
        with contextlib.suppress(exc.SQLAlchemyError, UnitOfWorkError):
            await result(unit())

    return shop.plain(work)


def writes_on_a_second_connection(shop: Shop) -> Any:
    """The log entry is committed by itself, and once per attempt."""

    async def body(shop: Shop, tx: Any) -> None:
        async with both(shop.uow.engine.begin()) as connection:
            await result(connection.execute(LOG))
        await take(tx)

    return shop.unit(body)


def counts_in_a_store(shop: Shop) -> Any:
    """A counter that no rollback turns back."""

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        shop.store["orders"] = shop.store.get("orders", 0) + 1

    return shop.unit(body)


def writes_a_file(shop: Shop) -> Any:
    """A line per attempt."""

    async def body(shop: Shop, tx: Any) -> None:
        with shop.file.open("a") as file:
            file.write("order\n")
        await take(tx)

    return shop.unit(body)


def commits_halfway(shop: Shop) -> Any:
    """What comes behind the release may fail, and the first half stays."""

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        await result(tx.release(commit=True))
        await result(tx.reacquire(recheck="ignore"))
        await insert(tx, 2, "order")

    return shop.unit(body)


def starts_in_the_background(shop: Shop) -> Any:
    """The task (thread) does its work, whatever becomes of the unit."""

    async def other() -> None:
        with contextlib.suppress(exc.SQLAlchemyError):
            async with both(shop.uow.engine.begin()) as connection:
                await result(connection.execute(LOG))

    running: set[Any] = set()

    async def body(shop: Shop, tx: Any) -> None:
        if shop.face.is_async:
            task = asyncio.create_task(other())
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            threading.Thread(target=lambda: drive(other())).start()
        await take(tx)

    return shop.unit(body)


def caches_what_is_not_committed(shop: Shop) -> Any:
    """The second attempt trusts the key of a row that was rolled back."""

    async def body(shop: Shop, tx: Any) -> None:
        if "customer" not in shop.store:
            await insert(tx, 2, "customer")
            shop.store["customer"] = 2
        await take(tx)

    return shop.unit(body)


def retries_blindly(shop: Shop) -> Any:
    """A lost COMMIT may have been one."""

    async def body(shop: Shop, tx: Any) -> None:
        await result(tx.execute(LOG))

    shop.settings |= {"retry": None, "confirm_commit": None}
    unit = shop.unit(body)

    async def work() -> None:
        for _ in range(3):
            with contextlib.suppress(exc.SQLAlchemyError, UnitOfWorkError):
                return await result(unit())
        raise RuntimeError("three times in vain")

    return shop.plain(work)


def mails_in_the_first_attempt_only(shop: Shop) -> Any:
    """The callback of an attempt that failed is dropped, and there is no other."""

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        if tx.attempt == 1:
            tx.on_commit(lambda: None)

    return shop.unit(body)


def mails_behind_the_unit(shop: Shop) -> Any:
    """Cancelled between the commit and the mail: nobody will ever send it."""

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)

    unit = shop.unit(body)

    async def work() -> None:
        await result(unit())
        await asyncio.sleep(0)
        shop.mails.append("sold")

    return shop.plain(work)


def keeps_a_connection(shop: Shop) -> Any:
    """It is closed at the end, unless the end is not reached."""

    async def body(shop: Shop, tx: Any) -> None:
        connection = shop.uow.engine.connect()
        shop.raw.append(connection)
        await both(connection).__aenter__()
        await load(tx)
        await result(connection.close())

    return shop.unit(body)


PLANTED: list[Callable[[Shop], Any]] = [
    appends_to_a_global,
    empties_a_list_of_its_closure,
    sends_a_mail_inside,
    charges_inside,
    swallows_the_error,
    writes_on_a_second_connection,
    counts_in_a_store,
    writes_a_file,
    commits_halfway,
    starts_in_the_background,
    caches_what_is_not_committed,
    mails_in_the_first_attempt_only,
    keeps_a_connection,
]

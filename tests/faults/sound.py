"""Units that may be run again, or fail, at any point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import exc, text, update
from tests.contract.model import Item

from unitofwork import CURRENT

from .world import QUICK, Shop, both, each, insert, load, result, take


def changes_rows(shop: Shop) -> Any:
    """Objects and statements, sent by the flush at the end and before."""

    async def body(shop: Shop, tx: Any) -> None:
        item = await load(tx)
        item.name = "stock 4"
        tx.add(Item(id=2, name="order"))
        await result(tx.flush())
        await result(tx.execute(update(Item).where(Item.id == 2).values(name="paid")))
        tx.add(Item(id=3, name="parcel"))

    return shop.unit(body)


def mails_after_the_commit(shop: Shop) -> Any:
    """The mail goes out once, when the order is stored."""

    async def body(shop: Shop, tx: Any) -> None:
        await insert(tx, 2, "order")
        tx.on_commit(lambda: shop.mails.append("thanks for your order"))
        await take(tx)

    return shop.unit(body)


def writes_a_file_after_the_commit(shop: Shop) -> Any:
    """A line per order, by a method that is registered in the middle."""

    def write() -> None:
        with shop.file.open("a") as file:
            file.write("order\n")

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        tx.on_commit(write)
        await insert(tx, 2, "order")

    return shop.unit(body)


def catches_in_a_savepoint(shop: Shop) -> Any:
    """A duplicate is expected, and undone alone."""

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        try:
            async with both(tx.savepoint()):
                await insert(tx, 1, "duplicate")
        except exc.IntegrityError:
            await insert(tx, 2, "order")

    return shop.unit(body)


def empties_its_argument(shop: Shop) -> Any:
    """Arguments are put back before each attempt."""

    async def body(tx: Any, basket: list[int]) -> None:
        while basket:
            await insert(tx, basket.pop(), "order")

    options = {"retry": QUICK, "confirm_commit": shop.face.is_postgres or None}
    return lambda: shop.uow.run(shop.face.function(body), [11, 12], **options)


def asks_outside(shop: Shop) -> Any:
    """The price is asked for without holding a connection; asking changes nothing."""

    async def price() -> int:
        return 7

    asked = shop.face.function(price)

    async def body(shop: Shop, tx: Any) -> None:
        await load(tx)
        found = await result(tx.outside(asked))
        await insert(tx, found, "order")

    return shop.unit(body)


def only_reads(shop: Shop) -> Any:
    """Nothing to do twice, and nothing to lose."""

    async def body(shop: Shop, tx: Any) -> None:
        await load(tx)
        await result(tx.execute(text("SELECT count(*) FROM item")))

    shop.settings["read_only"] = True
    return shop.unit(body)


def joins_another(shop: Shop) -> Any:
    """A function with a unit of its own, called inside, and a nested one."""

    async def inner(*, tx: Any = CURRENT) -> None:
        await insert(tx, 2, "order")

    joined = shop.uow.transactional(shop.face.function(inner))

    async def body(shop: Shop, tx: Any) -> None:
        await take(tx)
        await result(joined())
        async with both(shop.uow(propagation="nested")) as nested:
            await insert(nested, 3, "parcel")

    return shop.unit(body)


def is_serializable(shop: Shop) -> Any:
    """An isolation level of its own, for which it has another view of the engine."""

    async def body(shop: Shop, tx: Any) -> None:
        item = await load(tx)
        item.name = "stock 4"

    shop.settings["isolation"] = "SERIALIZABLE"
    return shop.unit(body)


def is_never_run_again(shop: Shop) -> Any:
    """A plain block fails, and has done nothing."""

    async def work() -> None:
        async with both(shop.uow(confirm_commit=shop.face.is_postgres or None)) as tx:
            await take(tx)
            tx.on_commit(lambda: shop.mails.append("sold"))
            await insert(tx, 2, "order")

    return shop.plain(work)


def is_retried_as_a_block(shop: Shop) -> Any:
    """The block form; an error of COMMIT leaves it, with nothing done."""

    async def work() -> None:
        attempts = shop.uow.attempts(retry=QUICK, confirm_commit=shop.face.is_postgres or None)
        async for attempt in each(attempts):
            async with both(attempt) as tx:
                await take(tx)
                await insert(tx, 2, "order")

    return shop.plain(work)


def changes_its_mind(shop: Shop) -> Any:
    """It is rolled back in the end, and says so to a callback."""

    async def body(shop: Shop, tx: Any) -> None:
        await insert(tx, 2, "order")
        tx.on_commit(lambda: shop.mails.append("sold"))
        tx.set_rollback_only()

    return shop.unit(body)


def knows_an_order_by_its_number(shop: Shop) -> Any:
    """Blindly run again: what is there already is not done twice."""

    async def work() -> None:
        for _ in range(3):
            try:
                async with both(shop.uow()) as tx:
                    statement = "INSERT INTO item VALUES (2, 'order') ON CONFLICT DO NOTHING"
                    await result(tx.execute(text(statement)))
                return
            except Exception as error:
                last = error
        raise last

    return shop.plain(work)


SOUND: list[Callable[[Shop], Any]] = [
    changes_rows,
    mails_after_the_commit,
    writes_a_file_after_the_commit,
    catches_in_a_savepoint,
    empties_its_argument,
    asks_outside,
    only_reads,
    joins_another,
    is_serializable,
    is_never_run_again,
    is_retried_as_a_block,
    changes_its_mind,
    knows_an_order_by_its_number,
]

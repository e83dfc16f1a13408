"""What the lock recorder adds to a statement that was seen before: the same with and without it."""

from __future__ import annotations

import functools
import gc
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from sqlalchemy import select, text

from unitofwork import Transaction, UnitOfWork
from unitofwork.testing.postgres import EmbeddedPostgres

from .harness import Series
from .model import Account, next_id, sync_engine
from .report import Section, table

WITHOUT, AGAIN, WITH = "without", "without, again", "with"
#: Microseconds for each statement.
AT_MOST = 5.0
HEAD = ("statement", "without, µs", "again, µs", "with, µs", "more when quiet, µs", "more, µs")
#: Of a block, without the start of its unit.
STATEMENTS = 10
#: Makes, in a unit, what is done again and again there.
Work = Callable[[Transaction], Callable[[], object]]


def _select_1(tx: Transaction) -> Callable[[], object]:
    statement = text("SELECT 1")
    return lambda: tx.execute(statement)


def _flush(tx: Transaction) -> Callable[[], object]:
    account = tx.lock(Account, 1)

    def work() -> None:
        account.balance += 1
        tx.flush()

    return work


def _core_select(tx: Transaction) -> Callable[[], object]:
    accounts = Account.__table__
    statement = select(accounts).where(accounts.c.id == 1).with_for_update()
    return lambda: tx.execute(statement)


def _core_list(tx: Transaction) -> Callable[[], object]:
    accounts = Account.__table__
    ids = list(range(1, 13))
    statement = select(accounts.c.id).where(accounts.c.id.in_(ids)).with_for_update()
    return lambda: tx.execute(statement)


def _raw_update(tx: Transaction) -> Callable[[], object]:
    statement = text("UPDATE bench_account SET balance = 0 WHERE id = :id")
    return lambda: tx.execute(statement, {"id": next_id()})


WORKS: dict[str, Work] = {
    "`SELECT 1`": _select_1,
    "ORM update by id, a flush": _flush,
    "Core select for update by id": _core_select,
    "Core select for update of 12 ids": _core_list,
    "raw update by id, of another row each time": _raw_update,
}


async def measure(server: EmbeddedPostgres, quick: bool) -> Section:
    """Statements in units that go on, on psycopg; then units of one statement."""
    section = Section("Cost of the lock recorder")
    section.text.append(__doc__ or "")
    section.text.append(
        "The client's CPU time of one statement from call to result, the lowest decile of blocks "
        f'of {STATEMENTS}: what is left when nobody disturbs. "{AGAIN}" is the same as "{WITHOUT}" '
        "on an engine of its own: how far they are apart is how far the difference can be trusted. "
        '"More" is the median of the differences within a round.'
    )
    rounds = 100 if quick else 500
    rows: list[list[str]] = []
    costs: dict[str, float] = {}
    with ExitStack() as stack:
        ways = {}
        for way in (WITHOUT, AGAIN, WITH):
            engine = stack.enter_context(sync_engine(server.url("psycopg")))
            ways[way] = UnitOfWork(engine, record_locks=way == WITH)
        for name, work in WORKS.items():
            found = _alternate(ways, rounds, functools.partial(_in_one_unit, work))
            rows.append(_row(name, found))
            costs[name] = _more(found)
        rows.append(_row("a unit of one raw update", _alternate(ways, rounds, _in_units)))
    section.text.append(table(HEAD, rows))
    section.target("microseconds that it adds to a statement, when quiet", "≤", AT_MOST, costs)
    return section


def _alternate(
    ways: dict[str, UnitOfWork], rounds: int, block: Callable[[UnitOfWork], float]
) -> dict[str, Series]:
    """One block of each way, in random order, again and again."""
    series = {way: Series() for way in ways}
    for uow in ways.values():
        block(uow)  # connects, and fills caches
    gc.collect()
    gc.freeze()
    gc.disable()  # blocks are short: a collection would be most of one
    order = list(ways)
    for _ in range(rounds):
        random.shuffle(order)
        for way in order:
            series[way].cpu.append(block(ways[way]))
    gc.enable()
    return series


def _in_one_unit(prepare: Work, uow: UnitOfWork) -> float:
    with uow(name="one") as tx:
        work = prepare(tx)
        for _ in range(2):  # what is done once in a unit
            work()
        begun = time.thread_time()
        for _ in range(STATEMENTS):
            work()
        found = (time.thread_time() - begun) / STATEMENTS
        tx.set_rollback_only()
    return found


def _in_units(uow: UnitOfWork) -> float:
    begun = time.thread_time()
    for _ in range(STATEMENTS):
        with uow(name="each") as tx:
            _raw_update(tx)()
    return (time.thread_time() - begun) / STATEMENTS


def _more(found: dict[str, Series]) -> float:
    return (found[WITH].quiet_cpu - found[WITHOUT].quiet_cpu) * 1e6


def _row(name: str, found: dict[str, Series]) -> list[str]:
    quiet = [f"{found[way].quiet_cpu * 1e6:.1f}" for way in (WITHOUT, AGAIN, WITH)]
    pairs = zip(found[WITH].cpu, found[WITHOUT].cpu, strict=True)
    more = statistics.median(one - other for one, other in pairs) * 1e6
    return [name, *quiet, f"{_more(found):.1f}", f"{more:.1f}"]

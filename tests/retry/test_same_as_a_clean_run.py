"""An abort at any statement, or at COMMIT, leaves what a run without aborts leaves."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from tests.contract.face import checked_out, sync_engine

from unitofwork import CURRENT

from .world import QUICK, Posting, Purse, RetryFace, both, each, result

FORMS = ["run", "transactional", "attempts"]
#: The forms that also run a unit again whose COMMIT was refused.
WHOLE = ["run", "transactional"]
#: What a clean run of `work` leaves.
CLEAN = ([70, 130], [10, 20], ["mail 10", "mail 20"], ["10", "20"])


class Job:
    """A unit with reads, updates, inserts, a savepoint, arguments and callbacks."""

    def __init__(self, face: RetryFace) -> None:
        self.face = face
        self.mails: list[str] = []
        self.report: list[str] = []
        self.calls = 0

    async def work(self, amounts: list[int], report: list[str], *, tx: Any = CURRENT) -> None:
        self.calls += 1
        while amounts:
            amount = amounts.pop(0)
            one = await result(tx.get(Purse, 1, with_for_update=True))
            one.balance -= amount
            await result(tx.flush())
            add = update(Purse).where(Purse.id == 2).values(balance=Purse.balance + amount)
            async with both(tx.savepoint()):
                await result(tx.execute(add))
                tx.add(Posting(amount=amount))
                await result(tx.flush())
            await result(tx.scalars(select(Posting.amount)))
            tx.on_commit(lambda amount=amount: self.mails.append(f"mail {amount}"))
            report.append(str(amount))

    async def run(self, form: str) -> None:
        given = [10, 20]
        if form == "transactional":
            await result(self.face.decorated(self.work)(given, self.report))
        elif form == "run":
            run = self.face.function(self._with_tx_first)
            await result(self.face.uow.run(run, given, self.report, retry=QUICK))
        else:
            async for attempt in each(self.face.uow.attempts(retry=QUICK)):
                async with both(attempt) as tx:
                    report: list[str] = []
                    await self.work(list(given), report, tx=tx)
            self.report = report

    async def _with_tx_first(self, tx: Any, amounts: list[int], report: list[str]) -> None:
        await self.work(amounts, report, tx=tx)

    def left(self) -> tuple[list[int], list[int], list[str], list[str]]:
        return (self.face.balances(), self.face.postings(), self.mails, self.report)


def reset(face: RetryFace) -> None:
    face.aside("TRUNCATE retry_purse, retry_posting, retry_plan")
    face.aside("INSERT INTO retry_purse VALUES (1, 100), (2, 100)")
    face.aside("ALTER SEQUENCE retry_calls RESTART")


async def count_statements(face: RetryFace, form: str) -> int:
    """How many statements a clean run sends on a connection that is open already."""
    await face.warm(face.uow, 1)
    sent: list[str] = []
    job = Job(face)
    listening = (sync_engine(face.uow), "before_cursor_execute", lambda *a: sent.append(a[2]))
    event.listen(*listening)
    await job.run(form)
    event.remove(*listening)
    assert job.left() == CLEAN
    assert job.calls == 1
    return len(sent)


@pytest.mark.parametrize(
    ("form", "state"), [("run", "40001"), *((form, "40P01") for form in FORMS)]
)
async def test_the_server_aborts(face: RetryFace, form: str, state: str) -> None:
    """In place of statement k the server answers with this error, for each k of the unit."""
    total = await count_statements(face, form)
    assert total >= 10
    at = {"k": -1}
    counter = itertools.count()

    def act(_c: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> Any:
        if next(counter) == at["k"]:
            return f"SELECT retry_fail(1, '{state}')", ()
        return statement, given

    event.listen(sync_engine(face.uow), "before_cursor_execute", act, retval=True)
    for k in range(total):
        reset(face)
        at["k"], counter = k, itertools.count()
        job = Job(face)
        await job.run(form)
        assert job.left() == CLEAN, f"differs after {state} at statement {k}"
        assert job.calls == 2
        assert checked_out(face.uow) == 0
    print(f"{face.name} {form}: {state} at each of {total} statements")


async def test_the_connection_is_lost(face: RetryFace) -> None:
    """The server process is terminated right before statement k, for each k of the unit."""
    total = await count_statements(face, "transactional")
    at = {"k": -1}
    counter = itertools.count()

    def act(connection: Any, *_: Any) -> None:
        if next(counter) == at["k"]:
            face.terminate(pids[-1])

    pids: list[int] = []
    event.listen(sync_engine(face.uow), "before_cursor_execute", act)
    for k in range(total):
        reset(face)
        at["k"], counter = -1, itertools.count()
        async with both(face.uow()) as tx:
            pids.append(await result(tx.scalar(text("SELECT pg_backend_pid()"))))
        at["k"], counter = k, itertools.count()
        job = Job(face)
        await job.run("transactional")
        assert job.left() == CLEAN, f"differs after a loss at statement {k}"
        assert job.calls == 2
        assert checked_out(face.uow) == 0
    assert len(set(pids)) == total
    print(f"{face.name}: connection lost at each of {total} statements")


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("state", ["40P01", "40001"])
async def test_at_commit(face: RetryFace, form: str, state: str) -> None:
    """COMMIT is refused, by a deferred trigger."""
    face.plant_at_commit(1, state)
    job = Job(face)
    await job.run(form)
    assert job.left() == CLEAN
    assert job.calls == 2


@pytest.mark.parametrize("form", WHOLE)
async def test_at_commit_and_at_statements(face: RetryFace, form: str) -> None:
    """Several aborts in a row, each at another point."""
    face.plant_at_commit(3, "40001")
    counter = itertools.count()

    def act(_c: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> Any:
        if next(counter) in (3, 9):
            return "SELECT retry_fail(3, '40P01')", ()
        return statement, given

    event.listen(sync_engine(face.uow), "before_cursor_execute", act, retval=True)
    job = Job(face)
    await job.run(form)
    assert job.left() == CLEAN
    assert job.calls == 4

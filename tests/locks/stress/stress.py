"""Runs random programs, 16 at a time, and says what came of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import CircularDependencyError, IntegrityError
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError
from tests.support.probe import ServerProbe

from unitofwork import AsyncUnitOfWork, LateLockError, RetryPolicy
from unitofwork.testing.postgres import EmbeddedPostgres

from .model import RESET
from .one_row import OneRow
from .programs import Program, Step

TASKS = 16


@dataclass
class Report:
    """What one run has done."""

    committed: int = 0
    #: Units that the data refused: a value taken, a parent gone.
    rejected: int = 0
    #: Attempts that were run again, by why.
    again: Counter[str] = field(default_factory=Counter)
    most_attempts: int = 0
    #: Refused locks of one unit.
    most_refusals: int = 0
    #: Refused because of a row that came after its lock query.
    came_late: int = 0
    deadlocks: int = 0
    #: Of those the ones of PostgreSQL's own, about one row: see one_row.py.
    about_one_row: int = 0
    #: Waits for a row or value in a flush or a bulk statement, which the tripwire has ended.
    trips: int = 0
    #: Of those the ones for a row that the server let two lock at once: see one_row.py.
    twice: int = 0
    #: Waits for a table that another unit has for itself, ended likewise.
    table_trips: int = 0
    seconds: float = 0.0
    #: What should not be.
    errors: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)
    expected: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        return not (self.deadlocks > self.about_one_row or self.trips > self.twice or self.errors)

    def __str__(self) -> str:
        errors = "".join("\n  " + each for each in (self.errors + self.uncovered)[:10])
        return (
            f"{self.committed} commits, {self.rejected} rejected, in {self.seconds:.1f} s; "
            f"deadlocks {self.deadlocks} ({self.about_one_row} about one row), "
            f"trips {self.trips} ({self.twice} for rows locked twice, and {self.table_trips} of "
            "tables), "
            f"run again {dict(self.again)} ({self.came_late} for rows that came late), "
            f"at most {self.most_attempts} attempts and {self.most_refusals} refused locks in one "
            f"unit{errors}"
        )


def changed_meanwhile(error: BaseException) -> bool:
    """What was read has been changed or deleted by another one since: read it again."""
    return isinstance(error, (StaleDataError, ObjectDeletedError))


class _Over(Exception):
    """What was looked for is found."""


class _Trips(logging.Handler):
    """Counts what the library reports."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if not record.getMessage().startswith("uncovered wait"):
            return  # a deadlock, which the server has counted
        if "the server does not tell" in record.getMessage():
            self._report.table_trips += 1
        else:
            self._report.trips += 1
            self._report.uncovered.append(record.getMessage())


class Stress:
    """One run on a server of its own."""

    def __init__(self, server: EmbeddedPostgres, **options: Any) -> None:
        self.server = server
        self.options = options
        self.report = Report()

    async def run(
        self,
        transactions: int,
        seed: int = 1,
        seconds: float = 600.0,
        steps: dict[Step, int] | None = None,
        tasks: int = TASKS,
        until_failure: bool = False,
    ) -> Report:
        """At most so many transactions, and so long; the data is checked afterwards.

        `until_failure`: stop at the first deadlock or trip, and leave the data alone.
        """
        report = self.report
        trips = _Trips(report)
        logger = logging.getLogger("unitofwork.locks")
        logger.addHandler(trips)
        with ServerProbe(self.server.url(None)) as probe:
            probe.execute(RESET)
            before = await _deadlocks(probe)
            uow = AsyncUnitOfWork.from_url(
                self.server.url("asyncpg"), pool_size=tasks, **self.options
            )
            one_row = OneRow(uow, probe)
            began = time.monotonic()
            numbers = iter(range(transactions))

            async def worker() -> None:
                for number in numbers:
                    await self._unit(uow, (seed << 32) + number, steps)
                    if time.monotonic() - began > seconds:
                        break

            async def watcher() -> None:
                while time.monotonic() - began < seconds:
                    report.about_one_row, report.twice = one_row.deadlocks, one_row.waits
                    report.deadlocks = uow.stats().deadlocks
                    if not report.is_clean:
                        raise _Over  # what still runs waits in a circle, mostly
                    await asyncio.sleep(0.01)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(tasks):
                        group.create_task(worker())
                    if until_failure:
                        group.create_task(watcher())
            except* _Over:
                pass
            finally:
                report.seconds = time.monotonic() - began
                report.about_one_row, report.twice = one_row.deadlocks, one_row.waits
                logger.removeHandler(trips)
                await uow.engine.dispose()
            report.deadlocks = await _deadlocks(probe) - before
            if not until_failure:
                self._check(probe)
        return report

    async def _unit(self, uow: AsyncUnitOfWork, seed: int, steps: dict[Step, int] | None) -> None:
        report = self.report
        attempts = refusals = 0

        async def body(tx: Any) -> Counter[str]:
            nonlocal attempts, refusals
            attempts += 1
            try:
                return await tx.run_sync(lambda session: Program(session, seed, steps).run())
            except Exception as error:
                refusals += isinstance(error, LateLockError)
                report.came_late += "were not there" in str(error)
                report.again[_kind(error)] += 1
                raise

        policy = RetryPolicy(
            attempts=60, timeout=120, wait_initial=0.001, wait_max=0.02, on=changed_meanwhile
        )
        try:
            done = await uow.run(body, retry=policy, acquire_timeout=120)
        except (IntegrityError, CircularDependencyError):
            # Two units may have hung two nodes under each other, each seeing only its own half:
            # a third one that writes both can't be sorted by SQLAlchemy.
            report.rejected += 1
        except Exception as error:
            report.errors.append(f"{seed}: {_kind(error)}: {' '.join(str(error).split())[:600]}")
        else:
            report.committed += 1
            report.expected.update(done)
        report.most_attempts = max(report.most_attempts, attempts)
        report.most_refusals = max(report.most_refusals, refusals)

    def _check(self, probe: ServerProbe) -> None:
        def one(query: str) -> Any:
            ((value,),) = probe.execute(query)
            return value

        found = {
            "balances": one("SELECT sum(balance) - 100 * count(*) FROM stress_account"),
            "purses": one("SELECT sum(n) FROM stress_purse") - self.report.expected["purse"],
            "words": one("SELECT coalesce(sum(count), 0) FROM stress_word")
            - self.report.expected["word"],
            "sizes": one(
                "SELECT count(*) FROM stress_owner o WHERE size <> "
                "(SELECT count(*) FROM stress_item i WHERE i.owner_id = o.id)"
            ),
            "firms": one(
                "SELECT count(*) FROM stress_owner o FULL JOIN stress_firm f USING (id) "
                "WHERE (o.kind = 'firm') <> (f.id IS NOT NULL) OR o.id IS NULL"
            ),
        }
        wrong = {name: by for name, by in found.items() if by}
        if wrong:
            self.report.errors.append(f"wrong data: {wrong}")


async def _deadlocks(probe: ServerProbe) -> int:
    """Sessions tell of theirs late, at their end at the latest."""
    deadline = time.monotonic() + 20
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name NOT LIKE '%probe%'"
    others += " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    while probe.execute(others) != [(0,)] and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return probe.deadlocks()


def _kind(error: BaseException) -> str:
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return f"{type(error).__name__}{f' {state}' if state else ''}"

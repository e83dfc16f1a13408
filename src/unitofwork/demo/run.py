"""One run of the demo: both sides do the requests, then four ways the transfers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Generator, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from .measure import Requests, Side, Transfers, make_transfers, send_requests
from .model import customers_scored, reset, sum_of_accounts, tables
from .plain import Plain, SortedByHand
from .plan import EXPECTED, LATE, LOCK_MANY, PLAIN, SORTED, UNITS, WORKERS, Job, Plan
from .report import exit_code, print_plan, print_results
from .server import describe, measured_engine, observer_of, place, server
from .service import ScoreClient, slow_service
from .units import SecondRowLate, Units
from .watch import deadlocks, held_connections

MakeSide = Callable[[AsyncEngine, ScoreClient], Side]
Ways = Mapping[str, MakeSide]


def run_demo(url: str | None, plan: Plan, console: Console) -> int:
    """Run it on the server named, or on an embedded one, and print its report.

    Returns the exit code. Raises `DemoError` if it can't run.
    """
    with contextlib.ExitStack() as stack:
        with console.status("connecting" if url else "starting PostgreSQL"):
            address = stack.enter_context(server(url))
        return asyncio.run(_run(address, plan, console, embedded=url is None))


async def _run(url: URL, plan: Plan, console: Console, *, embedded: bool) -> int:
    async with (
        observer_of(url) as observer,
        tables(observer, plan),
        slow_service(plan.call) as service,
    ):
        where = "embedded, fsync off" if embedded else f"at {place(url)}"
        print_plan(console, plan, f"{await describe(observer)}, {where}")
        with _progress(console) as progress:
            bench = Bench(url, observer, service, plan, progress)
            units = functools.partial(Units, acquire_timeout=plan.pool_timeout)
            late = functools.partial(SecondRowLate, acquire_timeout=plan.pool_timeout)
            plain: Ways = {PLAIN: Plain}
            fast: Ways = {SORTED: SortedByHand, LOCK_MANY: units, LATE: late}
            requests = (await bench.requests(PLAIN, Plain), await bench.requests(UNITS, units))
            transfers = await bench.transfers(PLAIN, plain, plan.plain_limit)
            transfers |= await bench.transfers("in turns", fast, plan.fast_limit, plan.turns)
    print_results(console, plan, requests, transfers)
    return exit_code(requests, transfers)


class Bench:
    """Gives each side the same: fresh rows, an engine of its own, the same load."""

    def __init__(
        self,
        url: URL,
        observer: AsyncEngine,
        service: ScoreClient,
        plan: Plan,
        progress: Progress,
    ) -> None:
        self._url = url
        self._observer = observer
        self._service = service
        self._plan = plan
        self._progress = progress

    async def requests(self, name: str, make_side: MakeSide) -> Requests:
        """All requests at once, on the pool of the plan."""
        plan, observer = self._plan, self._observer
        await reset(observer)
        async with measured_engine(self._url, plan.pool, plan.pool_timeout) as engine:
            side = make_side(engine, self._service)
            async with held_connections(observer, plan.held_idle) as held:
                with self._bar(f"requests, {name}", plan.requests) as advance:
                    figures = await send_requests(side, plan, advance)
        figures.held = held.most
        figures.written = await customers_scored(observer)
        return figures

    async def transfers(
        self, name: str, ways: Ways, limit: float, turns: int = 1
    ) -> dict[str, Transfers]:
        """The transfers in each way: for `limit` seconds, of which it has a part in each turn."""
        jobs = self._plan.transfer_jobs()
        found = {way: Transfers() for way in ways}
        with self._bar(f"transfers, {name}", len(ways) * len(jobs)) as advance:
            for turn in range(turns):
                for way, figures in found.items():
                    part = jobs[turn::turns]
                    await self._turn(ways[way], part, limit / turns, figures, advance)
        return found

    async def _turn(
        self,
        make_side: MakeSide,
        jobs: list[Job],
        limit: float,
        figures: Transfers,
        advance: Callable[[], None],
    ) -> None:
        """Some of the transfers in one way, with a connection for each worker."""
        observer = self._observer
        await reset(observer)
        before = await deadlocks(observer)
        async with measured_engine(self._url, WORKERS, self._plan.pool_timeout) as engine:
            side = make_side(engine, self._service)
            await make_transfers(side, jobs, limit, figures, advance)
        figures.deadlocks += await deadlocks(observer) - before
        figures.total += await sum_of_accounts(observer) - EXPECTED

    @contextlib.contextmanager
    def _bar(self, description: str, total: int) -> Generator[Callable[[], None]]:
        task = self._progress.add_task(description, total=total)
        try:
            yield lambda: self._progress.advance(task)
        finally:
            self._progress.stop_task(task)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<27}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )

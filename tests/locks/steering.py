"""Transactions that are led into each other step by step: a deadlock by plan, not by luck."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn
from tests.pool.pool_face import PoolFace, both, result

from unitofwork import AsyncUnitOfWork, RetryPolicy, UnitOfWork

#: The work of one transaction, on a session or a unit's `tx`: plain sync code for either face.
Body = Callable[[Any, "Party"], Any]
#: The work of one party, if that is more than one transaction.
Work = Callable[["Party"], Coroutine[Any, Any, Any]]
#: Who is at work here; it goes with the task or thread.
PARTY: contextvars.ContextVar[Party | None] = contextvars.ContextVar("party", default=None)
#: What takes longer is taken for a hang, in seconds; the server's deadlock_timeout is 0.2.
PATIENCE = 10.0
POLICY = RetryPolicy(attempts=8, wait_initial=0.001, wait_max=0.01)


class Party:
    """One transaction of a test, and where it stands."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.attempts = 0
        self.refusals: list[Exception] = []
        self.ended = False
        self._arrived = 0
        self._writes_to_meet = 0

    def meet(self) -> None:
        """Wait until each other party is here too, waits for a lock, or is over.

        Only a first attempt meets: a further one finds nobody to wait for.
        """
        self._arrived += 1
        if self.attempts > 1:
            return
        others = [party for party in self.stage.parties if party is not self]
        self.stage.until(
            lambda: sum(party._comes(self._arrived) for party in others) <= self.stage.blocked()
        )

    async def meeting(self) -> None:
        """`meet` for a `Work`."""
        if self.stage.face.is_async:
            await greenlet_spawn(self.meet)
        else:
            self.meet()

    def meet_after_write(self, number: int = 1) -> None:
        """Meet the others when this transaction has sent its next INSERT, UPDATE or DELETE."""
        self._writes_to_meet = number

    def when_other_waits(self) -> None:
        """Go on when another party waits for a lock, or is over."""
        self.stage.until(
            lambda: self.attempts > 1 or self.stage.blocked() > 0 or self._others_ended()
        )

    def _others_ended(self) -> bool:
        return any(party.ended for party in self.stage.parties if party is not self)

    def wrote(self, statement: str) -> None:
        """A statement of this party was sent."""
        if self._writes_to_meet and statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self._writes_to_meet -= 1
            if not self._writes_to_meet:
                self.meet()

    def _comes(self, point: int) -> bool:
        return not self.ended and self.attempts <= 1 and self._arrived < point


@dataclass(kw_only=True)
class Ended:
    """How it ended: per party what its body returned, or its error."""

    results: list[Any] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    #: Per party, what its attempts failed with.
    refusals: list[list[Exception]] = field(default_factory=list)
    #: That the server has resolved meanwhile.
    deadlocks: int = 0
    #: Waits that nobody had seen coming, which the units' tripwire has ended.
    uncovered: int = 0

    @property
    def errors(self) -> list[BaseException]:
        return [each for each in self.results if isinstance(each, BaseException)]

    def check_deadlock(self) -> None:
        """One was the victim of a deadlock, the others have committed."""
        assert self.deadlocks == 1, self
        assert len(self.errors) == 1, self
        assert sqlstate(self.errors[0]) == "40P01", self

    def check_well(self, *, uncovered: bool | None = False) -> None:
        """All have committed, with no deadlock on the way.

        `uncovered`: whether the tripwire had to end a wait; None where that is left to chance.
        """
        assert not self.errors, self
        assert self.deadlocks == 0, self
        assert uncovered is None or (self.uncovered > 0) is uncovered, self


class Stage:
    """A driver and its face; runs the bodies of a test at the same time."""

    def __init__(self, face: PoolFace) -> None:
        assert face.probe is not None
        self.face = face
        self.probe = face.probe
        self.parties: list[Party] = []
        self._engines: list[Any] = []
        self._uows: list[Any] = []

    def blocked(self) -> int:
        """How many sessions wait for a lock."""
        return len(self.probe.blocked())

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait, in a body, until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the parties don't meet"
            if self.face.is_async:
                await_only(asyncio.sleep(0.002))
            else:
                time.sleep(0.002)

    def engine(self, **options: Any) -> Any:
        """A plain engine of SQLAlchemy's, for the next run only."""
        make: Any = create_async_engine if self.face.is_async else create_engine
        engine = self.face._hygiene.watch(make(self.face.url, **options))
        sync_engine = engine.sync_engine if self.face.is_async else engine
        event.listen(sync_engine, "after_cursor_execute", _sent)
        self._engines.append(engine)
        return engine

    def session(self, engine: Any) -> Any:
        """A plain session of this face."""
        kind: Any = AsyncSession if self.face.is_async else Session
        return kind(engine)

    def unit_of_work(self, engine: Any, **options: Any) -> Any:
        """A unit of work of this face."""
        kind: Any = AsyncUnitOfWork if self.face.is_async else UnitOfWork
        self._uows.append(kind(engine, **options))
        return self._uows[-1]

    async def plain(
        self,
        *bodies: Body,
        gate: str | None = None,
        pool: dict[str, Any] | None = None,
        **options: Any,
    ) -> Ended:
        """Run each body in a plain session, which is committed; `options` are the session's."""
        engine = self.engine(**(pool or {"pool_size": len(bodies)}))
        kind: Any = AsyncSession if self.face.is_async else Session

        def work(body: Body) -> Work:
            async def run(party: Party) -> Any:
                party.attempts += 1
                async with both(kind(engine, **options)) as session:
                    found = await self.call(session, body, party)
                    await result(session.commit())
                    return found

            return run

        return await self.run(*map(work, bodies), gate=gate)

    async def units(
        self,
        *bodies: Body,
        gate: str | None = None,
        prepare: Callable[[Any], object] = lambda uow: None,
        of_uow: dict[str, Any] | None = None,
        **options: Any,
    ) -> Ended:
        """Run each body in a unit, which is run again where that is due.

        `of_uow`: options of the unit of work; `prepare` is called with it; `options`: the units'.
        """
        uow = self.unit_of_work(self.engine(pool_size=len(bodies)), **(of_uow or {}))
        prepare(uow)

        def work(body: Body) -> Work:
            async def run(party: Party) -> Any:
                async def attempt(tx: Any) -> Any:
                    return await self.call(tx, body, party)

                return await self.unit(uow, party, attempt, **options)

            return run

        return await self.run(*map(work, bodies), gate=gate)

    async def unit(self, uow: Any, party: Party, attempt: Any, **options: Any) -> Any:
        """Run `attempt(tx)` in a unit, and again where that is due."""
        options.setdefault("retry", POLICY)

        async def counted(tx: Any) -> Any:
            party.attempts += 1
            try:
                return await attempt(tx)
            except Exception as error:
                party.refusals.append(error)
                raise

        return await result(uow.run(self.face.function(counted), **options))

    async def call(self, session: Any, body: Body, party: Party) -> Any:
        """Run a body on a session of this face."""
        if self.face.is_async:
            return await session.run_sync(body, party)
        return body(session, party)

    async def run(self, *works: Work, gate: str | None = None) -> Ended:
        """Run all at the same time.

        `gate`: a statement of a transaction of its own, which ends as soon as all wait for a lock:
        with it each stops in the middle of a statement.
        """
        await self._gone()
        before = self.probe.deadlocks()
        self.parties = [Party(self) for _ in works]
        connection = psycopg.connect(self.probe.dsn) if gate else None
        if connection is not None:
            connection.execute(gate)
        children = [
            self.face.start(self._started(party, work))
            for party, work in zip(self.parties, works, strict=True)
        ]
        if connection is not None:
            await self.face.until(
                lambda: self.blocked() >= len(works) or all(each.ended for each in self.parties)
            )
            connection.rollback()
            connection.close()
        try:
            results = [await self.face.join(child) for child in children]
        except BaseException:
            # Who still waits here would wait for ever.
            self.probe.terminate_all()
            raise
        # A backend that stays in a pool reports its counts late.
        while self._engines:
            await result(self._engines.pop().dispose())
        uncovered = sum(uow.stats().uncovered_waits for uow in self._uows)
        self._uows.clear()
        await self._gone()
        return Ended(
            results=results,
            attempts=[party.attempts for party in self.parties],
            refusals=[party.refusals for party in self.parties],
            deadlocks=self.probe.deadlocks() - before,
            uncovered=uncovered,
        )

    def _started(self, party: Party, work: Work) -> Any:
        async def started() -> Any:
            PARTY.set(party)
            try:
                running = work(party)
                return await (
                    asyncio.wait_for(running, PATIENCE) if self.face.is_async else running
                )
            except Exception as error:
                return error
            finally:
                party.ended = True

        return started

    async def _gone(self) -> None:
        await self.face.until(lambda: not self.probe.sessions())


def _sent(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    party = PARTY.get()
    if party is not None:
        party.wrote(statement)


def sqlstate(error: BaseException) -> str | None:
    """The server's code for a driver's error that SQLAlchemy has wrapped."""
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)

"""`attempts()`, `run()` and the retry of decorated functions, for async units."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ..core.attempts import Arguments, Story, pause
from ..core.retried import arrangement
from ..policies.retrying import RetryPolicy
from .async_transaction import AsyncTransaction
from .async_unit import AsyncUnit

if TYPE_CHECKING:
    from tenacity import AttemptManager
    from tenacity.asyncio import AsyncRetrying

T = TypeVar("T")


class AsyncAttempts:
    """`async for attempt in uow.attempts(): async with attempt as tx:`"""

    def __init__(self, open_unit: Callable[[], AsyncUnit], policy: RetryPolicy | None) -> None:
        self._open_unit = open_unit
        self._story = None if policy is None else Story(policy)
        self._last: AsyncAttempt | None = None
        self._retrying: AsyncRetrying | None = None
        self._failed: AttemptManager | None = None

    @property
    def retries(self) -> bool:
        """Whether there can be a second attempt."""
        return self._story is not None

    def __aiter__(self) -> AsyncAttempts:
        return self

    async def __anext__(self) -> AsyncAttempt:
        if self._last is not None:
            if self._last.again is None:
                raise StopAsyncIteration
            await self._wait(self._last, self._last.again)
        self._last = AsyncAttempt(self._open_unit(), self._story)
        return self._last

    async def _wait(self, last: AsyncAttempt, error: BaseException) -> None:
        from tenacity import RetryError
        from tenacity.asyncio import AsyncRetrying

        story = self._story
        assert story is not None
        if self._retrying is None:
            self._retrying = AsyncRetrying(sleep=_sleep, **arrangement(story)).__aiter__()
            self._failed = await self._retrying.__anext__()
        assert self._failed is not None
        self._failed.__exit__(type(error), error, error.__traceback__)
        try:
            self._failed = await self._retrying.__anext__()
        except RetryError:
            raise story.exceeded(last.unit_name) from error
        if story.needs_new_connections:
            await last.engine.dispose()


class AsyncAttempt:
    """One attempt, as a block. An error that allows another attempt does not leave it."""

    def __init__(self, block: AsyncUnit, story: Story | None) -> None:
        self._block = block
        self._story = story
        #: The error to run the unit again for; None where there is none.
        self.again: BaseException | None = None
        #: Whoever runs the block looks at `again` before using its result.
        self.keeps_result = False
        self.engine = block.engine

    @property
    def unit_name(self) -> str:
        """For messages."""
        return self._block.unit.name

    async def __aenter__(self) -> AsyncTransaction:
        if self._story is not None:
            self._story.begin_attempt()
        tx = await self._block.__aenter__()
        if self._story is not None:
            tx.unit.story = self._story
            tx.unit.attempt = self._story.number
        return tx

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        raised: BaseException | None = None
        try:
            await self._block.__aexit__(kind, error, traceback)
        except BaseException as failed:
            raised = failed
        outcome = raised or error
        story = self._story
        if outcome is None:
            return False
        if error is None and not self.keeps_result:
            # COMMIT failed. The block may have been left by return or break: then nobody would
            # run it again, so the error must not be swallowed.
            raise outcome
        if story is not None and story.attempt_failed(outcome, self._block.unit):
            self.again = outcome
            return True
        if raised is not None:
            raise raised
        return False


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(pause(seconds))


async def run_attempts(
    attempts: AsyncAttempts,
    call: Callable[[AsyncTransaction], Awaitable[T]],
    arguments: Arguments | None,
) -> T:
    """Call with each attempt's transaction until one succeeds; the result of that one."""
    async for attempt in attempts:
        attempt.keeps_result = True
        async with attempt as tx:
            if arguments is not None and tx.attempt > 1:
                arguments.restore()
            result = await call(tx)
        if attempt.again is None:
            return result
    raise AssertionError("attempts end by a result or an error")

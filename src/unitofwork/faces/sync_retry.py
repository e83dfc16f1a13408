"""`attempts()`, `run()` and the retry of decorated functions, for sync units."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ..core.attempts import Arguments, Story, pause
from ..core.retried import arrangement
from ..policies.retrying import RetryPolicy
from .sync_transaction import Transaction
from .sync_unit import SyncUnit

if TYPE_CHECKING:
    from tenacity import AttemptManager

T = TypeVar("T")


class SyncAttempts:
    """`for attempt in uow.attempts(): with attempt as tx:`"""

    def __init__(self, open_unit: Callable[[], SyncUnit], policy: RetryPolicy | None) -> None:
        self._open_unit = open_unit
        self._story = None if policy is None else Story(policy)
        self._last: SyncAttempt | None = None
        self._retrying: Iterator[AttemptManager] | None = None
        self._failed: AttemptManager | None = None

    @property
    def retries(self) -> bool:
        """Whether there can be a second attempt."""
        return self._story is not None

    def __iter__(self) -> SyncAttempts:
        return self

    def __next__(self) -> SyncAttempt:
        if self._last is not None:
            if self._last.again is None:
                raise StopIteration
            self._wait(self._last, self._last.again)
        self._last = SyncAttempt(self._open_unit(), self._story)
        return self._last

    def _wait(self, last: SyncAttempt, error: BaseException) -> None:
        from tenacity import RetryError, Retrying

        story = self._story
        assert story is not None
        if self._retrying is None:
            self._retrying = iter(Retrying(sleep=_sleep, **arrangement(story)))
            self._failed = next(self._retrying)
        assert self._failed is not None
        self._failed.__exit__(type(error), error, error.__traceback__)
        try:
            self._failed = next(self._retrying)
        except RetryError:
            raise story.exceeded(last.unit_name) from error
        if story.needs_new_connections:
            last.engine.dispose()


class SyncAttempt:
    """One attempt, as a block. An error that allows another attempt does not leave it."""

    def __init__(self, block: SyncUnit, story: Story | None) -> None:
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

    def __enter__(self) -> Transaction:
        if self._story is not None:
            self._story.begin_attempt()
        tx = self._block.__enter__()
        if self._story is not None:
            tx.unit.story = self._story
            tx.unit.attempt = self._story.number
        return tx

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        raised: BaseException | None = None
        try:
            self._block.__exit__(kind, error, traceback)
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


def _sleep(seconds: float) -> None:
    time.sleep(pause(seconds))


def run_attempts(
    attempts: SyncAttempts,
    call: Callable[[Transaction], T],
    arguments: Arguments | None,
) -> T:
    """Call with each attempt's transaction until one succeeds; the result of that one."""
    for attempt in attempts:
        attempt.keeps_result = True
        with attempt as tx:
            if arguments is not None and tx.attempt > 1:
                arguments.restore()
            result = call(tx)
        if attempt.again is None:
            return result
    raise AssertionError("attempts end by a result or an error")

"""The pytest fixture `faults`; import it in a `conftest.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, overload

import pytest

from unitofwork import AsyncUnitOfWork, UnitOfWork

from .async_runs import AsyncFaults
from .sync_runs import Faults


class MakeFaults:
    """`faults(uow, state=..., reset=...)`: an open `AsyncFaults`, or `Faults` for a sync `uow`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.made: list[AsyncFaults | Faults] = []

    @overload
    def __call__(self, uow: AsyncUnitOfWork, **options: Any) -> AsyncFaults: ...

    @overload
    def __call__(self, uow: UnitOfWork, **options: Any) -> Faults: ...

    def __call__(self, uow: Any, **options: Any) -> AsyncFaults | Faults:
        kind: Any = AsyncFaults if isinstance(uow, AsyncUnitOfWork) else Faults
        made: AsyncFaults | Faults = self._stack.enter_context(kind(uow, **options))
        self.made.append(made)
        return made


@pytest.fixture
def faults() -> Iterator[MakeFaults]:
    """Makes `AsyncFaults` and `Faults` for a test, and prints at its end what was injected."""
    with ExitStack() as stack:
        make = MakeFaults(stack)
        yield make
    injected = sum((each.injected for each in make.made), Counter[Any]())
    listed = ", ".join(f"{name} {count}" for name, count in injected.items())
    print(f"{injected.total()} faults injected: {listed or 'none'}")

"""Collects what the watch says."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from .pool_face import PoolFace

#: Seconds; much less than the default, so that the tests need not wait.
HOLD_WARNING = 0.15


class Reports(logging.Handler):
    """The log lines of the watch while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    @property
    def held(self) -> list[str]:
        return [line for line in self.said if "has held a connection" in line]

    @property
    def leaked(self) -> list[str]:
        return [line for line in self.said if "which took it" in line]

    @property
    def back(self) -> list[str]:
        return [line for line in self.said if "came back" in line]

    def __enter__(self) -> Self:
        logging.getLogger("unitofwork.watch").addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger("unitofwork.watch").removeHandler(self)


def watched(face: PoolFace, **options: Any) -> Any:
    """A unit of work that watches closely during its lifespan."""
    options = {"pool_size": 3, "max_overflow": 0, "hold_warning": HOLD_WARNING, **options}
    return face.gated(**options)

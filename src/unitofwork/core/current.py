"""Which unit this task (thread) is in."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from . import places

if TYPE_CHECKING:
    from .unit import Unit

_innermost: ContextVar[Unit | None] = ContextVar("unitofwork_innermost", default=None)


def enter(unit: Unit) -> None:
    """Make `unit` the innermost one."""
    _innermost.set(unit)


def leave(unit: Unit) -> None:
    """Take `unit` off again, if it is on top here.

    The end may run in another context than the beginning (an async generator finalised by the
    event loop), so a `ContextVar` token would be refused there; ended units are passed over below.
    """
    if _innermost.get() is unit:
        _innermost.set(unit.ancestor)


def ancestors() -> Iterator[Unit]:
    """The running units around this code, innermost first; also those of the task that made us."""
    unit = _innermost.get()
    while unit is not None:
        if not unit.ended:
            yield unit
        unit = unit.ancestor


def own() -> Iterator[Unit]:
    """Those of `ancestors()` that this very task (thread) opened."""
    unit = _innermost.get()
    if unit is None:
        return
    here = places.actor()
    while unit is not None:
        if not unit.ended and unit.owner is here:
            yield unit
        unit = unit.ancestor

"""Which unit this task (thread) is in."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from . import places

if TYPE_CHECKING:
    from .unit import Unit


class Link:
    """A unit as a context remembers it, until it ends.

    Contexts are copied by every task and callback that is begun in a unit, and live as long as
    those do; for asyncpg's sockets that is as long as the connection. They must not keep the unit.
    """

    __slots__ = ("outer", "unit")

    def __init__(self, unit: Unit, outer: Link | None) -> None:
        self.unit: Unit | None = unit
        self.outer = outer


_innermost: ContextVar[Link | None] = ContextVar("unitofwork_innermost", default=None)


def enter(unit: Unit) -> Link:
    """Make `unit` the innermost one; the link is to be cut when it ends."""
    link = Link(unit, _running(_innermost.get()))
    _innermost.set(link)
    return link


def leave(link: Link | None) -> None:
    """Take a unit off again, if it is on top here.

    The end may run in another context than the beginning (an async generator finalised by the
    event loop), so a `ContextVar` token would be refused there; cut links are passed over below.
    """
    if link is not None and _innermost.get() is link:
        _innermost.set(link.outer)


def _running(link: Link | None) -> Link | None:
    """The innermost link, from this one on, whose unit has not ended."""
    while link is not None and link.unit is None:
        link = link.outer
    return link


def ancestors() -> tuple[Unit, ...]:
    """The running units around this code, innermost first; also those of the task that made us."""
    link, found = _innermost.get(), []
    while link is not None:
        if link.unit is not None:
            found.append(link.unit)
        link = link.outer
    return tuple(found)


def own() -> tuple[Unit, ...]:
    """Those of `ancestors()` that this very task (thread) opened."""
    around = ancestors()
    if not around:
        return around
    here = places.actor()
    return tuple([unit for unit in around if unit.owner is here])

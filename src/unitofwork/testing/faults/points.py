"""Which faults there are, and the points of a unit where each can strike; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from unitofwork import ConfigurationError

Fault = Literal[
    "deadlock",
    "serialization",
    "busy",
    "connection_lost",
    "commit_lost_before",
    "commit_lost_after",
    "slow_checkout",
    "cancel",
]
"""What can go wrong:

- `deadlock`, `serialization`: PostgreSQL aborts the transaction with 40P01 or 40001
- `busy`: SQLite refuses with SQLITE_BUSY
- `connection_lost`: the connection is dead when the statement is sent
- `commit_lost_before`: it is lost at COMMIT, and the server rolls back
- `commit_lost_after`: the server commits, and the connection is lost before it can say so
- `slow_checkout`: the pool takes long to give a connection
- `cancel`: the task is cancelled; async units only
"""
FAULTS: tuple[Fault, ...] = get_args(Fault)

Site = Literal["statement", "commit", "checkout", "await"]
"""Where a fault strikes: the k-th of these that the unit gets to, counted over all connections."""

SITES: Mapping[Fault, tuple[Site, ...]] = MappingProxyType(
    {
        "deadlock": ("statement", "commit"),
        "serialization": ("statement", "commit"),
        "busy": ("statement", "commit"),
        "connection_lost": ("statement",),
        "commit_lost_before": ("commit",),
        "commit_lost_after": ("commit",),
        "slow_checkout": ("checkout",),
        "cancel": ("await",),
    }
)


@dataclass(frozen=True, slots=True)
class Point:
    """One fault at one place: the `number`-th (from 1) statement, COMMIT, checkout or await."""

    fault: Fault
    site: Site
    number: int

    def __str__(self) -> str:
        return f"{self.fault} at {self.site} {self.number}"


def points(faults: Iterable[Fault], counts: Mapping[Site, int]) -> Iterator[Point]:
    """All points of these faults in a unit with so many of each site."""
    for fault in faults:
        for site in SITES[fault]:
            for number in range(1, counts.get(site, 0) + 1):
                yield Point(fault, site, number)


def chosen(asked: Iterable[Fault] | None, possible: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """The faults to inject: those asked for, else all possible ones.

    Raises `ConfigurationError` for one that can't be injected here.
    """
    wanted = possible if asked is None else tuple(asked)
    for fault in wanted:
        if fault not in possible:
            raise ConfigurationError(
                f"The fault {fault!r} can't be injected into this unit of work.",
                f"choose among {', '.join(possible)}.",
            )
    return wanted

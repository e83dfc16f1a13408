"""The one number to set: how many connections a process needs, and how many fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .facts import Facts
from .rule import Problem, rule
from .sums import Sum, fitting_size, processes

#: What `from_url` takes where nothing is known of the load.
USUAL = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A pool size with the sum that led to it."""

    #: For each process, with `max_overflow=0`.
    pool_size: int
    #: The sum, written out.
    message: str
    #: Whether that many are enough for the wanted throughput; None where it is not known.
    suffices: bool | None


def needed_size(facts: Facts) -> Sum | None:
    """Connections that each process needs for the wanted throughput: Little's law.

    Units per second times seconds per unit is how many connections are busy on average. Arrivals
    come in bursts: twice the square root is put on top (square-root staffing).
    """
    process = facts.process
    measured = facts.server.transaction_time if facts.server is not None else None
    seconds = measured if process.transaction_time is None else process.transaction_time
    if process.throughput is None or seconds is None:
        return None
    fleet = processes(process)
    busy = process.throughput * seconds / fleet.value
    value = max(1, math.ceil(busy + 2 * math.sqrt(busy)), process.connections or 1)
    return Sum(
        value,
        f"{process.throughput:g} units/s x {seconds:.4g} s / ({fleet.text}) = {busy:.3g} busy on "
        f"average; {busy:.3g} + 2 x sqrt({busy:.3g}) for bursts: {value} each",
    )


def recommend(facts: Facts) -> Recommendation | None:
    """The pool size for each process; None where too little is known, or nothing fits."""
    needed, fitting = needed_size(facts), fitting_size(facts)
    if fitting is not None and fitting.value < 1:
        return None
    if needed is None and fitting is None:
        return None
    if needed is None:
        assert fitting is not None
        wished = max(facts.engine.capacity or USUAL, facts.process.connections or 1)
        size = min(wished, fitting.value)
        return Recommendation(
            pool_size=size, message=f"pool_size={size}; room: {fitting.text}.", suffices=None
        )
    if fitting is None:
        return Recommendation(
            pool_size=needed.value,
            message=f"pool_size={needed.value}; needed: {needed.text}; room: unknown.",
            suffices=None,
        )
    size = min(needed.value, fitting.value)
    return Recommendation(
        pool_size=size,
        message=f"pool_size={size}; needed: {needed.text}; room: {fitting.text}.",
        suffices=needed.value <= fitting.value,
    )


@rule("info")
def recommendation(facts: Facts) -> Problem | None:
    """The pool size that fits, with the sum."""
    found = recommend(facts)
    if found is None:
        return None
    short = " That is too few for the wanted throughput." if found.suffices is False else ""
    return Problem(
        found.message + short,
        f"create_engine(..., pool_size={found.pool_size}, max_overflow=0).",
        found.pool_size,
    )

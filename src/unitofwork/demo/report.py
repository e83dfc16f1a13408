"""What the demo prints: the plan, the tables of figures, and what they say."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from .measure import Requests, Transfers
from .plan import ACCOUNTS, EXPECTED, LATE, LOCK_MANY, PLAIN, SORTED, UNITS, WORKERS, Plan

#: Of plain SQLAlchemy and of unitofwork, in this order.
BothRequests = tuple[Requests, Requests]
#: By the name of the way, in the order of the columns.
AllTransfers = dict[str, Transfers]


def print_plan(console: Console, plan: Plan, server: str) -> None:
    """What is going to be measured, and where."""
    for line in (
        server,
        f"{plan.requests} requests at once, each: read a row, call a service over HTTP "
        f"({plan.call * 1000:.0f} ms), write the row; pool of {plan.pool}, no overflow, "
        f"pool_timeout {plan.pool_timeout:g} s",
        f"up to {plan.transfers} transfers between {ACCOUNTS} accounts by {WORKERS} workers, four "
        "ways, whose rates are compared:",
        f"{PLAIN}: {plan.plain_limit:g} s at most; a deadlock's victim tries again",
        f"{SORTED}, {LOCK_MANY} (one call), {LATE} (two calls): "
        f"{plan.fast_limit:g} s each at most, in {plan.turns} turns",
        "",
    ):
        console.print(line, highlight=False)


def print_results(
    console: Console, plan: Plan, requests: BothRequests, transfers: AllTransfers
) -> None:
    """Both tables, then three lines that follow from them."""
    console.print()
    console.print(requests_table(plan, requests))
    console.print(transfers_table(transfers))
    for line in findings(plan, requests, transfers):
        console.print(f"- {line}", highlight=False)
    for side, figures in zip((PLAIN, UNITS), requests, strict=True):
        for error in figures.other_errors[:1]:
            console.print(f"! {side}: first other error: {error}", highlight=False, markup=False)


def requests_table(plan: Plan, requests: BothRequests) -> Table:
    """Every figure of the requests."""
    grid = _grid(PLAIN, UNITS)
    a, b = requests
    held = f"idle in transaction > {plan.held_idle * 1000:.0f} ms, most at once"
    grid.add_row("requests per second", _rate(a.per_second), _rate(b.per_second))
    for percent in (50, 99):
        times = _time(a.latency(percent)), _time(b.latency(percent))
        grid.add_row(f"latency p{percent}, served", *times)
    grid.add_row("pool timeouts", str(a.pool_timeouts), str(b.pool_timeouts))
    grid.add_row("failed requests", str(a.failed), str(b.failed))
    grid.add_row(held, str(a.held), str(b.held))
    return grid


def transfers_table(transfers: AllTransfers) -> Table:
    """Every figure of the transfers."""
    grid = _grid(*transfers)
    ways = transfers.values()
    grid.add_row("transfers per second", *(_rate(way.per_second) for way in ways))
    for name in (PLAIN, SORTED):
        grid.add_row(f"times {name}", *(_ratio(way, transfers[name]) for way in ways))
    grid.add_row("transfers done", *(str(way.done) for way in ways))
    grid.add_row("deadlocks", *(str(way.deadlocks) for way in ways))
    grid.add_row("restarts", *(str(way.restarts) for way in ways))
    grid.add_row(f"sum, expected {EXPECTED}", *(str(way.total) for way in ways))
    return grid


def findings(plan: Plan, requests: BothRequests, transfers: AllTransfers) -> list[str]:
    """What was seen, in three lines."""
    a, b = requests
    c, d = transfers[PLAIN], transfers[LOCK_MANY]
    right = all(way.total == EXPECTED for way in transfers.values())
    sums = "right on all sides" if right else "WRONG"
    return [
        f"Up to {a.held} of {plan.pool} connections were held idle during the call by plain "
        f"SQLAlchemy, {b.held} by unitofwork; pool timeouts: {a.pool_timeouts} and "
        f"{b.pool_timeouts} of {plan.requests}.",
        f"Requests served per second, plain to unitofwork: {_rate(a.per_second)} to "
        f"{_rate(b.per_second)}{_times(a.per_second, b.per_second)}.",
        f"Transfers per second, plain to {LOCK_MANY}: {_rate(c.per_second)} to "
        f"{_rate(d.per_second)}{_times(c.per_second, d.per_second)}, with {c.deadlocks} and "
        f"{d.deadlocks} deadlocks; the sums are {sums}.",
    ]


def exit_code(requests: BothRequests, transfers: AllTransfers) -> int:
    """1 if money or a write was lost, or if a request failed in unitofwork; else 0."""
    sound = (
        all(way.total == EXPECTED for way in transfers.values())
        and all(side.written == side.served for side in requests)
        and requests[1].failed == 0
    )
    return 0 if sound else 1


def _rate(value: float) -> str:
    return f"{value:.1f}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _times(plain: float, units: float) -> str:
    return f" ({units / plain:.1f} times)" if plain else ""


def _ratio(way: Transfers, to: Transfers) -> str:
    """Two places where they tell something."""
    if not to.done:
        return "-"
    ratio = way.per_second / to.per_second
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}"


def _grid(*sides: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD)
    grid.add_column("measure")
    for side in sides:
        grid.add_column(side, justify="right")
    return grid

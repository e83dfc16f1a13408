"""What the demo prints: the plan, the table of figures, and what they say."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from .measure import Requests, Transfers
from .plan import ACCOUNTS, BALANCE, PLAIN, UNITS, WORKERS, Plan

EXPECTED = ACCOUNTS * BALANCE

#: Of plain SQLAlchemy and of unitofwork, in this order.
BothRequests = tuple[Requests, Requests]
BothTransfers = tuple[Transfers, Transfers]


def print_plan(console: Console, plan: Plan, server: str) -> None:
    """What is going to be measured, and where."""
    for line in (
        server,
        f"{plan.requests} requests at once, each: read a row, call a service over HTTP "
        f"({plan.call * 1000:.0f} ms), write the row; pool of {plan.pool}, no overflow, "
        f"pool_timeout {plan.pool_timeout:g} s",
        f"{plan.transfers} transfers between {ACCOUNTS} accounts by {WORKERS} workers, for "
        f"{plan.transfers_limit:g} s at most; a deadlock's victim tries again",
        "",
    ):
        console.print(line, highlight=False)


def print_results(
    console: Console, plan: Plan, requests: BothRequests, transfers: BothTransfers
) -> None:
    """The table, then three lines that follow from it."""
    console.print()
    console.print(table(plan, requests, transfers))
    for line in findings(plan, requests, transfers):
        console.print(f"- {line}", highlight=False)
    for side, figures in zip((PLAIN, UNITS), requests, strict=True):
        for error in figures.other_errors[:1]:
            console.print(f"! {side}: first other error: {error}", highlight=False, markup=False)


def table(plan: Plan, requests: BothRequests, transfers: BothTransfers) -> Table:
    """Every figure of both sides."""
    grid = Table(box=box.SIMPLE_HEAD)
    grid.add_column("measure")
    grid.add_column(PLAIN, justify="right")
    grid.add_column(UNITS, justify="right")

    def row(measure: str, plain: str, units: str, *, last: bool = False) -> None:
        grid.add_row(measure, plain, units, end_section=last)

    a, b = requests
    held = f"idle in transaction > {plan.held_idle * 1000:.0f} ms, most at once"
    row("requests per second", _rate(a.per_second), _rate(b.per_second))
    for percent in (50, 99):
        row(f"latency p{percent}, served", _time(a.latency(percent)), _time(b.latency(percent)))
    row("pool timeouts", str(a.pool_timeouts), str(b.pool_timeouts))
    row("failed requests", str(a.failed), str(b.failed))
    row(held, str(a.held), str(b.held), last=True)

    c, d = transfers
    row("transfers per second", _rate(c.per_second), _rate(d.per_second))
    row(f"transfers done, of {plan.transfers}", str(c.done), str(d.done))
    row("deadlocks", str(c.deadlocks), str(d.deadlocks))
    row(f"sum of the accounts, expected {EXPECTED}", str(c.total), str(d.total))
    return grid


def findings(plan: Plan, requests: BothRequests, transfers: BothTransfers) -> list[str]:
    """What was seen, in three lines."""
    a, b = requests
    c, d = transfers
    sums = "right on both sides" if c.total == d.total == EXPECTED else "WRONG"
    return [
        f"Up to {a.held} of {plan.pool} connections were held idle during the call by plain "
        f"SQLAlchemy, {b.held} by unitofwork; pool timeouts: {a.pool_timeouts} and "
        f"{b.pool_timeouts} of {plan.requests}.",
        f"Requests served per second, plain to unitofwork: {_rate(a.per_second)} to "
        f"{_rate(b.per_second)}{_times(a.per_second, b.per_second)}.",
        f"Transfers per second: {_rate(c.per_second)} to {_rate(d.per_second)}"
        f"{_times(c.per_second, d.per_second)}, with {c.deadlocks} and {d.deadlocks} deadlocks; "
        f"the sums are {sums}.",
    ]


def exit_code(requests: BothRequests, transfers: BothTransfers) -> int:
    """1 if money or a write was lost, or if a request failed in unitofwork; else 0."""
    sound = (
        all(side.total == EXPECTED for side in transfers)
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

"""What the demo does and how much of it; the same for both sides."""

from __future__ import annotations

import random
from dataclasses import dataclass

PLAIN, UNITS = "plain SQLAlchemy", "unitofwork"
ACCOUNTS = 4
BALANCE = 1000
#: Transfers at once, each with a connection of its own. Fewer seldom meet in a circle.
WORKERS = 8


class DemoError(Exception):
    """The demo can't run here; the message says why, in one line, without a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The amounts; times in seconds."""

    requests: int
    pool: int
    call: float
    pool_timeout: float
    transfers: int
    transfers_limit: float

    @property
    def held_idle(self) -> float:
        """From when on a connection that is idle in its transaction counts as held: half a call.

        Each transaction is idle for a moment between its statements, also a short one.
        """
        return self.call / 2

    def transfer_jobs(self) -> list[tuple[int, int, int]]:
        """(source, target, amount) of each transfer: the same in every run, in both directions."""
        dice = random.Random(2026)
        pairs = (dice.sample(range(1, ACCOUNTS + 1), 2) for _ in range(self.transfers))
        return [(source, target, dice.randint(1, 9)) for source, target in pairs]


def plan_for(*, quick: bool, requests: int, pool: int, call: float, transfers: int | None) -> Plan:
    """The plan asked for; where it must be quick, with less time to wait in."""
    return Plan(
        requests=requests,
        pool=pool,
        call=call,
        pool_timeout=2.0 if quick else 3.0,
        transfers=transfers or (100 if quick else 400),
        transfers_limit=3.0 if quick else 20.0,
    )

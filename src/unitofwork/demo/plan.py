"""What the demo does and how much of it; the same for all sides."""

from __future__ import annotations

import random
from dataclasses import dataclass

PLAIN, UNITS = "plain SQLAlchemy", "unitofwork"
#: Further ways to write the transfers, named as in the benchmarks.
SORTED, LOCK_MANY, LATE = "sorted by hand", "tx.lock_many", "second row late"
ACCOUNTS = 8
BALANCE = 1000
EXPECTED = ACCOUNTS * BALANCE
#: Transfers at once, each with a connection of its own. Fewer seldom meet in a circle.
WORKERS = 16

#: (source, target, amount) of a transfer.
Job = tuple[int, int, int]


class DemoError(Exception):
    """The demo can't run here; the message says why, in one line, without a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The amounts; times in seconds.

    The fast ways of the transfers take turns: what else the machine does disturbs them alike.
    """

    requests: int
    pool: int
    call: float
    pool_timeout: float
    transfers: int
    plain_limit: float
    fast_limit: float
    turns: int

    @property
    def held_idle(self) -> float:
        """From when on a connection that is idle in its transaction counts as held: half a call.

        Each transaction is idle for a moment between its statements, also a short one.
        """
        return self.call / 2

    def transfer_jobs(self) -> list[Job]:
        """The transfers: the same in every run and for every way, in both directions."""
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
        transfers=transfers or (400 if quick else 2000),
        plain_limit=3.0 if quick else 20.0,
        fast_limit=1.0 if quick else 2.5,
        turns=2 if quick else 3,
    )

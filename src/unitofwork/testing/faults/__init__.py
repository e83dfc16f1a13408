"""Faults on demand: run a unit again and again, each time failing at its next point.

    async def test_transfer_survives_faults(uow):
        with AsyncFaults(uow, state=balances, reset=start_again) as faults:
            await faults.check(lambda: transfer(1, 2, 10))

What the unit leaves is compared with what a clean run leaves: the state, the `on_commit` callbacks,
the connections that are out. A unit that differs does something twice when it is retried, or only
half of its work. `unitofwork.testing.faults.fixtures` has a pytest fixture.
"""

from .async_runs import AsyncFaults
from .injecting import inject
from .judging import End, FaultsFoundError, Finding, Observation, Report, differences
from .points import FAULTS, SITES, Fault, Point, Site
from .sync_runs import Faults

__all__ = [
    "FAULTS",
    "SITES",
    "AsyncFaults",
    "End",
    "Fault",
    "Faults",
    "FaultsFoundError",
    "Finding",
    "Observation",
    "Point",
    "Report",
    "Site",
    "differences",
    "inject",
]

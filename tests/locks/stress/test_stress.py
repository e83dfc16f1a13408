"""Random units on few rows: no deadlock, no wait that was not foreseen, and the data is right."""

from __future__ import annotations

import os

import pytest

from unitofwork.testing.postgres import EmbeddedPostgres

from .stress import Stress

#: Transactions by option: `UNITOFWORK_STRESS=1000000`.
ASKED = int(os.environ.get("UNITOFWORK_STRESS", "0"))
TRANSACTIONS = ASKED or 3_000
SECONDS = 7 * 24 * 3600.0 if ASKED else 100.0


@pytest.mark.timeout(0 if ASKED else 300)
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
async def test_random_units_never_wait_in_a_circle(stress_server: EmbeddedPostgres) -> None:
    """Flushes, bulk statements, upserts, cascades, savepoints and locks, 16 units at a time.

    The server sees no deadlock, the tripwire finds no row that was not locked before, sums and
    counts are exact, and no unit needs more than a few attempts. No statement counts as raw SQL.
    """
    stress = Stress(stress_server, unique_names=True, strict_locks=True)
    report = await stress.run(TRANSACTIONS, seconds=SECONDS)
    print(report)
    assert report.deadlocks <= report.about_one_row, report
    assert report.trips <= report.twice, report
    assert not report.errors, report
    assert report.committed > 100, report
    assert report.rejected < report.committed / 5, report
    assert report.most_refusals <= 12, report
    assert report.most_attempts <= 30, report

"""The recorder over random units: they wait in one order, so there is no circle to be told."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from unitofwork.core.recorder import Recorder
from unitofwork.testing.postgres import EmbeddedPostgres

from .stress import Stress


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
async def test_random_units_are_told_no_circle(stress_server: EmbeddedPostgres) -> None:
    """Late locks, upserts, savepoints, cascades and whole tables among them, all are understood."""
    recorder = Recorder(Engine).attach()
    try:
        stress = await Stress(stress_server, unique_names=True).run(250, seconds=20)
    finally:
        recorder.detach()
    report = recorder.report()
    assert stress.committed > 30, stress
    assert report.pairs > 50
    assert report.ok, report
    assert report.remarks == ()
    assert report.unread == ()
    assert report.left_out == ()

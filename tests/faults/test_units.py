"""Each planted mistake is found; of units that are sound, none is flagged."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from tests.contract.face import Face

from unitofwork.testing.faults import Report

from . import planted
from .sound import SOUND
from .world import Shop, result

Make = Callable[[Shop], Any]


def name(make: Make) -> str:
    return make.__name__


#: By the unit, what has a point in it that can't be had: the COMMIT of a read-only transaction,
#: and ROLLBACK TO SAVEPOINT.
NOT_REFUSED = {
    "only_reads": ["deadlock", "serialization"],
    "catches_in_a_savepoint": ["deadlock", "serialization", "busy"],
}


def made_faults(shop: Shop) -> list[str]:
    """The faults by which its database refuses something."""
    return ["deadlock", "serialization"] if shop.face.is_postgres else ["busy"]


def found_at(report: Report) -> Collection[tuple[str, str]]:
    """The faults and sites that findings are of."""
    return {(each.point.fault, each.point.site) for each in report.findings}


@pytest.mark.parametrize("make", planted.PLANTED, ids=name)
async def test_a_mistake_is_found(shop: Shop, make: Make) -> None:
    """The report has points at which the unit differs from a clean run."""
    report = await shop.survey(make(shop))
    assert report.findings
    assert report.counts["statement"] >= 1
    for connection in shop.raw:
        await result(connection.close())


@pytest.mark.parametrize("make", SOUND, ids=name)
async def test_a_sound_unit_is_not_flagged(shop: Shop, make: Make) -> None:
    """No point differs, and all were tried."""
    report = await shop.survey(make(shop))
    assert report.findings == []
    assert report.stopped is None
    assert report.skipped == sum(
        each in NOT_REFUSED.get(make.__name__, ()) for each in made_faults(shop)
    )
    assert report.total > report.counts["statement"]
    never_again = ("is_never_run_again", "is_retried_as_a_block")
    if make.__name__ not in never_again and shop.face.is_postgres:
        assert report.ended["raised"] == 0


async def test_blind_retries_show_where_the_commit_was_lost(
    postgres_face: Face, tmp_path: Path
) -> None:
    """Whoever takes an unknown COMMIT for a failure does it twice: no other fault tells that."""
    shop = Shop(postgres_face, tmp_path)
    report = await shop.survey(planted.retries_blindly(shop))
    assert found_at(report) == {("commit_lost_after", "commit")}
    assert "(2, 'log'), (3, 'log')" in str(report)


async def test_a_cancellation_may_come_behind_the_commit(async_face: Face, tmp_path: Path) -> None:
    """What is left to be done then is lost: neither all nor nothing is done."""
    shop = Shop(async_face, tmp_path)
    report = await shop.survey(planted.mails_behind_the_unit(shop))
    assert found_at(report) == {("cancel", "await")}
    assert "neither all nor nothing" in str(report)


async def test_what_is_done_last_is_found_at_commit(face: Face, tmp_path: Path) -> None:
    """Everything before it could fail safely; COMMIT can't."""
    shop = Shop(face, tmp_path)
    shop.settings["confirm_commit"] = None  # asks the server for something before COMMIT
    fault: Any = "deadlock" if face.is_postgres else "busy"
    report = await shop.survey(planted.charges_inside(shop), [fault])
    assert found_at(report) == {(fault, "commit")}


async def test_a_connection_that_is_not_returned_ends_the_survey(
    face: Face, tmp_path: Path
) -> None:
    """The next runs would hang at its locks, so the report says where it was, and stops."""
    shop = Shop(face, tmp_path)
    report = await shop.survey(planted.keeps_a_connection(shop))
    assert len(report.findings) == 1
    assert report.stopped is not None
    assert "connections still checked out: 1" in str(report)
    for connection in shop.raw:
        await result(connection.close())


async def test_callbacks_are_compared_by_themselves(face: Face, tmp_path: Path) -> None:
    """The state is right at every point; the on_commit callback was not called."""
    shop = Shop(face, tmp_path)
    report = await shop.survey(planted.mails_in_the_first_attempt_only(shop))
    assert report.findings
    listed = [line for finding in report.findings for line in finding.differences]
    assert all(line.startswith("on_commit callbacks: ") for line in listed)
    assert all(line.endswith("none called") for line in listed)

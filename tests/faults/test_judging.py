"""What a run with a fault may leave: the rules, without a database."""

from __future__ import annotations

import pytest

from unitofwork import CommitUnknownError, ConfigurationError, Outcome
from unitofwork.testing.faults import FAULTS, SITES, End, Observation, differences
from unitofwork.testing.faults.judging import end_by
from unitofwork.testing.faults.points import Point, chosen, points

BEFORE = Observation("before")
AFTER = Observation("after", ("mail",))
HALF = Observation("half", ("mail",))
UNSENT = Observation("after")
TWICE = Observation("after", ("mail", "mail"))


@pytest.mark.parametrize(
    ("how", "allowed"),
    [
        ("returned", [AFTER]),
        ("raised", [BEFORE]),
        ("cancelled", [BEFORE, AFTER]),
        ("unknown", [BEFORE, AFTER]),
    ],
)
def test_what_a_run_may_leave(how: str, allowed: list[Observation]) -> None:
    """What returned is done, what raised is not, what was cut off is all or nothing."""
    for seen in (BEFORE, AFTER, HALF, UNSENT, TWICE):
        found = differences(BEFORE, AFTER, seen, End(how))  # type: ignore[arg-type]
        assert (found == ()) == (seen in allowed), (seen, found)


def test_an_error_for_what_is_done_is_told_apart() -> None:
    """It is no difference from a clean run, but whoever sees the error calls again."""
    (found,) = differences(BEFORE, AFTER, AFTER, End("raised", "OSError: lost"))
    assert "twice" in found


@pytest.mark.parametrize("how", ["returned", "raised", "cancelled", "unknown"])
def test_a_unit_that_changes_nothing_can_end_in_any_way(how: str) -> None:
    """Done and undone are the same then."""
    assert differences(BEFORE, BEFORE, BEFORE, End(how)) == ()  # type: ignore[arg-type]


def test_a_connection_that_is_out_is_a_difference() -> None:
    """Also where everything else is right; fewer than before are none."""
    leaked = Observation("after", ("mail",), leaked=2)
    (found,) = differences(BEFORE, AFTER, leaked, End("returned"))
    assert "2" in found
    returned = Observation("after", ("mail",), leaked=-1)
    assert differences(BEFORE, AFTER, returned, End("returned")) == ()


def test_an_unknown_commit_is_recognised() -> None:
    """By itself, as the cause of another error, and in a group."""
    unknown = CommitUnknownError("lost", "look", name="unit", outcome=Outcome.UNKNOWN)
    wrapped = RuntimeError("order failed")
    wrapped.__cause__ = unknown
    for error in (unknown, wrapped, ExceptionGroup("group", [ValueError(), wrapped])):
        assert end_by(error).how == "unknown"
    assert end_by(RuntimeError("other")).how == "raised"


def test_every_point_is_listed_once() -> None:
    """Each fault, at each of its sites, from the first to the last."""
    listed = list(points(("deadlock", "slow_checkout"), {"statement": 2, "commit": 1}))
    assert listed == [
        Point("deadlock", "statement", 1),
        Point("deadlock", "statement", 2),
        Point("deadlock", "commit", 1),
    ]
    assert str(listed[1]) == "deadlock at statement 2"
    assert set(SITES) == set(FAULTS)


def test_a_fault_that_can_not_be_had_is_refused() -> None:
    """With the names of those that can."""
    assert chosen(None, ("busy", "cancel")) == ("busy", "cancel")
    assert chosen(["busy"], ("busy", "cancel")) == ("busy",)
    with pytest.raises(ConfigurationError, match="deadlock") as raised:
        chosen(["deadlock"], ("busy", "cancel"))
    assert "busy, cancel" in str(raised.value)

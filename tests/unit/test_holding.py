"""When a held connection is worth a report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitofwork.policies.holding import Sight, Verdict, judge

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
thresholds = st.floats(min_value=0.001, max_value=1e3)


@pytest.mark.parametrize(
    ("idle_for", "gone", "in_call", "verdict"),
    [
        (None, False, False, Verdict.FINE),  # in a statement
        (0.5, False, False, Verdict.FINE),  # not for long
        (1.5, False, False, Verdict.WAITING_ELSEWHERE),
        (1.5, False, True, Verdict.FINE),  # COMMIT, a cursor's fetch: no statement, but at work
        (1.5, True, False, Verdict.LEAKED),
        (None, True, False, Verdict.LEAKED),
    ],
)
def test_verdicts(idle_for: float | None, gone: bool, in_call: bool, verdict: Verdict) -> None:
    """Only an idle connection of a living owner outside the database is held for nothing."""
    sight = Sight(idle_for=idle_for, owner_is_gone=gone, in_database_call=in_call)
    assert judge(sight, 1.0) is verdict


@given(st.one_of(st.none(), seconds), st.booleans(), thresholds)
def test_work_in_the_database_is_never_reported(
    idle_for: float | None, in_call: bool, threshold: float
) -> None:
    """Whoever is inside a database call, or in a statement, is left alone."""
    sight = Sight(idle_for=idle_for, owner_is_gone=False, in_database_call=True)
    assert judge(sight, threshold) is Verdict.FINE
    busy = Sight(idle_for=None, owner_is_gone=False, in_database_call=in_call)
    assert judge(busy, threshold) is Verdict.FINE

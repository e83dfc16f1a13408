"""How long a server gets for the end of a transaction."""

from __future__ import annotations

import pytest

from unitofwork.policies.end_limits import for_commit, for_rollback, for_statement


@pytest.mark.parametrize(
    ("remaining", "seconds"), [(None, 2.0), (30.0, 2.0), (1.0, 1.0), (0.1, 0.5), (0.0, 0.5)]
)
def test_a_rollback_gets_little(remaining: float | None, seconds: float) -> None:
    """Within the unit's time, but always enough for a server that answers."""
    assert for_rollback(remaining) == seconds


@pytest.mark.parametrize(("remaining", "seconds"), [(None, None), (30.0, 30.0), (0.0, 4.5)])
def test_a_commit_is_not_cut_lightly(remaining: float | None, seconds: float | None) -> None:
    """It gets the unit's time, and below five seconds also where that is over."""
    assert for_commit(remaining) == seconds


@pytest.mark.parametrize(("remaining", "seconds"), [(None, None), (1.0, 1.5), (0.0, 0.5)])
def test_a_statement_is_first_ended_by_the_server(
    remaining: float | None, seconds: float | None
) -> None:
    """The socket is shut only when the server's own limit has not been heard of."""
    assert for_statement(remaining) == seconds

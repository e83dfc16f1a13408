"""Whether a COMMIT that failed can have happened: never said wrongly, unknown only where it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitofwork import Outcome
from unitofwork.policies.outcome import after_failed_commit

#: The server's word on the transaction: it was rolled back.
ANSWERS = ["23503", "23505", "23514", "40001", "40P01", "25P02", "P0001", "53100", "XX000"]
#: The connection or the session ended, which says nothing about a COMMIT under way.
SAYS_NOTHING = ["08000", "08003", "08006", "08P01", "57P01", "57P02", "57P03", "57P05"]

states = st.none() | st.sampled_from(ANSWERS + SAYS_NOTHING) | st.text("0123456789P", max_size=5)


@pytest.mark.parametrize("sqlstate", ANSWERS)
@pytest.mark.parametrize("lost", [True, False])
def test_an_answer_settles_it(sqlstate: str, lost: bool) -> None:
    """A server that names an error has rolled back, also if the connection ended afterwards."""
    assert after_failed_commit(sent=True, sqlstate=sqlstate, lost=lost) is Outcome.ROLLED_BACK


@pytest.mark.parametrize("sqlstate", [None, *SAYS_NOTHING])
def test_a_lost_connection_leaves_it_open(sqlstate: str | None) -> None:
    """COMMIT was sent and nothing about the transaction came back."""
    assert after_failed_commit(sent=True, sqlstate=sqlstate, lost=True) is Outcome.UNKNOWN


@given(states, st.booleans())
def test_what_was_not_sent_did_not_happen(sqlstate: str | None, lost: bool) -> None:
    """Without a COMMIT there is nothing to be unsure of."""
    assert after_failed_commit(sent=False, sqlstate=sqlstate, lost=lost) is Outcome.ROLLED_BACK


@given(states)
def test_an_error_on_a_sound_connection_is_an_answer(sqlstate: str | None) -> None:
    """SQLite and others give no SQLSTATE: their error on a connection that lives is enough."""
    assert after_failed_commit(sent=True, sqlstate=sqlstate, lost=False) is Outcome.ROLLED_BACK


@given(st.booleans(), states, st.booleans())
def test_a_failed_commit_is_never_called_a_success(
    sent: bool, sqlstate: str | None, lost: bool
) -> None:
    """And the question is always settled one way or the other."""
    outcome = after_failed_commit(sent=sent, sqlstate=sqlstate, lost=lost)
    assert outcome in (Outcome.ROLLED_BACK, Outcome.UNKNOWN)

"""The table of errors, the policy and the budget of retries."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.retry.sqlstates import SQLSTATES

from unitofwork import ConfigurationError, RetryPolicy
from unitofwork.policies.retrying import Fate, RetryBudget, Symptom, all_of, fate_of


@pytest.mark.parametrize(("state", "fate"), SQLSTATES.items())
def test_sqlstate(state: str, fate: Fate) -> None:
    """Each state of the table, and neighbours that must not be taken for one of it."""
    assert fate_of(Symptom(sqlstate=state)) is fate


@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5))
def test_an_unknown_sqlstate_is_never_retried(state: str) -> None:
    """Only what is listed is: the server said exactly what is wrong, and it isn't transient."""
    known = state in SQLSTATES or state.startswith("08")
    assert known or fate_of(Symptom(sqlstate=state)) is Fate.NEVER


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (1213, Fate.RETRY),
        (1205, Fate.RETRY),
        (1290, Fate.RETRY_ON_NEW_CONNECTIONS),
        (1792, Fate.NEVER),
        (1047, Fate.RETRY_WITHIN_BUDGET),
        (1053, Fate.RETRY_WITHIN_BUDGET),
        (2006, Fate.RETRY_WITHIN_BUDGET),
        (2013, Fate.RETRY_WITHIN_BUDGET),
        (1062, Fate.UNDECIDED),  # ER_DUP_ENTRY: nothing says that it should be retried
    ],
)
def test_mysql(code: int, fate: Fate) -> None:
    """MySQL's and MariaDB's error numbers."""
    assert fate_of(Symptom(mysql=code)) is fate


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (5, Fate.RETRY),  # SQLITE_BUSY
        (6, Fate.RETRY),  # SQLITE_LOCKED
        (517, Fate.RETRY),  # SQLITE_BUSY_SNAPSHOT: the primary code is the lowest byte
        (262, Fate.RETRY),  # SQLITE_LOCKED_SHAREDCACHE
        (19, Fate.UNDECIDED),  # SQLITE_CONSTRAINT
        (1555, Fate.UNDECIDED),  # SQLITE_CONSTRAINT_PRIMARYKEY
    ],
)
def test_sqlite(code: int, fate: Fate) -> None:
    """SQLite's result codes, extended ones too."""
    assert fate_of(Symptom(sqlite=code)) is fate


def test_a_lost_connection() -> None:
    """It is retried within the budget whatever else was said, but by a state that decides."""
    lost = Symptom(connection_lost=True)
    assert fate_of(lost) is Fate.RETRY_WITHIN_BUDGET
    assert fate_of(lost._replace(sqlstate="XX000")) is Fate.RETRY_WITHIN_BUDGET
    assert fate_of(lost._replace(sqlstate="40P01")) is Fate.RETRY
    assert fate_of(lost._replace(sqlstate="25P03")) is Fate.NEVER  # it would idle again
    assert fate_of(Symptom()) is Fate.UNDECIDED


def test_a_stale_plan() -> None:
    """It wins over its SQLSTATE, 0A000, which says nothing of the kind."""
    assert fate_of(Symptom(sqlstate="0A000", cached_plan=True)) is Fate.RETRY
    assert fate_of(Symptom(sqlstate="0A000")) is Fate.NEVER


@given(st.lists(st.sampled_from(Fate), min_size=1))
def test_the_most_cautious_of_a_group_wins(fates: list[Fate]) -> None:
    """The answer is one of the members', and none of them asks for more caution."""
    order = [
        Fate.FINAL,
        Fate.NEVER,
        Fate.UNDECIDED,
        Fate.RETRY_ON_NEW_CONNECTIONS,
        Fate.RETRY_WITHIN_BUDGET,
        Fate.RETRY,
    ]
    assert all_of(fates) is min(fates, key=order.index)


# --- policy


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"attempts": True},
        {"attempts": 2.0},
        {"attempts": None},
        {"timeout": -1},
        {"timeout": math.inf},
        {"timeout": math.nan},
        {"timeout": "1"},
        {"timeout": True},
        {"timeout": None},
        {"wait_initial": -0.1},
        {"wait_max": math.nan},
        {"on": "deadlock"},
        {"on": ()},
    ],
    ids=str,
)
def test_a_bad_policy_is_refused_where_it_is_made(bad: dict[str, object]) -> None:
    """The error names the field, and says what to pass."""
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**bad)  # type: ignore[arg-type]
    assert next(iter(bad)) in caught.value.what
    assert caught.value.remedy


seconds = st.floats(min_value=0, max_value=1e9)


@given(st.integers(min_value=1), seconds, seconds, seconds)
def test_a_good_policy_keeps_what_it_was_given(
    attempts: int, timeout: float, initial: float, longest: float
) -> None:
    """Any count from 1 and any finite seconds from 0."""
    policy = RetryPolicy(attempts=attempts, timeout=timeout, wait_initial=initial, wait_max=longest)
    assert (policy.attempts, policy.timeout) == (attempts, timeout)
    assert (policy.wait_initial, policy.wait_max) == (initial, longest)


def test_a_policy_is_a_value() -> None:
    """It is shared by all calls of a function: it can't change, and equal ones are equal."""
    policy = RetryPolicy(attempts=3)
    assert policy == RetryPolicy(attempts=3)
    with pytest.raises(AttributeError):
        policy.attempts = 4  # type: ignore[misc]


# --- budget

shares = st.sampled_from([0.0, 0.1, 0.125, 0.25, 0.5, 1.0])
reserves = st.integers(min_value=0, max_value=30)


@given(shares, reserves, st.lists(st.booleans(), max_size=400))
def test_the_budget_bounds_retries(share: float, reserve: int, events: list[bool]) -> None:
    """Of any run of units (True) and wishes to retry (False): at most share * units + reserve."""
    budget = RetryBudget(share, reserve)
    units = retries = 0
    for is_unit in events:
        if is_unit:
            budget.earn()
            units += 1
        else:
            retries += budget.spend()
        assert retries <= share * units + reserve + 1e-6


@given(reserves)
def test_the_reserve_is_there_at_once(reserve: int) -> None:
    """A process that has just started may retry too, so often and no more."""
    budget = RetryBudget(0.1, reserve)
    assert sum(budget.spend() for _ in range(100)) == reserve


@given(reserves, st.integers(min_value=0, max_value=10_000))
def test_no_more_than_the_reserve_is_saved(reserve: int, units: int) -> None:
    """A long good time earns no storm of retries at its end."""
    budget = RetryBudget(0.1, reserve)
    for _ in range(units):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == reserve


def test_an_outage_adds_a_tenth() -> None:
    """1000 units, each of which would retry 7 times: 100 retries, and the 20 saved ones."""
    budget = RetryBudget()
    retries = 0
    for _ in range(1000):
        budget.earn()
        for _ in range(7):
            if not budget.spend():
                break
            retries += 1
    assert 119 <= retries <= 120

"""The decisions of propagation, as tables and laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unitofwork import ConfigurationError, Propagation
from unitofwork.policies.propagation import Decision, contradictions, decide
from unitofwork.settings import UnitSettings

TABLE = {
    # asked: without a unit, in a unit
    "required": (Decision.OPEN, Decision.JOIN),
    "requires_new": (Decision.OPEN, Decision.OPEN),
    "nested": (Decision.OPEN, Decision.SAVEPOINT),
    "mandatory": (Decision.REFUSE_NO_UNIT, Decision.JOIN),
    "never": (Decision.OPEN, Decision.REFUSE_UNIT),
}


@pytest.mark.parametrize("asked", list(Propagation))
def test_the_decisions(asked: Propagation) -> None:
    """Each of the five, without and with a unit around it."""
    assert (decide(asked, False), decide(asked, True)) == TABLE[asked.value]


def settings() -> st.SearchStrategy[UnitSettings]:
    """Any settings that are valid by themselves."""
    seconds = st.none() | st.sampled_from([0.5, 1, 2, 60])
    flag = st.none() | st.booleans()
    levels = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

    @st.composite
    def build(draw: Any) -> UnitSettings:
        try:
            return UnitSettings(
                propagation=draw(st.sampled_from(list(Propagation))),
                isolation=draw(st.none() | st.sampled_from(levels)),
                read_only=draw(flag),
                deferrable=draw(flag),
                timeout=draw(seconds),
                lock_timeout=draw(seconds),
                statement_timeout=draw(seconds),
                connections=draw(st.none() | st.integers(1, 3)),
                name=draw(st.none() | st.just("name")),
            )
        except ConfigurationError:
            assume(False)
            raise

    return build()


@given(settings())
def test_asking_for_nothing_never_contradicts(outer: UnitSettings) -> None:
    """A function without options can be called in any unit."""
    assert contradictions(UnitSettings(name="inner"), outer) == []


@given(settings())
def test_asking_for_the_same_never_contradicts(outer: UnitSettings) -> None:
    """Nor one with the very options that its caller gave the unit."""
    assert contradictions(outer, outer) == []
    assert contradictions(replace(outer, propagation=Propagation.NESTED), outer) == []


@given(settings(), settings())
def test_what_is_not_refused_holds(inner: UnitSettings, outer: UnitSettings) -> None:
    """Accepted means: everything that the inner block asks for is true of the outer unit."""
    found = contradictions(inner, outer)
    broken = set()
    for option in ("isolation", "lock_timeout", "statement_timeout"):
        asked = getattr(inner, option)
        if asked is not None and asked != getattr(outer, option):
            broken.add(option)
    for option in ("read_only", "deferrable"):
        asked = getattr(inner, option)
        if asked is not None and asked != bool(getattr(outer, option)):
            broken.add(option)
    if inner.connections is not None and inner.connections > (outer.connections or 1):
        broken.add("connections")
    if inner.timeout is not None and outer.timeout is not None and inner.timeout > outer.timeout:
        broken.add("timeout")
    assert {sentence.split("=")[0] for sentence in found} == broken


@pytest.mark.parametrize(
    ("inner", "outer", "sentence"),
    [
        (
            {"isolation": "SERIALIZABLE"},
            {"isolation": "READ COMMITTED"},
            "isolation='SERIALIZABLE', but the outer unit has 'READ COMMITTED'",
        ),
        ({"read_only": True}, {}, "read_only=True, but the outer unit has None"),
        ({"lock_timeout": 1}, {}, "lock_timeout=1 s, but the outer unit has None"),
        ({"timeout": 9}, {"timeout": 3}, "timeout=9 s is longer than the outer 3 s"),
    ],
)
def test_a_contradiction_is_a_sentence(
    inner: dict[str, Any], outer: dict[str, Any], sentence: str
) -> None:
    """It says what was asked for and what is given."""
    assert contradictions(UnitSettings(**inner), UnitSettings(**outer)) == [sentence]


def test_all_contradictions_are_told_at_once() -> None:
    """Nobody has to find them one by one."""
    inner = UnitSettings(isolation="SERIALIZABLE", read_only=True, deferrable=True, timeout=9)
    assert len(contradictions(inner, UnitSettings(timeout=3))) == 4

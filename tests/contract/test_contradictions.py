"""Options of a joining block that the outer unit can't honour are refused, never dropped."""

from __future__ import annotations

from typing import Any

import pytest

from unitofwork import Outcome, PropagationError, current

from .face import Face, both, pool_events

SERIALIZABLE_READER = {"isolation": "SERIALIZABLE", "read_only": True}

#: Options of the outer unit, those of the inner block, and which of them is named.
CONTRADICTIONS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"isolation": "SERIALIZABLE"}, "isolation"),
    ({"isolation": "SERIALIZABLE"}, {"isolation": "READ COMMITTED"}, "isolation"),
    ({}, {"read_only": True}, "read_only"),
    ({"read_only": True}, {"read_only": False}, "read_only"),
    (SERIALIZABLE_READER, {**SERIALIZABLE_READER, "deferrable": True}, "deferrable"),
    ({"timeout": 5}, {"timeout": 10}, "timeout"),
    ({}, {"lock_timeout": 1}, "lock_timeout"),
    ({}, {"statement_timeout": 1}, "statement_timeout"),
    ({}, {"connections": 2}, "connections"),
]

AGREEMENTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (SERIALIZABLE_READER, {}),
    (SERIALIZABLE_READER, SERIALIZABLE_READER),
    ({}, {"read_only": False}),
    ({"timeout": 10}, {"timeout": 10}),
    ({"timeout": 10}, {"timeout": 5}),
    ({"lock_timeout": 1}, {"lock_timeout": 1}),
    ({}, {"timeout": 5}),
    ({"connections": 2}, {"connections": 1}),
    ({"name": "outer"}, {"name": "inner"}),
]


async def join(face: Face, **options: Any) -> None:
    """A block of either face, written here so that its place is here."""
    block = face.uow(**options)
    if face.is_async:
        async with block:
            pass
    else:
        with block:
            pass


@pytest.mark.parametrize("propagation", ["required", "mandatory", "nested"])
async def test_a_contradiction_is_refused(face: Face, propagation: Any) -> None:
    """The error names the option and both places, before any I/O; the outer unit goes on."""
    events = pool_events(face.uow)
    for outer, inner, option in CONTRADICTIONS:
        async with both(face.uow(name="outer", **outer)) as tx:
            with pytest.raises(PropagationError, match=f"{option}=") as caught:
                await join(face, propagation=propagation, **inner)
            assert current() is tx
        assert tx.outcome is Outcome.COMMITTED
        assert caught.value.outer_name == "outer"
        assert caught.value.outer_opened_at.function == "test_a_contradiction_is_refused"
        assert str(caught.value.outer_opened_at) in str(caught.value)
        assert "in join" in str(caught.value)
        assert "requires_new" in caught.value.remedy
    assert events == []


@pytest.mark.parametrize("propagation", ["required", "mandatory"])
async def test_an_agreement_is_not(face: Face, propagation: Any) -> None:
    """Options that the outer unit has already, or that were left out, contradict nothing."""
    for outer, inner in AGREEMENTS:
        async with both(face.uow(**outer)) as one:
            async with both(face.uow(propagation=propagation, **inner)) as two:
                assert one is two


async def test_requires_new_may_have_other_options(face: Face) -> None:
    """It is a transaction of its own: what the outer one has does not bind it."""
    async with both(face.uow(timeout=1, connections=2)) as outer:
        new = face.uow(propagation="requires_new", timeout=10, **SERIALIZABLE_READER)
        async with both(new) as inner:
            assert inner is not outer

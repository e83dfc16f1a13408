"""The two faces have the same names and the same parameters; only the colour differs."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from unitofwork import AsyncTransaction, AsyncUnitOfWork, Transaction, UnitOfWork


def public(kind: type, *, beyond: type = object) -> set[str]:
    """Names of `kind` that are its own, not those of what it extends."""
    return {name for name in set(dir(kind)) - set(dir(beyond)) if not name.startswith("_")}


def parameters(member: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults, without annotations: those differ in `Async`."""
    if isinstance(member, property):
        return []
    found = inspect.signature(member).parameters.values()
    return [(one.name, one.kind, one.default) for one in found]


def test_the_units_of_work_have_the_same_names() -> None:
    """What one can do, the other one can."""
    assert public(UnitOfWork) == public(AsyncUnitOfWork)


def test_the_transactions_have_the_same_names() -> None:
    """Beyond what SQLAlchemy's two sessions have, which differ a little."""
    assert public(Transaction, beyond=Session) == public(AsyncTransaction, beyond=AsyncSession)


@pytest.mark.parametrize("name", sorted(public(UnitOfWork) | {"__call__", "__init__"}))
def test_a_unit_of_works_signatures_match(name: str) -> None:
    """The same parameters, in the same order, with the same defaults."""
    one, two = getattr(UnitOfWork, name), getattr(AsyncUnitOfWork, name)
    assert parameters(one) == parameters(two)


@pytest.mark.parametrize(
    "name",
    sorted(
        public(Transaction, beyond=Session) & public(AsyncTransaction, beyond=AsyncSession)
        | {"commit", "rollback", "close", "begin_nested", "execute", "get", "flush"}
    ),
)
def test_a_transactions_signatures_match(name: str) -> None:
    """What was added has the same parameters; what was refused still takes the session's."""
    one, two = getattr(Transaction, name), getattr(AsyncTransaction, name)
    added = name in public(Transaction, beyond=Session)
    if added:
        assert parameters(one) == parameters(two)
    else:
        assert callable(one)
        assert callable(two)


@pytest.mark.parametrize("name", sorted(public(Transaction, beyond=Session)))
def test_what_is_public_is_documented(name: str) -> None:
    """Each public name of `tx` and its twin says what it is for."""
    for kind in (Transaction, AsyncTransaction):
        member = inspect.getattr_static(kind, name, None)
        if callable(member) or isinstance(member, property):
            assert inspect.getdoc(member), f"{kind.__name__}.{name}"

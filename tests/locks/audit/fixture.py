"""The audit of every unit of a test: a fixture that needs no asking for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from unitofwork.testing import audit_locks

#: `UNITOFWORK_AUDIT=1` looks at all tests of units, 0 at none; otherwise those of locks, with one
#: driver, because the locks are the server's.
ASKED = os.environ.get("UNITOFWORK_AUDIT", "")
TESTS = Path(__file__).parents[2]
NAMES = {"": ["locks"], "0": []}.get(ASKED, ["locks", "contract", "retry", "pool"])
#: They count what is sent, or interrupt whatever runs.
EXEMPT = {"test_a_connection_used_just_now_is_not_asked", "test_interrupt.py"}
FOLDERS = [TESTS / name for name in NAMES]


@pytest.fixture(autouse=True)
def lock_audit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Units of tests on PostgreSQL have no row locked that they don't know of.

    `@pytest.mark.holes` is for tests that make some on purpose.
    """
    is_of_units = any(folder in request.path.parents for folder in FOLDERS)
    is_exempt = not EXEMPT.isdisjoint((request.path.name, request.node.originalname))
    is_exempt |= request.node.get_closest_marker("holes") is not None
    # A proxy cuts at what comes first, and that may be the audit's.
    is_exempt |= "proxy" in request.fixturenames
    is_chosen = bool(ASKED) or "asyncpg" in request.node.name
    uses_server = "postgres" in request.fixturenames
    if is_exempt or not (is_of_units and is_chosen and uses_server):
        yield
        return
    with audit_locks():
        yield

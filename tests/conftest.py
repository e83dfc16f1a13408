"""What every test gets: a server if it asks for one, and the check that nothing is left behind."""

from __future__ import annotations

import gc

import pytest
from tests.locks.audit.fixture import lock_audit
from tests.support.fixtures import hygiene, postgres, postgres16, probe, proxy
from tests.support.hygiene import Hygiene

_FAILED = pytest.StashKey[int]()
__all__ = ["hygiene", "lock_audit", "postgres", "postgres16", "probe", "proxy"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "holes: makes row locks that no unit knows of, on purpose")


def pytest_collection_finish() -> None:
    """Every test ends with a garbage collection: keep what the imports made out of it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Also what earlier tests left in caches and reports, which made half of the suite's time."""
    # The frames of a failure's traceback, which hold connections, must stay collectable until
    # the next test has dropped it.
    failed = item.session.testsfailed
    if failed == item.session.stash.get(_FAILED, 0):
        gc.freeze()
    item.session.stash[_FAILED] = failed


def pytest_sessionfinish() -> None:
    # Plugins that end after us look for their objects in the collector.
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(hygiene: Hygiene) -> None:
    """Engines that a test hands to `hygiene.watch` are checked after it; so is the server."""

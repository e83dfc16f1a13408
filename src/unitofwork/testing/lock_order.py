"""A pytest plugin: the order in which a run of tests took its locks, and the circles in it.

`pytest -p unitofwork.testing.lock_order` listens to every engine and prints what it found at the
end. `--lock-order=error` makes a circle fail the run. The fixture `lock_order` is the recorder.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from ..core.recorder import Recorder

_RECORDER = pytest.StashKey[Recorder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option `--lock-order`."""
    parser.getgroup("unitofwork").addoption(
        "--lock-order",
        choices=["report", "error"],
        default="report",
        help="what a circle in the order of locks does: only stand in the report, or fail the run",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin to listen."""
    config.stash[_RECORDER] = Recorder(Engine).attach()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop."""
    config.stash[_RECORDER].detach()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that was without fault but for a circle, if that is asked for."""
    wanted = session.config.getoption("--lock-order") == "error"
    passed = exitstatus == pytest.ExitCode.OK
    if wanted and passed and not session.config.stash[_RECORDER].report().ok:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was found."""
    terminalreporter.section("lock order")
    terminalreporter.write_line(str(config.stash[_RECORDER].report()))


@pytest.fixture
def lock_order(request: pytest.FixtureRequest) -> Recorder:
    """The recorder of the run."""
    return request.config.stash[_RECORDER]

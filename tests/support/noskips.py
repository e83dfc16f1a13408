"""A pytest plugin: with UNITOFWORK_NO_SKIPS=1 a run that skipped or expected a failure fails.

Loaded in every run; without the variable it does nothing.
"""

from __future__ import annotations

import os

import pytest

VARIABLE = "UNITOFWORK_NO_SKIPS"


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(VARIABLE) == "1":
        config.pluginmanager.register(NoSkips(), "unitofwork-noskips")


class NoSkips:
    """Collects what was not simply run, and fails the run for it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.found.append(f"{report.nodeid} (skipped as a whole)")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped, or as passed where it did not come.
        if report.skipped or hasattr(report, "wasxfail"):
            self.found.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section(f"{VARIABLE}=1: skips are failures", red=True)
            for nodeid in self.found:
                terminalreporter.line(nodeid)

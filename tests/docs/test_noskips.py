"""UNITOFWORK_NO_SKIPS=1, which CI sets, makes skips and expected failures fail the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

OUTCOMES = {
    "skipped": "@pytest.mark.skip\ndef test_it(): assert True",
    "skipped as a whole": "pytest.skip(allow_module_level=True)\ndef test_it(): assert True",
    "expected to fail": "@pytest.mark.xfail\ndef test_it(): assert False",
    "passed unexpectedly": "@pytest.mark.xfail\ndef test_it(): assert True",
}


def exit_code(directory: Path, code: str, variable: str) -> int:
    (directory / "test_it.py").write_text(f"import pytest\n{code}\ndef test_other(): pass\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.support.noskips",
            "-c",
            os.devnull,
            directory,
        ],
        cwd=ROOT,
        env={**os.environ, "UNITOFWORK_NO_SKIPS": variable, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
    ).returncode


@pytest.mark.parametrize("what", OUTCOMES)
def test_run_fails(what: str, tmp_path: Path) -> None:
    """It fails with the variable set, and only then."""
    ends_well = 5 if "whole" in what else 0  # no test was run
    assert exit_code(tmp_path, OUTCOMES[what], "") == ends_well
    assert exit_code(tmp_path, OUTCOMES[what], "1") not in (0, 5) or ends_well


def test_run_passes(tmp_path: Path) -> None:
    """Where nothing is skipped the variable changes nothing."""
    assert exit_code(tmp_path, "", "1") == 0


def test_loaded_in_every_run() -> None:
    """The project's own configuration loads the plugin."""
    assert "-p tests.support.noskips" in (ROOT / "pyproject.toml").read_text()

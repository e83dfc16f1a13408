"""The examples run as they are, and print what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTED = {
    "quickstart_async.py": "rolled back: changed my mind\nann 3\nbob 7\n",
    "quickstart_sync.py": "there is no such task\nx write\n- test\n- publish\n",
    "web_handler.py": " s, 1 connection\n",
}


def test_every_example_is_known() -> None:
    """No example escapes the test below."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_example(name: str) -> None:
    """It ends well, warns of nothing, and its last lines are right."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(PRINTED[name])
    assert done.stderr == ""

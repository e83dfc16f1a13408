"""The README's example and commands are those of the project."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.docs.pages import ROOT, blocks

README = ROOT / "README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_example_runs(tmp_path: Path) -> None:
    """As it is pasted, warns of nothing, and prints its line."""
    [example] = blocks(README, "python")
    script = tmp_path / "example.py"
    script.write_text(example.text)
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("ann@example.org has score 15\n", "")


def test_the_commands_install_what_exists() -> None:
    """Extras, dependency group and program that the two commands name are the project's."""
    demo, tests = (block.text for block in blocks(README, "sh"))
    extras = set(re.findall(r"'\.\[(\w+)\]'", demo + tests))
    assert extras <= set(PROJECT["project"]["optional-dependencies"])
    assert re.findall(r"--group (\w+)", tests) == ["dev"]
    assert "dev" in PROJECT["dependency-groups"]
    assert ".venv/bin/unitofwork demo" in demo
    assert "unitofwork" in PROJECT["project"]["scripts"]


def test_ci_runs_the_readmes_tests() -> None:
    """CI installs what the README's second command does, and runs all tests as it does."""
    _, command = blocks(README, "sh")
    install, run = re.findall(r"\.venv/bin/(\w+[^&\n]*?) *(?:&&|$)", command.text, re.M)[1:]
    steps = (ROOT / ".ci" / "run").read_text().replace("--quiet ", "")
    assert f"bin/{install.replace('pip', 'pip' + chr(34), 1)} " in steps
    assert f'bin/{run}"\n' in steps

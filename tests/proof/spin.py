"""Runs spin on the model: one configuration in, what the search found out."""

from __future__ import annotations

import enum
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).parents[2] / "docs" / "proof" / "model.pml"
#: MiB; the largest configuration needs a fifth of it.
MEMORY = 7000
#: Steps of the longest execution; a search that meets it is not complete, and an error.
DEPTH = 100_000


class Ask(enum.Enum):
    """What is searched for in all executions."""

    #: An end that is none, or an assertion that does not hold.
    DEADLOCK = "deadlock"
    #: An execution without an end.
    LIVELOCK = "livelock"


class Found(enum.Enum):
    """What the search found."""

    NOTHING = "none"
    DEADLOCK = "deadlock"
    LIVELOCK = "livelock"
    TOO_MANY_RESTARTS = "too many restarts"
    #: A statement had to wait although the protocol had asked for its locks.
    UNCOVERED_WAIT = "uncovered wait"


_SIGNS = {
    "invalid end state": Found.DEADLOCK,
    "non-progress cycle": Found.LIVELOCK,
    "assertion violated (restarts<=": Found.TOO_MANY_RESTARTS,
    "assertion violated": Found.UNCOVERED_WAIT,
}


@dataclass(frozen=True)
class Search:
    """A finished search: its result, the states it stored and the seconds it took."""

    found: Found
    states: int
    seconds: float


def search(flags: str, ask: Ask, directory: Path, *, limit: float, large: bool = False) -> Search:
    """Check the model with `flags` (names of macros, spaces between), in `directory`.

    large: worth the seconds that an optimised search program takes to compile.
    Raises `RuntimeError` when the search could not be completed; `limit` is in seconds.
    """
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"The proof needs {tool}: apt-get install spin gcc")
    defines = [f"-D{flag}" for flag in flags.split()]
    livelock = ask is Ask.LIVELOCK
    _run(["spin", *defines, "-a", str(MODEL)], directory, limit)
    compiler = ["gcc", "-O2" if large else "-O0", "-w", "-o", "pan", "pan.c"]
    limits = ["-DCOLLAPSE", "-DVECTORSZ=2048", f"-DMEMLIM={MEMORY}"]
    _run([*compiler, *limits, "-DNP" if livelock else "-DSAFETY"], directory, limit)
    begun = time.monotonic()
    output = _run(["./pan", f"-m{DEPTH}", *(["-l"] if livelock else [])], directory, limit)
    return Search(_read(output), _states(output), time.monotonic() - begun)


def _run(command: list[str], directory: Path, limit: float) -> str:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=limit, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def _read(output: str) -> Found:
    for sign, found in _SIGNS.items():
        if sign in output.split("(Spin Version")[0]:
            return found
    for sign in ("max search depth too small", "out of memory", "Search not completed"):
        if sign in output:
            raise RuntimeError(f"The search is not complete: {sign}.\n{output[:2000]}")
    if "errors: 0" not in output:
        raise RuntimeError(f"Not understood:\n{output[:2000]}")
    return Found.NOTHING


def _states(output: str) -> int:
    match = re.search(r"(\d[\d.e+]*) states, stored", output)
    return int(float(match.group(1))) if match else 0

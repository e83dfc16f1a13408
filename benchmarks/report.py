"""The report: machine and versions, the targets that were met or missed, then the tables."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from .harness import Ratio
from .plots import Plot

PACKAGES = ("sqlalchemy", "asyncpg", "psycopg", "greenlet", "anyio")

#: Figures by name.
Found = Mapping[str, Ratio | float]


@dataclass(slots=True)
class Section:
    """One question's part of the report."""

    title: str
    text: list[str | Plot] = field(default_factory=list)
    #: What was hoped for, what was found, and which figures miss it by how much; none fails.
    targets: list[tuple[str, str, str]] = field(default_factory=list)

    def target(self, what: str, sign: Literal["≤", "≥"], limit: float, found: Found) -> None:
        """Hold figures against a limit. Those that miss it by less than their noise say so."""
        missed = []
        for name, figure in found.items():
            value, margin = (
                (figure.median, figure.margin) if isinstance(figure, Ratio) else (figure, 0)
            )
            short = value - limit if sign == "≤" else limit - value
            if short > 0:
                doubt = f" (noise: {margin:.2f})" if margin > short else ""
                missed.append(f"{name} by {short:.2f}{doubt}")
        figures = ", ".join(f"{name} {float(figure):.2f}" for name, figure in found.items())
        self.targets.append((f"{what} {sign} {limit:g}", figures, ", ".join(missed)))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def report(
    sections: Sequence[Section],
    quick: bool,
    commit: str,
    load: float,
    seconds: float,
    folder: Path | None,
) -> str:
    """Markdown. `commit`, `load` of the machine: before the run; `seconds`: that it took.

    `folder`: where the plots go; None for none. What is in NOTES.md there comes last.
    """
    now = datetime.datetime.now(datetime.UTC)
    parts = [
        "# Benchmarks",
        "Written by `python -m benchmarks`; README.md in this folder says how it measures.",
        "\n".join(
            [
                f"- {now:%Y-%m-%d %H:%M} UTC, {'quick ' if quick else ''}run of {seconds:.0f} s",
                f"- {_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
                f"load average {load:.2f} before the run, {os.getloadavg()[0]:.2f} after it",
                f"- Python {platform.python_version()}, "
                + ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
                f"- unitofwork at commit {commit}",
                "- PostgreSQL 18 on loopback with `fsync` off: statements and commits are as fast "
                "as can be, which makes what the client adds look as large as can be",
                "- the machine is shared with others: compare within a table only",
            ]
        ),
        "## Targets",
        *_targets(sections),
    ]
    for section in sections:
        parts += [f"## {section.title}", *_drawn(section.text, folder)]
    notes = folder / "NOTES.md" if folder is not None else None
    if notes is not None and notes.exists():
        parts.append(notes.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def _drawn(text: Iterable[str | Plot], folder: Path | None) -> list[str]:
    drawn = []
    for part in text:
        if isinstance(part, Plot):
            part = "" if folder is None else part.draw(folder)
        drawn += [part] if part else []
    return drawn


def _targets(sections: Sequence[Section]) -> list[str]:
    targets = [target for section in sections for target in section.targets]
    met = sum(not missed for _, _, missed in targets)
    rows = [(what, found, missed or "met") for what, found, missed in targets]
    return [
        f"{met} of {len(targets)} met by all their figures. Nothing fails by a target.",
        table(("target", "found", "missed"), rows),
    ]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit_now() -> str:
    """The commit of the sources, and whether they were changed since."""
    here = Path(__file__).parent.parent
    commands = (["git", "rev-parse", "--short", "HEAD"], ["git", "status", "--porcelain", "src"])
    try:
        commit, changes = (
            subprocess.run(each, cwd=here, capture_output=True, text=True, check=True).stdout
            for each in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + (" with changes" if changes.strip() else "")

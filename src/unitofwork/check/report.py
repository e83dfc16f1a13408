"""What `unitofwork check` says, for people, programs and GitHub, and its exit code."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import ROUNDED
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from unitofwork.types import Finding

COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}
COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The findings about one target; `error` says why there could be none."""

    target: str
    findings: Sequence[Finding] = ()
    strict: bool = False
    error: str | None = None

    @property
    def exit_code(self) -> int:
        """2: errors, or it could not run. 1: warnings, where these count. 0: it may start."""
        severities = {finding.severity for finding in self.findings}
        if self.error is not None or "error" in severities:
            return 2
        return int(self.strict and "warning" in severities)


def as_table(report: Report) -> Group:
    """A table with the findings, and a line that counts them."""
    if not report.findings:
        return Group(Text(f"{report.target}: nothing found."))
    table = Table(box=ROUNDED, show_header=False, show_lines=True, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in report.findings:
        kind = Text(finding.severity, style=COLOURS[finding.severity])
        # Text, not str: brackets in a message are not markup.
        table.add_row(
            Group(kind, Text(finding.code)),
            Group(Text(finding.message), Text(f"What to do: {finding.remedy}", style="green")),
        )
    return Group(Text(report.target), table, Text(counted(report.findings)))


def counted(findings: Sequence[Finding]) -> str:
    """`1 error, 2 warnings`."""
    counts: Counter[str] = Counter(finding.severity for finding in findings)
    names = {"error": "error", "warning": "warning", "info": "note"}
    return ", ".join(
        f"{counts[severity]} {name}{'' if counts[severity] == 1 else 's'}"
        for severity, name in names.items()
        if counts[severity]
    )


def as_json(report: Report) -> str:
    """One object, always with the same members."""
    return json.dumps(
        {
            "target": report.target,
            "error": report.error,
            "findings": [dataclasses.asdict(finding) for finding in report.findings],
            "exit_code": report.exit_code,
        },
        indent=2,
    )


def as_github(report: Report) -> str:
    """A line per finding: a workflow command, which GitHub shows as an annotation."""
    lines = [
        _command(COMMANDS[each.severity], each.code, f"{each.message}\nWhat to do: {each.remedy}")
        for each in report.findings
    ]
    if report.error is not None:
        lines.append(_command("error", "unitofwork check", report.error))
    return "".join(lines)


def show(report: Report, form: str) -> None:
    """Print the report to stdout; in text, why it could not run goes to stderr."""
    if form == "json":
        print(as_json(report))
    elif form == "github":
        print(as_github(report), end="")
    elif report.error is not None:
        Console(stderr=True, soft_wrap=True).print(Text(f"unitofwork check: {report.error}"))
    else:
        Console().print(as_table(report))


def _command(name: str, title: str, message: str) -> str:
    title = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{name} title={title}::{_escaped(message)}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

"""What a rule is: a named function from facts to a problem, with its code and severity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ...types import Finding, Severity
from .facts import Facts


class Problem(NamedTuple):
    """What a rule has to say; `severity` where it is not the rule's own."""

    message: str
    remedy: str
    pool_size: int | None = None
    severity: Severity | None = None


Check = Callable[[Facts], Problem | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It says nothing where the facts that it needs are unknown."""

    code: str
    severity: Severity
    check: Check

    def findings(self, facts: Facts) -> list[Finding]:
        """What it finds: one or none."""
        found = self.check(facts)
        if found is None:
            return []
        severity = found.severity or self.severity
        return [Finding(self.code, severity, found.message, found.remedy, found.pool_size)]


RULES: dict[str, Rule] = {}


def rule(severity: Severity) -> Callable[[Check], Check]:
    """Make a rule of a function: its name is the code, with hyphens."""

    def register(check: Check) -> Check:
        code = check.__name__.replace("_", "-")
        RULES[code] = Rule(code, severity, check)
        return check

    return register

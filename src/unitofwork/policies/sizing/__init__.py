"""Pool sizing: `judge` and `recommend`, pure functions over facts; docs/validator.md."""

from __future__ import annotations

from ...types import Finding

# Imported for their rules, in the order of the page.
from . import fleet, poolers, pools, sessions, systems  # noqa: F401
from .discovering import process_facts
from .facts import (
    EngineFacts,
    Facts,
    MySQLFacts,
    PoolerFacts,
    ProcessFacts,
    ServerFacts,
    SQLiteFacts,
)
from .recommending import Recommendation, recommend
from .rule import RULES

__all__ = [
    "RULES",
    "EngineFacts",
    "Facts",
    "MySQLFacts",
    "PoolerFacts",
    "ProcessFacts",
    "Recommendation",
    "SQLiteFacts",
    "ServerFacts",
    "judge",
    "process_facts",
    "recommend",
]

_ORDER = {"error": 0, "warning": 1, "info": 2}


def judge(facts: Facts) -> list[Finding]:
    """What every rule has found: errors first, else in the order of the rules."""
    found = [finding for rule in RULES.values() for finding in rule.findings(facts)]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])

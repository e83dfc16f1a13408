"""The protocol passes, and each naive variant fails in the way that its rule prevents."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from .checks import CHECKS, GROUPS, Check
from .spin import MODEL, search
from .table import cells

LONG = bool(os.environ.get("UNITOFWORK_LONG"))
SELECTED = [check for check in CHECKS if LONG or not check.long]
README = MODEL.with_name("README.md")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("check", SELECTED, ids=lambda c: f"{c.flags}, {c.ask.value}")
def test_the_search_finds_what_is_expected(check: Check, tmp_path: Path) -> None:
    """All executions of the configuration are looked at; what they can come to is as foretold."""
    result = search(check.flags, check.ask, tmp_path, limit=600, large=check.long)
    assert result.found is check.expected


def test_every_switch_of_the_model_is_used() -> None:
    """No variant or mechanism stands in the model without a check that turns it on."""
    text = MODEL.read_text()
    switches = set(re.findall(r"(?:#ifdef |#ifndef |defined\()([A-Z_]+)", text)) - {"HOLES"}
    used = {flag.split("=")[0] for check in CHECKS for flag in check.flags.split()}
    assert switches == used


def test_every_way_to_fail_stands_beside_a_check_that_passes() -> None:
    """A variant is the passing configuration and one switch more, so the switch is what fails."""
    for group in GROUPS.values():
        sound = [set(c.flags.split()) for c in group if c.expected.value == "none"]
        for check in group:
            switches = {flag for flag in check.flags.split() if "=" not in flag}
            if check.expected.value != "none":
                assert any(
                    len(switches - {f for f in flags if "=" not in f}) <= 1 for flags in sound
                ), check


def test_the_page_lists_every_check_with_its_result() -> None:
    """The table of docs/proof/README.md is the list of checks, line for line."""
    page = README.read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (\w+)\?? \| \**([a-z ]+?)\** \|", page, re.MULTILINE)
    assert rows == [cells(check) for check in CHECKS]

"""docs/validator.md explains each rule, and none that is not there."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import ROOT, headings

from unitofwork.policies.sizing import RULES
from unitofwork.types import Fleet

PAGE = ROOT / "docs" / "validator.md"
TEXT = PAGE.read_text()
_PARTS = re.split(r"^#{2,3} (.+)$", TEXT, flags=re.MULTILINE)
SECTIONS = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))


def test_each_rule_has_a_section_and_each_section_a_rule() -> None:
    """The code is the anchor to which the finding points."""
    assert headings(PAGE, 3) == list(dict.fromkeys(headings(PAGE, 3)))
    assert set(headings(PAGE, 3)) == set(RULES)


@pytest.mark.parametrize("code", sorted(RULES))
def test_a_section_says_why_from_where_and_what_to_do(code: str) -> None:
    """And how severe it is."""
    section = SECTIONS[code]
    assert section.strip().lower().startswith(RULES[code].severity)
    for word in ("**Why.**", "**Source.**", "**Remedy.**"):
        assert section.count(word) == 1


@pytest.mark.parametrize("code", sorted(RULES))
def test_a_rule_says_what_it_is_for(code: str) -> None:
    """In its docstring."""
    assert RULES[code].check.__doc__


@pytest.mark.parametrize("name", sorted(Fleet.__annotations__))
def test_each_argument_is_explained(name: str) -> None:
    """In the table of what the process can't see."""
    assert f"\n| `{name}` |" in TEXT

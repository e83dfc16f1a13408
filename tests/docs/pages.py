"""The README and the pages of docs/, as far as the tests read Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of one language."""
    text = page.read_text()
    found = [
        Block(page, text.count("\n", 0, match.start()) + 2, *match.groups())
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if block.language == language]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _BLOCK.sub("", page.read_text())


def headings(page: Path, level: int) -> list[str]:
    """The headings of one level."""
    return [title for marks, title in _HEADING.findall(prose(page)) if len(marks) == level]


def anchors(page: Path) -> set[str]:
    """What a link into the page may name, as GitHub makes it from the headings."""
    titles = (title.lower() for _, title in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """The targets of the links in the page."""
    return _LINK.findall(prose(page))

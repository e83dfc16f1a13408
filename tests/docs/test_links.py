"""Every link within the project leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, anchors, links

import unitofwork

SOURCE = Path(unitofwork.__file__).parent


def leads_somewhere(target: str, folder: Path) -> bool:
    path, _, anchor = target.partition("#")
    found = (folder / path).resolve()
    return found.exists() and (not anchor or anchor in anchors(found))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page(page: Path) -> None:
    """Files and headings that a page links to exist."""
    here = [link for link in links(page) if "://" not in link]
    within = [page.name + link if link.startswith("#") else link for link in here]
    assert [link for link in within if not leads_somewhere(link, page.parent)] == []


def test_links_in_the_source() -> None:
    """Pages and headings that messages and docstrings name exist."""
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    named = set(re.findall(r"docs/\w+\.md(?:#[\w-]+)?", text))
    assert named
    assert [link for link in named if not leads_somewhere(link, ROOT)] == []


def test_every_page_is_reached() -> None:
    """Each page of docs/ is linked from the README."""
    linked = {ROOT / link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert [page for page in (ROOT / "docs").glob("*.md") if page not in linked] == []

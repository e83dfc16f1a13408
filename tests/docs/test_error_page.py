"""docs/errors.md and errors.py say the same."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, headings

from unitofwork import errors

PAGE = ROOT / "docs" / "errors.md"
CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]
SECTIONS = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S))


def code_of(kind: type[BaseException]) -> str:
    """Warnings have no code of their own: ConnectionLeakWarning is explained at connection-leak."""
    own: str | None = vars(kind).get("code")
    words = re.findall(r"[A-Z][a-z]+", kind.__name__.removesuffix("Warning"))
    return own or "-".join(words).lower()


def is_raised(kind: type[BaseException]) -> bool:
    source = Path(errors.__file__)
    made = re.compile(rf"\b{kind.__name__}\(")
    return any(
        made.search(path.read_text()) for path in source.parent.rglob("*.py") if path != source
    )


def test_sections_are_the_codes() -> None:
    """Each error and warning has a section, and no section is left over."""
    assert set(SECTIONS) == {code_of(kind) for kind in CLASSES}
    assert headings(PAGE, 2) == list(SECTIONS)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_section(kind: type[BaseException]) -> None:
    """It names its class and the fields, and says truly whether the library raises it yet."""
    section = SECTIONS[code_of(kind)]
    assert section.lstrip().startswith(f"`{kind.__name__}`")
    fields = [name for name in inspect.get_annotations(kind) if not name.startswith("_")]
    assert [name for name in fields if f"`{name}`" not in section] == []
    if kind is not errors.UnitOfWorkError:
        assert ("Not raised yet" in section) is not is_raised(kind)
        assert is_raised(kind) is ("**What to do.**" in section and "```python" in section)

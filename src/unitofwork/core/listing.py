"""Lists in messages: the first of them, and how many more there are."""

from __future__ import annotations

from collections.abc import Sequence

#: Lines of a list.
MOST = 20


def listed(lines: Sequence[object], most: int = MOST, indent: str = "\n  - ") -> str:
    """A line for each, up to `most`."""
    more = len(lines) - most
    found = "".join(f"{indent}{line}" for line in lines[:most])
    return f"{found}{indent}and {more} more" if more > 0 else found

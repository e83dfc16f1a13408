"""What a statement leaves in its transaction that a rollback would lose: nothing, locks, writes."""

from __future__ import annotations

import enum
import functools
import re


class Effect(enum.Enum):
    """What would be lost if the transaction ended now."""

    NOTHING = "reads"
    LOCK = "locks"
    WRITE = "writes"


_NOISE = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_FIRST_WORD = re.compile(r"[\s(;]*([a-z]+)", re.IGNORECASE)
_LOCKS = re.compile(
    r"\bfor\s+(?:no\s+key\s+update|update|key\s+share|share)\b|\block\s+in\s+share\s+mode\b"
    r"|\bpg_(?:try_)?advisory_(?:xact_)?lock|\bget_lock\s*\(",
    re.IGNORECASE,
)
_WRITES = re.compile(r"\b(?:insert\s+into|update|delete\s+from|merge\s+into)\b", re.IGNORECASE)
_READS = frozenset(
    {"select", "values", "table", "with", "show", "explain", "pragma", "set", "reset"}
    | {"begin", "start", "savepoint", "release", "rollback", "prepare", "deallocate"}
    | {"declare", "fetch", "close", "discard"}
)


@functools.lru_cache(maxsize=4096)
def effect_of(sql: str) -> Effect:
    """Judge by the text; functions that write inside a SELECT can't be seen."""
    bare = _NOISE.sub("''", sql)
    first = _FIRST_WORD.match(bare)
    word = first.group(1).lower() if first else ""
    if word == "lock":
        return Effect.LOCK
    if word not in _READS:
        return Effect.WRITE
    if _LOCKS.search(bare):
        # The UPDATE in FOR UPDATE is none; a WITH that writes says INSERT, or UPDATE elsewhere.
        bare = _LOCKS.sub("", bare)
        return Effect.WRITE if word == "with" and _WRITES.search(bare) else Effect.LOCK
    return Effect.WRITE if word in ("with", "explain") and _WRITES.search(bare) else Effect.NOTHING

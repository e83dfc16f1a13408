"""What a statement leaves in its transaction that a rollback would lose: nothing, locks, writes."""

from __future__ import annotations

import enum
import functools
import re


class Effect(enum.Enum):
    """What would be lost if the transaction ended now."""

    NOTHING = "reads"
    #: A SELECT that calls functions, which may write: the text can't tell.
    UNSURE = "calls functions"
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
#: Words before a parenthesis that are no calls, and functions that only compute.
_HARMLESS = (
    "in|and|or|not|exists|any|all|some|as|on|where|select|from|join|using|values|over|filter|with"
    "|by|then|else|when|case|union|except|intersect|lateral|between|like|is|distinct|cast"
    "|count|sum|min|max|avg|coalesce|nullif|lower|upper|length|abs|round|now|row_number|rank"
)
_CALLS = re.compile(rf"\b(?!(?:{_HARMLESS})\b)[a-z_]\w*\s*\(", re.IGNORECASE)
_READS = frozenset(
    {"select", "values", "table", "with", "show", "explain", "pragma", "set", "reset"}
    | {"begin", "start", "savepoint", "release", "rollback", "prepare", "deallocate"}
    | {"declare", "fetch", "close", "discard"}
)


@functools.lru_cache(maxsize=4096)
def effect_of(sql: str) -> Effect:
    """Judge by the text."""
    bare = _NOISE.sub(" ", sql)
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
    if word in ("with", "explain") and _WRITES.search(bare):
        return Effect.WRITE
    return Effect.UNSURE if _CALLS.search(bare) else Effect.NOTHING

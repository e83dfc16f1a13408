"""What a statement leaves in its transaction, and which functions differ from call to call."""

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


_NOISE = re.compile(
    r"""\be'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/"""
    r"""|(?<![\w$])(?P<tag>\$(?:[a-z_]\w*)?\$).*?(?P=tag)""",
    re.DOTALL | re.IGNORECASE,
)
#: A name in quotes is no keyword.
_QUOTED = re.compile(r'"(?:[^"]|"")*"|`[^`]*`')
_FIRST_WORD = re.compile(r"[\s(;]*([a-z]+)", re.IGNORECASE)
_LOCKS_NAMES = r"\bpg_(?:try_)?advisory_(?:xact_)?lock|\bget_lock\s*\("
_ADVISORY = re.compile(_LOCKS_NAMES, re.IGNORECASE)
_LOCKS = re.compile(
    r"\bfor\s+(?:no\s+key\s+update|update|key\s+share|share)\b|\block\s+in\s+share\s+mode\b"
    rf"|{_LOCKS_NAMES}",
    re.IGNORECASE,
)
_WRITES = re.compile(r"\b(?:into|update|delete\s+from)\b", re.IGNORECASE)
#: SELECT ... INTO makes a table.
_MAKES = re.compile(r"\binto\b", re.IGNORECASE)
_EXPLAIN = re.compile(
    r"[\s(;]*explain\b\s*(?P<options>(?:\([^)]*\)|analy[sz]e\b|verbose\b|\s)*)", re.IGNORECASE
)
_RUNS = re.compile(r"\banaly[sz]e\b(?!\s*(?:false|off|0))", re.IGNORECASE)
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


_WEAKEST_FIRST = list(Effect)


@functools.lru_cache(maxsize=4096)
def effect_of(sql: str) -> Effect:
    """Judge by the text; of several statements in one, by that which leaves most."""
    parts = filter(str.strip, _bare(sql).split(";"))
    return max(map(_effect_of_one, parts), key=_WEAKEST_FIRST.index, default=Effect.NOTHING)


def first_word(sql: str) -> str:
    """What a statement begins with, in small letters: "select", "lock", "truncate"."""
    first = _FIRST_WORD.match(_bare(sql))
    return first.group(1).lower() if first else ""


def takes_advisory_lock(sql: str) -> bool:
    """Whether it calls a function of the server's that locks a number or name."""
    return _ADVISORY.search(_bare(sql)) is not None


def _effect_of_one(bare: str) -> Effect:
    word = first_word(bare)
    if word == "lock":
        return Effect.LOCK
    if word == "explain" and (plan := _EXPLAIN.match(bare)):
        # Without ANALYZE it runs nothing.
        return (
            _effect_of_one(bare[plan.end() :]) if _RUNS.search(plan["options"]) else Effect.NOTHING
        )
    if word not in _READS:
        return Effect.WRITE
    writes = _WRITES if word == "with" else _MAKES
    if _LOCKS.search(bare):
        # The UPDATE in FOR UPDATE is none; a WITH that writes says INSERT, or UPDATE elsewhere.
        return Effect.WRITE if writes.search(_LOCKS.sub("", bare)) else Effect.LOCK
    if word in ("with", "select") and writes.search(bare):
        return Effect.WRITE
    return Effect.UNSURE if _CALLS.search(bare) else Effect.NOTHING


@functools.lru_cache(maxsize=4096)
def is_more_than_read(fragment: str) -> bool:
    """Whether a part of a statement, as text, writes or locks."""
    bare = _bare(fragment)
    return bool(_LOCKS.search(bare) or _WRITES.search(bare))


def _bare(sql: str) -> str:
    return _QUOTED.sub(" x ", _NOISE.sub(" ", sql))


# --- functions

#: What PostgreSQL's own and its usual extensions' are called, as far as a second call may say
#: something else, or do something again.
_VOLATILE = (
    r"(?:random\w*|setseed|array_(?:sample|shuffle)|uuidv\d|uuid_generate_\w+|gen_random_\w+"
    r"|gen_salt|nextval|next_value|setval|clock_timestamp|timeofday|set_config|pg_notify"
    r"|pg_sleep\w*|pg_(?:try_)?advisory_\w+|dblink\w*)"
)
_IS_VOLATILE = re.compile(_VOLATILE, re.IGNORECASE)
_SHOWS_VOLATILE = re.compile(rf"\b{_VOLATILE}\s*\(", re.IGNORECASE)


def is_volatile(name: str) -> bool:
    """Whether a function of that name is known to differ from call to call."""
    return _IS_VOLATILE.fullmatch(name) is not None


@functools.lru_cache(maxsize=4096)
def shows_volatile(fragment: str) -> bool:
    """Whether a part of a statement, as text, calls such a function."""
    return _SHOWS_VOLATILE.search(_bare(fragment)) is not None

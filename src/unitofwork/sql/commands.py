"""Locks that are read by pattern: of whole tables and of names; savepoints, and ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..policies.lock_graph import LockClass
from ..policies.locks.book import Strength
from .lock_requests import Inserted, LockRequest, Name, Statement
from .statement_text import Piece


@dataclass(frozen=True, slots=True)
class Naming:
    """One name for one table: as it is without quotes, and without the default schema."""

    #: Whether the server takes names without quotes for lower case.
    folds: bool
    schema: str | None = None

    def part(self, name: str, quoted: bool) -> str:
        """One part of a name."""
        return name.lower() if self.folds and not quoted else name

    def of(self, schema: str, table: str) -> str:
        """The name of a table."""
        return table if schema in ("", self.schema) else f"{schema}.{table}"

    def read(self, text: str) -> str:
        """The name as a statement has it, with its quotes."""
        parts = [self.part(each.strip('"`'), each[0] in '"`') for each in _PART.findall(text)]
        return self.of(".".join(parts[:-1]), parts[-1])


_PART = re.compile(r'"[^"]+"|`[^`]+`|[\w$]+')
_NAME = rf"(?:{_PART.pattern})(?:\.(?:{_PART.pattern}))*"
_ONLY = r"(?:if\s+exists\s+)?(?:only\s+)?"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


#: What locks whole tables, and how strongly.
_WHOLE = [
    (_pattern(text), strength)
    for text, strength in {
        rf"(?:truncate(?:\s+table)?|(?:alter|drop)\s+table)\s+{_ONLY}"
        rf"(?P<names>{_NAME}(?:\s*\*?\s*,\s*{_NAME})*)": Strength.UPDATE,
        rf"cluster\s+(?:verbose\s+)?(?P<names>{_NAME})": Strength.UPDATE,
        rf"vacuum\s+(?:full\s+(?:verbose\s+|analyze\s+|freeze\s+)*|\([^)]*\bfull\b[^)]*\)\s*)"
        rf"(?P<names>{_NAME})": Strength.UPDATE,
        rf"refresh\s+materialized\s+view\s+(?:concurrently\s+)?(?P<names>{_NAME})": Strength.UPDATE,
        r"create\s+(?:or\s+replace\s+)?(?:constraint\s+)?trigger\s.*?\bon\s+"
        rf"(?P<names>{_NAME})": Strength.NO_KEY_UPDATE,
        r"create\s+(?:unique\s+)?index\s+(?!concurrently\b).*?\bon\s+(?:only\s+)?"
        rf"(?P<names>{_NAME})": Strength.SHARE,
        rf"reindex\s+(?:\([^)]*\)\s*)?table\s+(?!concurrently\b)(?P<names>{_NAME})": Strength.SHARE,
    }.items()
]
_LOCK = _pattern(
    rf"lock(?:\s+table)?\s+(?!tables\b)(?:only\s+)?"
    rf"(?P<names>{_NAME}(?:\s*\*?\s*,\s*(?:only\s+)?{_NAME})*)"
    r"(?:.*?\bin\s+(?P<mode>[\w\s]+?)\s+mode\b)?(?P<nowait>\s*nowait)?"
)
#: The modes that keep writers out, as the locks of rows that they conflict with; the others keep
#: out only each other.
_MODES = {
    "share": Strength.SHARE,
    "share row exclusive": Strength.NO_KEY_UPDATE,
    "exclusive": Strength.UPDATE,
    "access exclusive": Strength.UPDATE,
}
_COPY = _pattern(rf"copy\s+(?P<name>{_NAME})\s*(?:\([^)]*\)\s*)?from\b")
#: Changes what is no row and no table that rows are written to, or keeps no writer out of it.
_APART = _pattern(
    r"(?:create|drop|alter)\s+(?:or\s+replace\s+)?(?:(?:global|local|temp|temporary|unlogged"
    r"|recursive|virtual|foreign|event|text|search)\s+)*(?:table|view|materialized\s+view|sequence"
    r"|type|domain|schema|extension|function|procedure|aggregate|role|user|group|database|server"
    r"|collation|cast|operator|publication|subscription|language|tablespace|statistics"
    r"|configuration|dictionary|wrapper|trigger\s+\w+\s+(?:execute|on\s+ddl))\b"
    r"|create\s+(?:unique\s+)?index\s+concurrently|drop\s+index\s+concurrently"
    r"|reindex\s+(?:\([^)]*\)\s*)?\w+\s+concurrently"
    r"|(?:comment|grant|revoke|reassign|security|analyze|vacuum|checkpoint|listen|unlisten|notify"
    r"|load|use|attach|detach|copy|commit)\b"
)
_KEY = r"\s*\((?P<key>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)"
_NAMED = _pattern(r"\bpg_(?P<tries>try_)?advisory_(?P<xact>xact_)?lock(?P<shared>_shared)?" + _KEY)
_UNLOCKED = _pattern(r"\bpg_advisory_unlock(?P<all>_all)?(?:_shared)?" + _KEY)
_MYSQL_NAMED = _pattern(r"\bget_lock\s*\((?P<key>[^(),]*),")
_MYSQL_UNLOCKED = _pattern(r"\brelease_(?P<all>all_)?locks?\s*\((?P<key>[^()]*)\)")
_PLACEHOLDER = re.compile(r":uow_(\d+)")
_SAVEPOINT = _pattern(
    r"(?P<what>savepoint|release(?:\s+savepoint)?"
    r"|rollback(?:\s+(?:work|transaction))?\s+to(?:\s+savepoint)?)\s+(?P<name>\S+)$"
)
_END = _pattern(
    r"(?:(?:commit|end|abort|rollback)(?:\s+(?:work|transaction))?"
    r"(?:\s+and\s+(?:no\s+)?chain)?|prepare\s+transaction\b.*)$"
)


def ending(piece: Piece, naming: Naming, *, keeps: bool) -> Statement | None:
    """A statement about savepoints or the end of the transaction.

    `keeps`: going back to a savepoint keeps the locks, as on MySQL.
    """
    if _END.match(piece.bare):
        return Statement(ends=True)
    match = _SAVEPOINT.match(piece.sql)
    if match is None:
        return None
    name = naming.read(match["name"])
    match match["what"].lower().split()[0]:
        case "savepoint":
            return Statement(sets=name)
        case "release":
            return Statement(releases=name)
    return Statement() if keeps else Statement(back_to=name)


def whole_tables(piece: Piece, naming: Naming) -> Statement | None:
    """A statement that locks whole tables, or writes without saying which rows."""
    copied = _COPY.match(piece.sql)
    if copied is not None:
        return Statement(inserted=Inserted(naming.read(copied["name"])))
    match = _LOCK.match(piece.sql)
    if match is not None:
        mode = " ".join((match["mode"] or "access exclusive").lower().split())
        how = _MODES.get(mode)
        found = () if how is None else _whole(match["names"], naming, how, not match["nowait"])
        return Statement(tuple(found))
    for pattern, strength in _WHOLE:
        match = pattern.match(piece.sql)
        if match is not None:
            return Statement(tuple(_whole(match["names"], naming, strength)))
    return None


def is_apart(piece: Piece) -> bool:
    """Whether a statement that is no query locks nothing that matters here."""
    return _APART.match(piece.bare) is not None


def _whole(
    names: str, naming: Naming, strength: Strength, waits: bool = True
) -> Iterator[LockRequest]:
    for name in names.split(","):
        plain = re.sub(r"^\s*only\s+", "", name, flags=re.IGNORECASE)
        lock = LockClass(naming.read(plain), strength, whole_table=True)
        yield LockRequest(lock, waits, exact=True)


def named_locks(piece: Piece, keys: list[str | int]) -> list[LockRequest]:
    """The advisory locks that are taken in a statement."""
    found = []
    for match in _NAMED.finditer(piece.sql):
        strength = Strength.SHARE if match["shared"] else Strength.UPDATE
        name = _name(match["key"], keys)
        waits, session = not match["tries"], not match["xact"]
        found.append(_named(name, strength, waits=waits, session=session))
    return found + [
        _named(_name(match["key"], keys), Strength.UPDATE, waits=True, session=True)
        for match in _MYSQL_NAMED.finditer(piece.sql)
    ]


def _named(name: Name | None, strength: Strength, *, waits: bool, session: bool) -> LockRequest:
    if name is None or name.parameters:
        lock = LockClass("named locks", strength)
        return LockRequest(lock, waits, session=session, name=name)
    lock = LockClass(f"named lock {name.text}", strength)
    return LockRequest(lock, waits, session=session, exact=True)


def given_back(piece: Piece, keys: list[str | int]) -> Statement | None:
    """A statement that gives back an advisory lock of the session, or all of them."""
    match = _UNLOCKED.search(piece.sql) or _MYSQL_UNLOCKED.search(piece.sql)
    if match is None:
        return None
    name = None if match["all"] else _name(match["key"], keys)
    # Where the text can't tell which, it may be any.
    return Statement(gives_back=name or Name(""))


def _name(key: str, keys: list[str | int]) -> Name | None:
    """The name, if it is made of nothing but literals, parameters and functions of them."""
    text = re.sub(r"::\s*\w+", "", " ".join(key.split()))
    plain = re.sub(r"'(?:[^']|'')*'", "", _PLACEHOLDER.sub("", text))
    if re.search(r"\b[a-zA-Z_]\w*(?!\w|\s*\()", plain):
        return None
    found = {match[0]: keys[int(match[1])] for match in _PLACEHOLDER.finditer(text)}
    return Name(text, tuple(found.items()))

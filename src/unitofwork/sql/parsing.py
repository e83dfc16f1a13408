"""Which locks a statement takes, read from its text with sqlglot."""

from __future__ import annotations

import re

import sqlglot

from ..policies.lock_graph import LockClass
from ..policies.locks.book import Strength
from ..policies.statements import Effect, effect_of
from .commands import Naming, ending, given_back, is_apart, named_locks, whole_tables
from .lock_requests import LockRequest, Statement
from .statement_text import Piece, take_apart
from .trees import TWO_MODES, FactsOf, Reader

_DIALECTS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
_QUERY = re.compile(
    r"[\s(]*(?:select|with|insert|update|delete|merge|table|values)\b", re.IGNORECASE
)
#: What a statement may have before the one that it runs: EXPLAIN with ANALYZE, or a cursor.
_EXPLAIN = re.compile(
    r"explain\s*(?:\((?P<options>[^)]*)\)|(?P<words>(?:analy[sz]e\s+|verbose\s+)*))\s*",
    re.IGNORECASE,
)
_ANALYZE = re.compile(r"\banaly[sz]e\b(?!\s*(?:false|off|0)\b)", re.IGNORECASE)
_CURSOR = re.compile(r"declare\b.*?\bfor\s+(?=select|with|\()", re.IGNORECASE | re.DOTALL)
_COPIED_QUERY = re.compile(r"copy\s*\(", re.IGNORECASE)


def read(
    sql: str, dialect: str, facts: FactsOf, default_schema: str | None = None
) -> tuple[Statement, ...]:
    """The statements of a text that lock or give back anything, or can't be read. Never raises.

    The locks of each are in the order in which they are taken.
    """
    grammar = _DIALECTS.get(dialect, "postgres")
    naming = Naming(grammar != "mysql", default_schema)
    pieces, keys = take_apart(sql, grammar)
    reader = _Reading(grammar, naming, facts, keys)
    found = [reader.read(piece) for piece in pieces]
    return tuple(each for each in found if not each.is_nothing or not each.readable)


class _Reading:
    """One text."""

    def __init__(self, grammar: str, naming: Naming, facts: FactsOf, keys: list[str | int]) -> None:
        self._grammar = grammar
        self._naming = naming
        self._facts = facts
        self._keys = keys

    def read(self, piece: Piece) -> Statement:
        """One of its statements."""
        piece, runs = _inner(piece)
        if not runs:
            return Statement()
        over = ending(piece, self._naming, keeps=self._grammar in TWO_MODES)
        if over is not None:
            return over
        effect = effect_of(piece.bare)
        if effect not in (Effect.LOCK, Effect.WRITE):
            return given_back(piece, self._keys) or Statement()
        named = named_locks(piece, self._keys)
        if _QUERY.match(piece.bare):
            return self._query(piece, named)
        if _COPIED_QUERY.match(piece.bare):
            return Statement(tuple(named), readable=_reads_only(piece.bare))
        whole = whole_tables(piece, self._naming)
        if whole is not None:
            return self._with_parents(whole)
        return Statement(tuple(named), readable=is_apart(piece))

    def _query(self, piece: Piece, named: list[LockRequest]) -> Statement:
        try:
            trees = [tree for tree in sqlglot.parse(piece.sql, dialect=self._grammar) if tree]
            reader = Reader(self._grammar, self._naming, self._facts, self._keys, trees)
            locks = (*named, *reader.locks())
        except Exception:
            # Whatever sqlglot makes of it: the statement itself must not fail by being watched.
            return Statement(tuple(named), readable=False)
        return Statement(locks, reader.inserted, readable=reader.is_read)

    def _with_parents(self, whole: Statement) -> Statement:
        """With what a COPY locks by the table's foreign keys."""
        facts = None if whole.inserted is None else self._facts(whole.inserted.table)
        if facts is None:
            return whole
        share = Strength.SHARE if self._grammar in TWO_MODES else Strength.KEY_SHARE
        parents = dict.fromkeys(name for name, _ in facts.parents.values())
        locks = tuple(LockRequest(LockClass(name, share)) for name in parents)
        return Statement(locks, whole.inserted)


def _inner(piece: Piece) -> tuple[Piece, bool]:
    """The statement that another one runs; and whether it does."""
    explained = _EXPLAIN.match(piece.sql)
    if explained is not None:
        options = explained["options"] or explained["words"] or ""
        bare = _EXPLAIN.sub("", piece.bare, count=1)
        return Piece(piece.sql[explained.end() :], bare), _ANALYZE.search(options) is not None
    cursor = _CURSOR.match(piece.sql)
    if cursor is not None:
        return Piece(piece.sql[cursor.end() :], _CURSOR.sub("", piece.bare, count=1)), True
    return piece, True


def _reads_only(bare: str) -> bool:
    return re.search(r"\b(?:insert|update|delete|merge|share)\b", bare, re.IGNORECASE) is None

"""Which locks a statement takes, read from its text with sqlglot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlglot
from sqlglot import exp

from ..policies.lock_graph import LockClass
from ..policies.locks.book import Strength
from ..policies.statements import Effect, effect_of


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the text does not say about a table."""

    primary_key: frozenset[str]
    #: Columns of the primary key and of unique constraints.
    keys: frozenset[str]
    #: The table that a column refers to.
    parents: Mapping[str, str]


Lookup = Callable[[str], TableFacts | None]


@dataclass(frozen=True, slots=True)
class LockRequest:
    """One lock that a statement takes."""

    lock: LockClass
    #: False: it is refused, or passed over, instead of waiting.
    waits: bool = True
    #: Several rows, in the order that the server happens to find them.
    many: bool = False
    #: What names the rows: values in the text, and parameters by name or by place from 0.
    literals: tuple[object, ...] = ()
    parameters: tuple[str | int, ...] = ()
    #: Held until it is given back, beyond the end of the transaction.
    session: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """What is known of a text."""

    locks: tuple[LockRequest, ...] = ()
    #: The table into which it inserts.
    inserts: str | None = None
    #: The locks that stay when the transaction ends.
    sessions: frozenset[LockClass] = frozenset()
    #: A savepoint that it sets, or goes back to, by which locks taken since are given back.
    sets: str | None = None
    back_to: str | None = None
    #: The named lock of the session that it gives back; "" for all of them.
    gives_back: str | None = None
    readable: bool = True


_PLACEHOLDER = re.compile(
    r"(?P<keep>'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\2\$)"
    r"|\$(?P<number>\d+)|%\((?P<name>\w+)\)s|(?P<next>%s|\?)",
    re.DOTALL,
)
_NAME = r'(?:[\w.]+|"[^"]+"|`[^`]+`)+'
_TABLES = re.compile(
    rf"\s*(?:lock(?:\s+table)?|truncate(?:\s+table)?|alter\s+table|drop\s+table)\s+"
    rf"(?:if\s+exists\s+)?(?:only\s+)?(?P<names>{_NAME}(?:\s*,\s*{_NAME})*)"
    r"(?:.*?\bin\s+(?P<mode>[\w ]+?)\s+mode\b)?(?P<nowait>\s*nowait)?",
    re.IGNORECASE | re.DOTALL,
)
_WEAK = frozenset({"access share", "row share", "row exclusive"})
_NAMED = re.compile(
    r"\bpg_(?P<tries>try_)?advisory_(?P<xact>xact_)?lock(?P<shared>_shared)?\s*\((?P<key>[^)]*)\)",
    re.IGNORECASE,
)
_UNLOCKED = re.compile(
    r"\bpg_advisory_unlock(?P<all>_all)?(?:_shared)?\s*\((?P<key>[^)]*)\)", re.IGNORECASE
)
_SAVEPOINT = re.compile(
    r"\s*(?P<back>rollback\s+to\s+)?(?:savepoint\s+)?(?P<name>\S+)", re.IGNORECASE
)
_DIALECTS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
#: Databases whose rows know reading and writing only.
_TWO_MODES = frozenset({"mysql"})


def read(sql: str, dialect: str, facts: Lookup) -> Statement:
    """The locks of one statement, in the order in which they are taken. Never raises."""
    if effect_of(sql) not in (Effect.LOCK, Effect.WRITE):
        return _without_locks(sql, dialect)
    whole = _TABLES.match(sql)
    if whole is not None:
        return Statement(tuple(_whole_tables(whole)))
    named = [_named(match) for match in _NAMED.finditer(sql)]
    sessions = frozenset(request.lock for request in named if request.session)
    grammar = _DIALECTS.get(dialect, "postgres")
    if re.match(r"[\s(]*(?:select|with|insert|update|delete|merge)\b", sql, re.IGNORECASE) is None:
        return Statement(
            tuple(named), sessions=sessions, readable=re.match(r"\s*(do|call)\b", sql, re.I) is None
        )
    try:
        trees = sqlglot.parse(_numbered(sql), dialect=grammar)
        reader = _Reader(grammar, facts, trees)
        return Statement((*named, *reader.locks()), reader.inserts, sessions)
    except sqlglot.errors.SqlglotError:
        return Statement(tuple(named), sessions=sessions, readable=False)


def _without_locks(sql: str, dialect: str) -> Statement:
    unlocked = _UNLOCKED.search(sql)
    if unlocked is not None:
        return Statement(gives_back="" if unlocked["all"] else _resource(unlocked["key"]))
    if re.match(r"\s*(?:savepoint|rollback\s+to)\b", sql, re.IGNORECASE):
        match = _SAVEPOINT.match(sql)
        if match is not None and match["back"] is None:
            return Statement(sets=match["name"])
        # InnoDB keeps the locks.
        if match is not None and _DIALECTS.get(dialect) not in _TWO_MODES:
            return Statement(back_to=match["name"])
    return Statement()


def _numbered(sql: str) -> str:
    """With one kind of placeholder; those without a name are called by their place."""
    count = 0

    def named(match: re.Match[str]) -> str:
        nonlocal count
        if match["keep"] is not None:
            return match[0]
        if match["name"] is not None:
            return f":{match['name']}"
        place = count if match["number"] is None else int(match["number"]) - 1
        count += 1
        return f":uow_{place}"

    return _PLACEHOLDER.sub(named, sql).replace("%%", "%")


def _named(match: re.Match[str]) -> LockRequest:
    strength = Strength.SHARE if match["shared"] else Strength.UPDATE
    lock = LockClass(_resource(match["key"]), strength)
    return LockRequest(lock, waits=not match["tries"], session=not match["xact"])


def _resource(key: str) -> str:
    """One lock where the text tells which; else all that are told by parameters are one class."""
    key = key.strip()
    return f"named lock {key}" if re.fullmatch(r"[-\d\s,]+", key) else "named locks"


def _whole_tables(match: re.Match[str]) -> Iterator[LockRequest]:
    if (match["mode"] or "").lower() in _WEAK:
        return
    for name in match["names"].split(","):
        lock = LockClass(re.sub(r'["`]', "", name.strip()), Strength.UPDATE, whole_table=True)
        yield LockRequest(lock, waits=not match["nowait"])


class _Reader:
    def __init__(self, grammar: str, facts: Lookup, trees: list[Any]) -> None:
        self._facts = facts
        self._trees = [tree for tree in trees if tree is not None]
        two = grammar in _TWO_MODES
        self._write = Strength.UPDATE if two else Strength.NO_KEY_UPDATE
        self._parent = Strength.SHARE if two else Strength.KEY_SHARE
        self._ctes = {cte.alias for tree in self._trees for cte in tree.find_all(exp.CTE)}
        self.inserts: str | None = None

    def locks(self) -> Iterator[LockRequest]:
        for tree in self._trees:
            for node in _inside_out(tree):
                if isinstance(node, exp.Select):
                    yield from self._select(node)
                elif isinstance(node, exp.Update) and isinstance(node.this, exp.Table):
                    yield from self._update(node)
                elif isinstance(node, exp.Delete) and isinstance(node.this, exp.Table):
                    yield self._rows(node, node.this, Strength.UPDATE)
                elif isinstance(node, exp.Insert):
                    yield from self._insert(node)
                elif isinstance(node, exp.Merge) and isinstance(node.this, exp.Table):
                    yield self._rows(node, node.this, self._write)

    def _select(self, select: exp.Select) -> Iterator[LockRequest]:
        sources = [_argument(select, "from"), *(select.args.get("joins") or ())]
        tables = [s.this for s in sources if s is not None and isinstance(s.this, exp.Table)]
        for clause in select.args.get("locks") or ():
            of = {table.name for table in clause.expressions}
            strength = _STRENGTHS[bool(clause.args.get("update")), bool(clause.args.get("key"))]
            for table in tables:
                if table.name not in self._ctes and (not of or table.alias_or_name in of):
                    ordered = select.args.get("order") is not None
                    waits = not isinstance(clause.args.get("wait"), bool)
                    yield self._rows(select, table, strength, ordered=ordered, waits=waits)

    def _update(self, update: exp.Update) -> Iterator[LockRequest]:
        table, facts = update.this, self._facts(_name(update.this))
        changed = {
            change.this.name: change.expression
            for change in update.expressions
            if isinstance(change, exp.EQ)
        }
        key_changes = facts is not None and not facts.keys.isdisjoint(changed)
        yield self._rows(update, table, Strength.UPDATE if key_changes else self._write)
        if facts is not None:
            for column, parent in facts.parents.items():
                if column in changed:
                    yield self._key_share(parent, [changed[column]])

    def _insert(self, insert: exp.Insert) -> Iterator[LockRequest]:
        target = insert.this
        table = target.this if isinstance(target, exp.Schema) else target
        if not isinstance(table, exp.Table):
            return
        self.inserts = _name(table)
        rows = insert.expression.expressions if isinstance(insert.expression, exp.Values) else []
        facts = self._facts(self.inserts)
        if facts is not None and isinstance(target, exp.Schema):
            columns = [column.name for column in target.expressions]
            for column, parent in facts.parents.items():
                if column in columns:
                    place = columns.index(column)
                    yield self._key_share(parent, [row.expressions[place] for row in rows])
        conflict = insert.args.get("conflict")
        if conflict is not None and conflict.expressions:
            yield LockRequest(LockClass(self.inserts, self._write), many=len(rows) != 1)

    def _key_share(self, parent: str, values: list[Any]) -> LockRequest:
        keys = [key for value in values for key in _values(value)]
        return LockRequest(LockClass(parent, self._parent), **_named_by(keys))

    def _rows(
        self,
        node: exp.Expression,
        table: exp.Table,
        strength: Strength,
        *,
        ordered: bool = False,
        waits: bool = True,
    ) -> LockRequest:
        facts = self._facts(_name(table))
        keys: list[_Literal | _Parameter] = []
        single = False
        where = node.args.get("where")
        for column, value in _equalities(where.this if where is not None else None):
            if column.table and column.table != table.alias_or_name:
                continue
            if facts is None or column.name in facts.primary_key:
                values = _values(value)
                keys += values
                single = single or (bool(values) and not isinstance(value, exp.Any | exp.Tuple))
        lock = LockClass(_name(table), strength)
        return LockRequest(lock, waits, many=not (single or ordered), **_named_by(keys))


_STRENGTHS = {
    (True, False): Strength.UPDATE,
    (True, True): Strength.NO_KEY_UPDATE,
    (False, False): Strength.SHARE,
    (False, True): Strength.KEY_SHARE,
}


def _argument(node: exp.Expression, name: str) -> Any:
    # sqlglot has added an underscore to the names that are Python's.
    return node.args.get(f"{name}_") or node.args.get(name)


def _name(table: exp.Table) -> str:
    return f"{table.db}.{table.name}" if table.db else table.name


def _inside_out(node: exp.Expression) -> Iterator[exp.Expression]:
    """What a node is made of before the node: the server runs a WITH first."""
    parts = sorted(node.iter_expressions(), key=lambda part: not isinstance(part, exp.With))
    for part in parts:
        yield from _inside_out(part)
    yield node


def _equalities(condition: Any) -> Iterator[tuple[exp.Column, Any]]:
    """The columns that must equal something, of all that must be true."""
    if isinstance(condition, exp.Paren):
        yield from _equalities(condition.this)
    elif isinstance(condition, exp.And):
        yield from _equalities(condition.left)
        yield from _equalities(condition.right)
    elif isinstance(condition, exp.EQ):
        for column, value in ((condition.left, condition.right), (condition.right, condition.left)):
            if isinstance(column, exp.Column):
                yield column, value
                return
    elif isinstance(condition, exp.In) and condition.expressions:
        columns = condition.this.expressions if isinstance(condition.this, exp.Tuple) else None
        for column in columns or [condition.this]:
            if isinstance(column, exp.Column):
                yield column, exp.Tuple(expressions=list(condition.expressions))


class _Literal(NamedTuple):
    value: object


class _Parameter(NamedTuple):
    key: str | int


def _named_by(keys: list[_Literal | _Parameter]) -> dict[str, Any]:
    return {
        "literals": tuple(key.value for key in keys if isinstance(key, _Literal)),
        "parameters": tuple(key.key for key in keys if isinstance(key, _Parameter)),
    }


def _values(value: Any) -> list[_Literal | _Parameter]:
    """The literals and parameters of an expression; none if anything else is in it."""
    while isinstance(value, exp.Cast | exp.Paren | exp.Any):
        value = value.this
    if isinstance(value, exp.Tuple):
        parts = [_values(part) for part in value.expressions]
        return [key for part in parts for key in part] if all(parts) else []
    if isinstance(value, exp.Literal):
        return [_Literal(int(value.this) if value.is_int else value.this)]
    if isinstance(value, exp.Placeholder):
        name = value.name
        place = re.fullmatch(r"uow_(\d+)", name)
        return [_Parameter(name if place is None else int(place[1]))]
    return []

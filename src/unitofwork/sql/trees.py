"""The locks of queries and writes, from their syntax trees."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlglot import exp

from ..policies.lock_graph import LockClass
from ..policies.locks.book import Strength
from .commands import Naming
from .lock_requests import (
    MANY_KEYS,
    Inserted,
    Key,
    Literal,
    LockRequest,
    Parameter,
    TableFacts,
)

FactsOf = Callable[[str], TableFacts | None]
#: As sqlglot calls the databases whose rows know reading and writing only.
TWO_MODES = frozenset({"mysql"})


class Reader:
    """Reads the trees of one statement."""

    def __init__(
        self,
        grammar: str,
        naming: Naming,
        facts: FactsOf,
        keys: list[str | int],
        trees: list[Any],
    ) -> None:
        self._naming = naming
        self._facts = facts
        self._keys = keys
        self._trees = trees
        two = grammar in TWO_MODES
        self._write = Strength.UPDATE if two else Strength.NO_KEY_UPDATE
        self._parent = Strength.SHARE if two else Strength.KEY_SHARE
        self._ctes = {cte.alias for tree in trees for cte in tree.find_all(exp.CTE)}
        self.inserted: Inserted | None = None
        self.is_read = bool(trees)

    def locks(self) -> Iterator[LockRequest]:
        """In the order in which the server takes them, as far as the text tells."""
        for tree in self._trees:
            for node in _inside_out(tree):
                if isinstance(node, exp.Select):
                    yield from self._select(node)
                elif isinstance(node, exp.Insert):
                    yield from self._insert(node)
                elif isinstance(node, exp.Command):
                    self.is_read = False
                elif not isinstance(node.this, exp.Table):
                    pass  # the UPDATE in a MERGE has no table of its own
                elif isinstance(node, exp.Update):
                    yield from self._update(node)
                elif isinstance(node, exp.Delete):
                    yield self._rows(node, node.this, Strength.UPDATE)
                elif isinstance(node, exp.Merge):
                    yield from self._merge(node)

    # --- SELECT ... FOR

    def _select(self, select: exp.Select) -> Iterator[LockRequest]:
        for clause in select.args.get("locks") or ():
            of = {self._name(table) for table in clause.expressions}
            strength = _STRENGTHS[bool(clause.args.get("update")), bool(clause.args.get("key"))]
            waits = not isinstance(clause.args.get("wait"), bool)
            for source, name in self._sources(select):
                if of and name not in of:
                    continue
                for inner, table in self._tables(select, source):
                    orders = (one.args.get("order") for one in (inner, select))
                    ordered = any(order is not None for order in orders)
                    yield self._rows(inner, table, strength, ordered=ordered, waits=waits)

    def _sources(self, select: exp.Expression) -> Iterator[tuple[Any, str]]:
        """What a SELECT reads from, and how its clauses call it."""
        for part in (_argument(select, "from"), *(select.args.get("joins") or ())):
            if part is None:
                continue
            source = part.this
            alias = source.args.get("alias")
            if alias is not None and alias.this is not None:
                yield source, self._part(alias.this)
            elif isinstance(source, exp.Table):
                yield source, self._part(source.this)
            else:
                yield source, ""

    def _tables(
        self, select: exp.Expression, source: Any
    ) -> Iterator[tuple[exp.Expression, exp.Table]]:
        """The tables whose rows a lock on a source locks, with the SELECT that reads them."""
        while isinstance(source, exp.Lateral | exp.Subquery | exp.Paren):
            source = source.this
        if isinstance(source, exp.Select):
            for inner, _ in self._sources(source):
                yield from self._tables(source, inner)
        elif isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            if source.args.get("db") is not None or source.name not in self._ctes:
                yield select, source
            for join in source.args.get("joins") or ():
                yield from self._tables(select, join.this)
        elif not isinstance(source, exp.Table | exp.Unnest | exp.Values):
            self.is_read = False

    # --- UPDATE

    def _update(self, update: exp.Update) -> Iterator[LockRequest]:
        table, facts = update.this, self._facts(self._name(update.this))
        changed = self._changed(update.expressions)
        key_changes = facts is not None and not facts.keys.isdisjoint(changed)
        yield self._rows(update, table, Strength.UPDATE if key_changes else self._write)
        if facts is not None:
            yield from self._parents(facts, [changed])

    def _merge(self, merge: exp.Merge) -> Iterator[LockRequest]:
        done = [when.args.get("then") for when in merge.args["whens"].expressions]
        changed: dict[str, Any] = {}
        for one in done:
            if isinstance(one, exp.Update):
                changed |= self._changed(one.expressions)
        facts = self._facts(self._name(merge.this))
        deletes = any(isinstance(one, exp.Var) and one.name == "DELETE" for one in done)
        stronger = deletes or (facts is not None and not facts.keys.isdisjoint(changed))
        yield self._rows(merge, merge.this, Strength.UPDATE if stronger else self._write)
        if facts is not None:
            inserts = any(isinstance(one, exp.Insert) for one in done)
            new = dict.fromkeys(itertools.chain(*facts.parents)) if inserts else {}
            yield from self._parents(facts, [dict.fromkeys(changed) | new])

    def _changed(self, changes: list[Any]) -> dict[str, Any]:
        """What a SET gives to columns; None for what is not told one by one."""
        found: dict[str, Any] = {}
        for change in changes:
            if not isinstance(change, exp.EQ):
                continue
            if not isinstance(change.this, exp.Tuple):
                found[self._part(change.this.this)] = change.expression
                continue
            columns = change.this.expressions
            values = change.expression.expressions
            if isinstance(change.expression, exp.Subquery) or len(values) != len(columns):
                values = [None] * len(columns)
            found |= {
                self._part(one.this): value for one, value in zip(columns, values, strict=True)
            }
        return found

    def _parents(self, facts: TableFacts, rows: list[dict[str, Any]]) -> Iterator[LockRequest]:
        """The rows that foreign keys refer to, where one of their columns is set."""
        for columns, (parent, theirs) in facts.parents.items():
            lock = LockClass(parent, self._parent)
            setting = [row for row in rows if not row.keys().isdisjoint(columns)]
            # Where one of its columns is NULL, a foreign key refers to nothing.
            referring = [
                row for row in setting if not any(_is_null(row.get(column)) for column in columns)
            ]
            if referring:
                yield LockRequest(lock, **self._named_by(referring, columns, theirs))

    # --- INSERT

    def _insert(self, insert: exp.Insert) -> Iterator[LockRequest]:
        target = insert.this
        table = target.this if isinstance(target, exp.Schema) else target
        if not isinstance(table, exp.Table):
            return
        name = self._name(table)
        facts = self._facts(name)
        rows = self._inserted_rows(insert, facts)
        conflict = insert.args.get("conflict")
        ignored = bool(insert.args.get("ignore"))
        if conflict is None and not ignored:
            self.inserted = Inserted(name, self._own(name, facts, rows))
        if conflict is not None and conflict.expressions:
            # Whether the row is new, or was there and had to be waited for, the text can't tell.
            changed = self._changed(conflict.expressions)
            key_changes = facts is not None and not facts.keys.isdisjoint(changed)
            target_key = self._conflict_columns(conflict)
            by_key = facts is not None and target_key == facts.primary_key
            yield LockRequest(
                LockClass(name, Strength.UPDATE if key_changes else self._write),
                many=len(rows) != 1 or not isinstance(insert.expression, exp.Values),
                **(self._named_by(rows, sorted(target_key)) if by_key else {}),
            )
            if facts is not None:
                new = {one: value for one, value in changed.items() if not _is_excluded(value)}
                yield from self._parents(facts, [new])
        if facts is not None:
            yield from self._parents(facts, rows)

    def _inserted_rows(self, insert: exp.Insert, facts: TableFacts | None) -> list[dict[str, Any]]:
        """What an INSERT gives to the columns of each row; of a query, None to those of one."""
        target = insert.this
        columns: Sequence[str] = () if facts is None else facts.columns
        if isinstance(target, exp.Schema):
            columns = [self._part(getattr(one, "this", one)) for one in target.expressions]
        if not isinstance(insert.expression, exp.Values):
            is_default = bool(insert.args.get("default"))
            return [] if is_default else [dict.fromkeys(columns)]
        return [
            dict(zip(columns, row.expressions, strict=False))
            for row in insert.expression.expressions
        ]

    def _own(
        self, table: str, facts: TableFacts | None, rows: list[dict[str, Any]]
    ) -> LockRequest | None:
        """The rows of an INSERT, if they are named by their primary key."""
        columns = sorted(facts.primary_key) if facts is not None else []
        named = self._named_by(rows, columns)
        return LockRequest(LockClass(table, Strength.UPDATE), **named) if named else None

    def _conflict_columns(self, conflict: Any) -> frozenset[str]:
        targets = (getattr(one, "this", None) for one in conflict.args.get("conflict_keys") or ())
        return frozenset(self._part(one.this) for one in targets if isinstance(one, exp.Column))

    # --- which rows

    def _rows(
        self,
        node: exp.Expression,
        table: exp.Table,
        strength: Strength,
        *,
        ordered: bool = False,
        waits: bool = True,
    ) -> LockRequest:
        facts = self._facts(self._name(table))
        found: dict[str, list[Literal | Parameter]] = {}
        lists: set[str] = set()
        alias = table.args.get("alias")
        called = self._part(table.this if alias is None else alias.this)
        for column, value in _equalities(node):
            of = column.args.get("table")
            if of is not None and self._part(of) != called:
                continue
            name = self._part(column.this)
            values = self._values(value)
            if values and (facts is None or name in facts.primary_key):
                found.setdefault(name, values)
                if isinstance(value, exp.Any | exp.Tuple):
                    lists.add(name)
        if facts is None and "id" in found:
            found = {"id": found["id"]}
        columns = tuple(sorted(found))
        keys: list[Key] = [(part,) for values in found.values() for part in values]
        if len(found) > 1 and lists.isdisjoint(found):
            keys = [tuple(found[name][0] for name in columns)]
        elif len(found) > 1:
            columns = ()  # which of the values belong together is not told
        return LockRequest(
            LockClass(self._name(table), strength),
            waits,
            many=not (found.keys() - lists or ordered),
            **_kept(keys, columns),
        )

    def _named_by(
        self, rows: list[dict[str, Any]], columns: Sequence[str], theirs: Sequence[str] = ()
    ) -> dict[str, Any]:
        """What names the rows that these columns of other rows tell."""
        keys: list[Key] = []
        names = theirs or columns
        # A column that is not set may have any value.
        given = [place for place, name in enumerate(columns) if rows and name in rows[0]]
        given.sort(key=names.__getitem__)
        for row in rows:
            values = [self._values(row.get(columns[place])) for place in given]
            if not values or not all(len(value) == 1 for value in values):
                return {}
            keys.append(tuple(part for value in values for part in value))
        return _kept(keys, tuple(names[place] for place in given))

    # --- names and values

    def _name(self, table: exp.Table) -> str:
        schema = table.args.get("db")
        return self._naming.of("" if schema is None else self._part(schema), self._part(table.this))

    def _part(self, identifier: Any) -> str:
        while isinstance(identifier, exp.Column | exp.Dot):
            identifier = identifier.this
        if isinstance(identifier, exp.Identifier):
            return self._naming.part(identifier.name, bool(identifier.args.get("quoted")))
        return str(getattr(identifier, "name", identifier))

    def _values(self, value: Any) -> list[Literal | Parameter]:
        """The literals and parameters of an expression; none if anything else is in it."""
        while isinstance(value, exp.Cast | exp.Paren | exp.Any):
            value = value.this
        if isinstance(value, exp.Tuple | exp.Array):
            parts = [self._values(part) for part in value.expressions]
            return [key for part in parts for key in part] if all(parts) else []
        if isinstance(value, exp.Literal):
            return [Literal(int(value.this) if value.is_int else value.this)]
        if isinstance(value, exp.Null):
            return [Literal(None)]
        if isinstance(value, exp.Neg) and isinstance(value.this, exp.Literal) and value.this.is_int:
            return [Literal(-int(value.this.this))]
        if isinstance(value, exp.Placeholder):
            number = re.fullmatch(r"uow_(\d+)", value.name)
            return [] if number is None else [Parameter(self._keys[int(number[1])])]
        return []


_STRENGTHS = {
    (True, False): Strength.UPDATE,
    (True, True): Strength.NO_KEY_UPDATE,
    (False, False): Strength.SHARE,
    (False, True): Strength.KEY_SHARE,
}


def _argument(node: exp.Expression, name: str) -> Any:
    # sqlglot has added an underscore to the names that are Python's.
    return node.args.get(f"{name}_") or node.args.get(name)


def _kept(keys: list[Key], columns: tuple[str, ...]) -> dict[str, Any]:
    return {"keys": tuple(keys[:MANY_KEYS]), "by": columns, "more": len(keys) > MANY_KEYS}


def _is_null(value: Any) -> bool:
    return isinstance(value, exp.Null)


def _is_excluded(value: Any) -> bool:
    """Whether an upsert sets what the INSERT has given already."""
    return isinstance(value, exp.Column) and value.table.lower() == "excluded"


def _inside_out(node: exp.Expression) -> Iterator[exp.Expression]:
    """What a node is made of before the node: the server runs a WITH first."""
    parts = sorted(node.iter_expressions(), key=lambda part: not isinstance(part, exp.With))
    for part in parts:
        yield from _inside_out(part)
    yield node


def _equalities(node: exp.Expression) -> Iterator[tuple[exp.Column, Any]]:
    """The columns that must equal something, by the WHERE and the inner joins of a statement."""
    where = node.args.get("where")
    yield from _equal(where.this if where is not None else None)
    for join in node.args.get("joins") or ():
        if not join.args.get("side"):
            yield from _equal(join.args.get("on"))


def _equal(condition: Any) -> Iterator[tuple[exp.Column, Any]]:
    if isinstance(condition, exp.Paren):
        yield from _equal(condition.this)
    elif isinstance(condition, exp.And):
        yield from _equal(condition.left)
        yield from _equal(condition.right)
    elif isinstance(condition, exp.EQ):
        for column, value in ((condition.left, condition.right), (condition.right, condition.left)):
            if isinstance(column, exp.Column):
                yield column, value
                return
    elif isinstance(condition, exp.In) and condition.expressions:
        if isinstance(condition.this, exp.Column):
            yield condition.this, exp.Tuple(expressions=list(condition.expressions))
        elif isinstance(condition.this, exp.Tuple):
            rows = [row.expressions for row in condition.expressions]
            for place, column in enumerate(condition.this.expressions):
                if isinstance(column, exp.Column) and all(place < len(row) for row in rows):
                    yield column, exp.Tuple(expressions=[row[place] for row in rows])

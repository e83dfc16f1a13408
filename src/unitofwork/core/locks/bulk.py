"""update() and delete() through the session: their rows are locked in order, then changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ColumnElement, Delete, Result, Update, select, tuple_
from sqlalchemy.orm import LoaderCriteriaOption, ORMExecuteState

from ...errors import ConfigurationError
from ...policies.locks.book import NOTHING, Wants
from ...policies.locks.order import Resource
from ...sql.key_types import has_other_spellings
from ...sql.row_locks import Step, among_keys, rows_parameters
from .acquire import acquire, connection_of, locking
from .dml import COMPUTED, Parameters, Row, Target, assigned, keys_in, value_of
from .lookups import Effect, Found, check_parent
from .ordered import (
    changing_links,
    depends_on_rows,
    is_checked_again,
    key_set,
    lock_found,
    lookup_of,
    record,
    run,
    waits_alone,
)
from .parts import may_differ
from .schema import Columns, Link, links_from
from .tables import Tables, key_columns
from .unique import Claims

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def execute_change(
    tx: CoreTransaction, state: ORMExecuteState, statement: Update | Delete, target: Target
) -> Result[Any] | None:
    """Run the statement with its rows locked in order. None: its rows can't be told."""
    return _Change(tx, state, statement, target).execute()


class _Change:
    """One UPDATE or DELETE with a WHERE."""

    def __init__(
        self,
        tx: CoreTransaction,
        state: ORMExecuteState,
        statement: Update | Delete,
        target: Target,
    ) -> None:
        self._tx = tx
        self._state = state
        self._statement = statement
        self._target = target
        parameters = state.parameters
        self._parameters: Parameters = parameters if isinstance(parameters, Mapping) else {}
        self._sets: dict[Column[Any], Any] | None = {}
        if isinstance(statement, Update):
            self._sets = assigned(statement, target, [self._parameters])
        self._tables_met = {target.table}
        effect = Effect.DELETED if isinstance(statement, Delete) else Effect.CHANGED
        self._lookup = lookup_of(target.table, effect, self._sets or ())
        self._claims = Claims(tx.unit.home.locking.unique_names)
        changed = self._sets if isinstance(statement, Update) else None
        self._unique = self._claims.concern(target.table, changed)
        #: The primary key, if SET changes it.
        self._key_set = key_set(self._lookup)

    def execute(self) -> Result[Any] | None:
        if self._sets is None or self._generates_parents():
            return None
        keys = self._keys()
        found = Found()
        if keys is None or self._unique or self._depends_on_rows(keys):
            if may_differ(self._statement.whereclause, *self._expressions().values()):
                return None
            rows = self._read(found)
            self._claims.lock(self._tx, found)
            if self._follows_values() and len(self._held(rows)) < len(rows):
                acquire(self._tx, found.wants)
                rows, found = self._read_anew(rows)
            whole = False
        else:
            rows = [self._row(key) for key in keys]
            for resource in rows:
                found.want(resource, self._lookup.strength)
            for link in self._links_set():
                check_parent(self._tables, link, self._will_be(link.columns, {}), found)
            if self._key_set:
                found.rename(self._tables, self._target.table, self._will_be(self._key_set, {}))
            whole = True
        if whole and len(found.wants) == 1 and waits_alone(self._tx.unit, found):
            result = self._run(self._statement, asking=found.wants)
            if getattr(result, "rowcount", -1) == 1:
                record(self._tx.unit, found.wants, self._statement)
            else:
                # Where WHERE did not hold any more, the server may have locked the row to see it.
                acquire(self._tx, found.wants)
        else:
            self._tables_met |= lock_found(self._tx, found)
            gone = found.absent.keys() & set(rows)  # which the statement leaves alone
            others = {one: how for one, how in found.absent.items() if one not in gone}
            result = self._run_restricted(rows, whole, others)
        for resource in (*rows, *found.writes):
            self._tx.unit.book.record_written(resource)
        return result

    # --- which rows

    @property
    def _tables(self) -> Tables:
        return self._tx.unit.home.tables

    def _row(self, key: tuple[Any, ...]) -> Resource:
        return self._tables.row(self._target.table, key)

    def _keys(self) -> list[tuple[Any, ...]] | None:
        if has_other_spellings(self._target.table):
            return None
        found = keys_in(self._statement.whereclause, self._target, self._parameters)
        try:
            for key in found or ():
                self._row(key)
        except ConfigurationError:
            return None  # no such key; what that means is the database's to say
        return found

    def _depends_on_rows(self, keys: Iterable[tuple[Any, ...]]) -> bool:
        """Whether what is to be locked follows from what is in the rows."""
        if depends_on_rows(self._lookup):
            return True
        if self._refers_to_computed():
            return True
        return is_checked_again(self._tx.unit, self._lookup, [*map(self._row, keys)])

    def _refers_to_computed(self) -> bool:
        """Whether SET has a key or foreign key computed, or leaves a part of one as it is."""
        keys = (self._key_set, *(link.columns for link in self._links_set()))
        return any(COMPUTED in self._will_be(key, {}) for key in keys)

    def _generates_parents(self) -> bool:
        """Whether the database generates a foreign key from what SET changes."""
        columns = (one for link in self._links_set() for one in link.columns)
        return any(one.computed is not None and one in (self._sets or ()) for one in columns)

    def _expressions(self) -> dict[Column[Any], Any]:
        """What SET computes for a foreign key, or a unique one; it is to be computed before too."""
        referring = [link.columns for link in self._links_set()]
        return {
            column: value
            for column in itertools.chain(self._key_set, *referring, *self._unique)
            if (value := (self._sets or {}).get(column)) is not None
            and value is not COMPUTED
            and value_of(value, self._parameters) is COMPUTED
        }

    def _follows_values(self) -> bool:
        """Whether more is to be locked by what else than its key is in a row."""
        return (
            bool(self._unique)
            or self._refers_to_computed()
            or any(link.key_order is None for link in changing_links(self._lookup))
        )

    def _read_anew(self, rows: Iterable[Resource]) -> tuple[list[Resource], Found]:
        """Read locked rows once more: while they were waited for, their values may have changed.

        What they have now, they keep.
        """
        found, self._claims = Found(), Claims(self._claims.is_on)
        rows = self._read(found, self._held(rows))
        self._claims.lock(self._tx, found)
        return rows, found

    def _held(self, rows: Iterable[Resource]) -> list[Resource]:
        book, strength = self._tx.unit.book, self._lookup.strength
        return [resource for resource in rows if book.covers(resource, strength)]

    def _read(self, found: Found, among: Sequence[Resource] | None = None) -> list[Resource]:
        """Read the rows that WHERE finds now, and what they refer to."""
        expressions = self._expressions()
        keys = self._lookup.selected()
        own = list(dict.fromkeys(itertools.chain(keys, *self._unique)))
        statement = select(
            *(self._target.source.c[column.key] for column in own),
            *(value.label(f"uow_{at}") for at, value in enumerate(expressions.values())),
        )
        statement = statement.select_from(self._target.entity or self._target.source)
        if self._statement.whereclause is not None:
            statement = statement.where(self._statement.whereclause)
        if self._target.entity is not None:
            # Of the statement's own options, those that its WHERE depends on.
            options = self._statement._with_options
            criteria = [one for one in options if isinstance(one, LoaderCriteriaOption)]
            statement = statement.options(*criteria)
        parameters = self._parameters
        if among is not None:
            condition, arrays = self._restriction(among)
            statement, parameters = statement.where(condition), {**parameters, **arrays}
        with locking(self._tx.unit):
            rows = connection_of(self._tx).execute(statement, parameters).all()
        answers: list[Any] = [row[: len(keys)] for row in rows]
        links = self._links_set()
        updates: dict[Resource, list[Row]] = {}
        for row in rows:
            before = dict(zip(own, row, strict=False))
            values = before | dict(zip(expressions, row[len(own) :], strict=True))
            if self._sets and (self._key_set or depends_on_rows(self._lookup)):
                changed = tuple(self._sets)
                new = dict(zip(changed, self._will_be(changed, values), strict=True))
                updates[self._row(tuple(row[: len(key_columns(self._target.table))]))] = [new]
            for link in links:
                parent = self._will_be(link.columns, values)
                if COMPUTED not in parent:  # a default, which only the database or SQLAlchemy knows
                    check_parent(self._tables, link, parent, found)
            self._claims.give_up(self._target.table, self._unique, before)
            for unique in self._unique if self._sets else ():
                after = dict(zip(unique, self._will_be(unique, values), strict=True))
                self._claims.take(self._target.table, [unique], after)
        more = replace(self._lookup, updates=updates, followed={}).found(
            self._tx, dict.fromkeys(answers)
        )
        found.add(more)
        return [one for one in dict.fromkeys(more.writes) if one in more.wants]

    def _links_set(self) -> list[Link]:
        sets = self._sets or {}
        return [
            one for one in links_from(self._target.table) if not sets.keys().isdisjoint(one.columns)
        ]

    def _will_be(self, columns: Columns, row: Mapping[Column[Any], Any]) -> tuple[Any, ...]:
        """What columns will be; `row`: what they are, or what was computed for them."""
        values = []
        for column in columns:
            if self._sets and column in self._sets:
                given = self._sets[column]
                value = value_of(given, self._parameters)
                if value is COMPUTED:
                    # Of an expression `row` has the answer, else the old value.
                    answer = COMPUTED if given is COMPUTED else row.get(column, COMPUTED)
                    value = self._parameters.get(column.key, answer)
                values.append(value)
            else:
                values.append(row.get(column, COMPUTED))
        return tuple(values)

    # --- running it

    def _run_restricted(self, rows: Sequence[Resource], whole: bool, absent: Wants) -> Result[Any]:
        """Have it change the rows that are locked, and no others that match by now."""
        held = self._held(rows)
        if whole and len(held) == len(rows):
            return self._run(self._statement, absent=absent)
        if self._key_set and self._target.mapper is not None:
            # "fetch" would bring the new keys, by which the session does not know its objects.
            return self._run(self._statement.where(self._is_one_of(held)), absent=absent)
        condition, arrays = self._restriction(held)
        self._state.parameters = {**self._parameters, **arrays}
        return self._run(self._statement.where(condition), restricted=True, absent=absent)

    def _restriction(self, rows: Iterable[Resource]) -> tuple[ColumnElement[bool], Parameters]:
        """The condition that a row is one of these, and its parameters."""
        table = self._target.table
        columns = [self._target.source.c[column.key] for column in key_columns(table)]
        step = Step(table, self._lookup.strength)
        return among_keys(table, columns), rows_parameters(0, step, [one.key for one in rows])

    def _is_one_of(self, rows: Iterable[Resource]) -> ColumnElement[bool]:
        """The condition that an object is one of these, which can be evaluated in Python too."""
        mapper: Any = self._target.mapper
        columns = key_columns(self._target.table)
        names = [mapper.get_property_by_column(column).key for column in columns]
        own: list[Any] = [getattr(self._target.entity, name) for name in names]
        single = len(own) == 1
        key: ColumnElement[Any] = own[0] if single else tuple_(*own)
        return key.in_([resource.key[0] if single else resource.key for resource in rows])

    def _run(
        self,
        statement: Update | Delete,
        restricted: bool = False,
        asking: Wants = NOTHING,
        absent: Wants = NOTHING,
    ) -> Result[Any]:
        options = {}
        if restricted and self._state.is_orm_statement:
            asked = self._state.update_delete_options._synchronize_session
            if asked in ("auto", "evaluate"):
                # The restriction can't be evaluated in Python; what was changed can be fetched.
                options["synchronize_session"] = "fetch"
        return run(self._tx, self._state, statement, self._tables_met, options, asking, absent)

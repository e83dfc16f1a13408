"""Going through all that a flush will write, and noting what each statement will lock."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import InstanceState, LoaderCallableStatus, Mapper, Session

from ...policies.locks.book import Book, Strength
from ...policies.locks.order import Rank, Resource
from .intent import intent_of
from .lookups import Effect, Followed, Found, check_parent, child_lookups, lookups_of
from .relations import Pair, Relations
from .schema import Columns, Link, links_from, links_to
from .shapes import Attributes, Part, Shape, shape_of
from .tables import Tables, key_columns
from .unique import Claims
from .values import Unknown, all_known, is_expression

State = InstanceState[Any]
Values = tuple[Any, ...]


class Survey(Found):
    """What the next flush of a session will lock."""

    def __init__(self, session: Session, tables: Tables, book: Book, names: bool) -> None:
        super().__init__()
        self.inserts: list[Resource] = []
        self.new_objects: list[object] = []
        self.associations: set[Table] = set()
        #: Of the tables that rows are inserted into.
        self.ranks: set[Rank] = set()
        self.claims = Claims(names)
        #: Rows that get one UPDATE, as far as that alone sets when it is sent.
        self.updated: dict[Resource, State] = {}
        self.deleted: set[Resource] = set()
        #: Of the objects in the flush, also of those that only follow others.
        self.mappers: frozenset[Mapper[Any]] = frozenset()
        #: The objects whose rows are updated or deleted, with the attributes that are set.
        self.overwritten: dict[State, Collection[str]] = {}
        #: A row will be locked that can't be told before.
        self.is_unsure = False
        self._session = session
        self._tables = tables
        self._book = book
        #: Deleted rows whose children are among the lookups.
        self._followed: Followed = {}
        self._children: dict[tuple[Link, Effect], list[Values]] = {}
        #: Rows to be read once they are locked, by what happens to them.
        self._rows: dict[tuple[Table, Effect, frozenset[Column[Any]]], list[Values]] = {}
        self._run()

    def _run(self) -> None:
        intent = intent_of(self._session)
        self._relations = Relations(intent)
        states: Iterable[State] = intent.saved if intent.plan is None else intent.plan.states
        self.mappers = frozenset(state.mapper for state in states)
        for state in intent.deleted:
            self._delete(state)
        for state in intent.saved:
            if state.key is not None:
                self._update(state)
            else:
                self._insert(state)
        for pair in self._relations.pairs():
            self._pair(pair)
        for (table, effect, changed), keys in self._rows.items():
            columns = key_columns(table)
            self.lookups += lookups_of(table, columns, keys, effect, self._followed, changed)
        for (link, effect), values in self._children.items():
            self.lookups += child_lookups(link, values, effect, self._followed)
        self.lookups += self.claims.owners()
        for resource in self.inserts:
            self.wants.pop(resource, None)

    # --- rows of objects

    def _insert(self, state: State) -> None:
        is_known = True
        for part in shape_of(state.mapper).parts:
            self.ranks.add(self._tables.rank(part.table))
            key = self._values(state, part.key)
            if not all_known(key):
                is_known = False
            else:
                resource = self._tables.row(part.table, key)
                if resource in self.deleted:
                    # A new object in the place of a deleted one becomes an UPDATE of its row, which
                    # keeps what the new one does not set.
                    self.writes.append(resource)
                    self.is_unsure |= bool(part.outgoing)
                else:
                    self.inserts.append(resource)
            for link, attributes in part.outgoing:
                if link not in part.to_base:
                    self._check(link, self._values(state, attributes))
            for columns, attributes in self._named(part):
                self.claims.claim(part.table, columns, self._values(state, attributes))
        if not is_known:
            self.new_objects.append(state.obj())

    def _update(self, state: State) -> None:
        copied = self._relations.copied.get(state)
        if not copied and not state.committed_state:
            return
        shape = shape_of(state.mapper)
        changed = self._changed(state, shape, copied)
        if not changed:
            return
        self.overwritten[state] = changed
        for part in shape.parts:
            here = changed & part.columns.keys()
            if not here and not part.has_version:
                continue
            key = stored(state, part.key)
            if key is None:
                self.is_unsure = True
                continue
            resource = self._tables.row(part.table, key)
            later = self._relations.written_later.get(state)
            # Two objects may stand for one row, by two mappers.
            is_rewritten = self.wants.get(resource, 0) >= Strength.NO_KEY_UPDATE or (
                later is not None and not here <= later
            )
            here |= part.following
            is_key_change = not here.isdisjoint(part.locking)
            self.want(resource, Strength.UPDATE if is_key_change else Strength.NO_KEY_UPDATE)
            self.writes.append(resource)
            if later is None:
                self.updated[resource] = state
            if is_rewritten:
                self.rewritten.add(resource)
            if is_rewritten or self._book.has_written(resource):
                self._check_row(state, part, key, here)
            else:
                for link, attributes in part.outgoing:
                    if not here.isdisjoint(attributes):
                        self._check(link, self._will_be(state, part, attributes))
            if is_key_change:
                new_key = self._values(state, part.key)
                if new_key != key and all_known(new_key):
                    self.inserts.append(self._tables.row(part.table, new_key))
                self._befall(state, part, key, here, Effect.CHANGED)
            for columns, attributes in self._named(part):
                if not here.isdisjoint(attributes):
                    self._give_up(part.table, columns, stored(state, attributes))
                    self.claims.claim(part.table, columns, self._values(state, attributes))

    def _delete(self, state: State) -> None:
        if state.key is None:
            return
        self.overwritten[state] = ()
        for part in shape_of(state.mapper).parts:
            key = stored(state, part.key)
            if key is None:
                self.is_unsure = True
                continue
            resource = self._tables.row(part.table, key)
            later = self._relations.written_later.get(state)
            if later is not None:
                self.want(resource, Strength.NO_KEY_UPDATE)
                if self._book.has_written(resource):
                    self._check_row(state, part, key, later)
            self.want(resource, Strength.UPDATE)
            self.writes.append(resource)
            self.deleted.add(resource)
            self._befall(state, part, key, (), Effect.DELETED)
            for columns, attributes in self._named(part):
                self._give_up(part.table, columns, stored(state, attributes))

    def _changed(self, state: State, shape: Shape, copied: dict[str, Any] | None) -> set[str]:
        """The columns for which the flush will send a value, as the flush itself finds them."""
        changed = changed_attributes(state)
        values = state.dict
        for attribute in copied or ():
            value = self._relations.value(state, attribute)
            before = state.committed_state.get(
                attribute, values.get(attribute, LoaderCallableStatus.NO_VALUE)
            )
            if isinstance(value, Unknown) or shape.equal[attribute](value, before) is not True:
                changed.add(attribute)
            else:
                changed.discard(attribute)
        return changed

    # --- rows of association tables

    def _pair(self, pair: Pair) -> None:
        self.associations.add(pair.table)
        values = dict(zip(pair.columns, pair.values, strict=True))
        note = self.claims.claim if pair.inserted else self.claims.name
        note(pair.table, pair.columns, pair.values)
        key_of = key_columns(pair.table)
        key = tuple(values.get(column) for column in key_of)
        resource = self._tables.row(pair.table, key) if key and all_known(key) else None
        if pair.inserted:
            self.ranks.add(self._tables.rank(pair.table))
            if resource is not None:
                self.inserts.append(resource)
            for link in links_from(pair.table):
                self._check(link, tuple(values.get(column) for column in link.columns))
        elif resource is not None:
            self.want(resource, Strength.UPDATE)
            self.writes.append(resource)
            self.deleted.add(resource)
            for link in links_to(pair.table):
                referred = tuple(values.get(column) for column in link.referred)
                self._children.setdefault((link, Effect.DELETED), []).append(referred)
        elif key_of and all_known(pair.values):
            self.lookups += lookups_of(
                pair.table, pair.columns, [pair.values], Effect.DELETED, self._followed
            )

    # --- what follows from a row's change

    def _check(self, link: Link, values: Values) -> None:
        if any(value is None or value is Unknown.NEW for value in values):
            return
        if all_known(values):
            check_parent(self._tables, link, values, self)
        else:
            self.is_unsure = True

    def _check_row(self, state: State, part: Part, key: Values, changed: Collection[str]) -> None:
        """All foreign keys of a row are checked."""
        resource = self._tables.row(part.table, key)
        is_written = resource in self._book.written or resource in self.rewritten
        may_be_stale = is_written and resource not in self._book.inserted
        for link, attributes in part.outgoing:
            values = self._will_be(state, part, attributes)
            is_set = any(one in changed for one in attributes)
            if not is_set and (may_be_stale or Unknown.UNLOADED in values):
                # It may have been read here, and then changed by another one, before the write.
                self._look_up(part, key, changed, Effect.CHANGED)
            else:
                self._check(link, values)

    def _befall(
        self, state: State, part: Part, key: Values, changed: Collection[str], effect: Effect
    ) -> None:
        """Have the children of a row looked up, or the row itself to learn what they refer to."""
        is_deleted = effect is Effect.DELETED
        children: list[tuple[Link, Values]] = []
        for link, attributes in part.incoming():
            if is_deleted or not set(attributes).isdisjoint(changed):
                old = stored(state, attributes)
                if old is None or link.key_order is None:
                    # Until the row is locked, another one may change what is not its key.
                    self._look_up(part, key, changed, effect)
                    return
                children.append((link, old))
        for link, old in children:
            self._children.setdefault((link, effect), []).append(old)
        if is_deleted:
            resource = self._tables.row(part.table, key)
            self._followed[resource, effect, frozenset()] = None

    def _look_up(self, part: Part, key: Values, changed: Iterable[str], effect: Effect) -> None:
        which = frozenset(part.columns[attribute] for attribute in changed)
        self._rows.setdefault((part.table, effect, which), []).append(key)

    def _named(self, part: Part) -> list[tuple[Columns, Attributes]]:
        if not self.claims.is_on:
            return []
        key = [] if part.to_base else [(key_columns(part.table), part.key)]
        return [*key, *part.unique]

    def _give_up(self, table: Table, columns: Columns, values: Values | None) -> None:
        if values is not None:
            self.claims.name(table, columns, values)

    def _will_be(self, state: State, part: Part, attributes: Attributes) -> Values:
        """What an UPDATE leaves there."""
        values = self._values(state, attributes)
        if part.following.isdisjoint(attributes):
            return values
        follows = part.following - state.committed_state.keys()
        computed = (Unknown.COMPUTED if one in follows else None for one in attributes)
        return tuple(how or value for how, value in zip(computed, values, strict=True))

    def _values(self, state: State, attributes: Attributes) -> Values:
        return tuple(
            Unknown.UNLOADED if one is None else self._relations.value(state, one)
            for one in attributes
        )


def changed_attributes(state: State) -> set[str]:
    """The attributes of columns that were set to something else."""
    changed = set()
    equals = shape_of(state.mapper).equal
    for attribute, before in state.committed_state.items():
        equal = equals.get(attribute)
        if equal is None:
            continue
        value = state.dict.get(attribute)
        if is_expression(value) or equal(value, before) is not True:
            changed.add(attribute)
    return changed


def stored(state: State, attributes: Attributes) -> Values | None:
    """What a row has in these columns now; None if not all of it is known here."""
    identity = shape_of(state.mapper).identity
    values = []
    for attribute in attributes:
        if attribute is None:
            return None
        value = state.committed_state.get(
            attribute, state.dict.get(attribute, LoaderCallableStatus.NO_VALUE)
        )
        if value is LoaderCallableStatus.NO_VALUE:
            place = identity.get(attribute)
            if place is None or state.key is None:
                return None
            value = state.key[1][place]
        values.append(value)
    return tuple(values)

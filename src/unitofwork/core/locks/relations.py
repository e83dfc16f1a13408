"""What a flush will write for relationships: foreign keys, and rows of association tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Table
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    PassiveFlag,
    RelationshipDirection,
    RelationshipProperty,
)
from sqlalchemy.orm.attributes import History

from .intent import Intent
from .schema import Columns
from .shapes import shape_of
from .values import Unknown, default_of, is_expression

State = InstanceState[Any]


class Pair(NamedTuple):
    """A row of an association table, by its values in the order of `columns`."""

    table: Table
    columns: Columns
    values: tuple[Any, ...]
    inserted: bool


class Relations:
    """The writes that relationships add to a flush."""

    def __init__(self, intent: Intent) -> None:
        #: Attribute by attribute from where a flush will copy its value; None: it becomes NULL.
        self.copied: dict[State, dict[str, tuple[State, str] | None]] = {}
        #: Columns that a flush writes by an UPDATE of their own, after the row's INSERT or UPDATE.
        self.written_later: dict[State, set[str]] = {}
        self._pairs: dict[object, tuple[RelationshipProperty[Any], State, State, bool]] = {}
        self._moved: dict[RelationshipProperty[Any], set[State]] = {}
        self._rekeyed = any(_has_new_key(state) for state in intent.saved)
        if intent.plan is not None:
            self._plan = intent.plan
            self._run(intent)

    def value(self, state: State, attribute: str) -> Any:
        """What the flush will write for a column of an object, or why that isn't known."""
        copied = False
        for _ in range(100):  # keys that are made of each other in a circle have no value
            source = self.copied.get(state, _NOTHING).get(attribute, _NOWHERE)
            if source is _NOWHERE:
                break
            if source is None:
                return self._nothing(state, attribute)
            (state, attribute), copied = source, True
        value = state.dict.get(attribute)
        if copied and state.key is None and (value is None or is_expression(value)):
            return Unknown.NEW
        if is_expression(value):
            return Unknown.COMPUTED
        if value is not None:
            return value
        if attribute in state.dict or state.key is None:
            return self._nothing(state, attribute)
        place = shape_of(state.mapper).identity.get(attribute)
        if place is not None:
            return state.key[1][place]
        if copied:  # the flush will load it, too
            return state.manager[attribute].impl.get(state, state.dict, PassiveFlag.PASSIVE_OFF)
        return Unknown.UNLOADED

    def _nothing(self, state: State, attribute: str) -> Any:
        # An INSERT leaves a column out that is None: it gets its default.
        is_new = state.key is None
        return default_of(shape_of(state.mapper).column(attribute)) if is_new else None

    def pairs(self) -> list[Pair]:
        """The rows of association tables that are inserted and deleted."""
        found = []
        for prop, state, child, inserted in self._pairs.values():
            values = self._ends(prop, state, child, inserted)
            table = prop.secondary
            assert isinstance(table, Table)
            found.append(Pair(table, tuple(values), tuple(values.values()), inserted))
        return found

    # --- one relationship of one object

    def _run(self, intent: Intent) -> None:
        for state in intent.saved:
            for prop in shape_of(state.mapper).relationships:
                # One that nobody touched has no effect, loaded or not, unless keys change.
                if self._rekeyed or prop.key in state.committed_state:
                    self._saved(state, prop)
        for state in intent.deleted:
            for prop in shape_of(state.mapper).relationships:
                self._deleted(state, prop)

    def _saved(self, state: State, prop: RelationshipProperty[Any]) -> None:
        history = self._history(state, prop)
        if not history:
            return
        match prop.direction:
            case RelationshipDirection.MANYTOMANY:
                for child in history.added:
                    self._pair(prop, state, child, inserted=True)
                for child in history.deleted:
                    self._pair(prop, state, child, inserted=False)
                if self._rekeyed and not prop.passive_updates and _has_new_key(state):
                    for child in history.unchanged:
                        self._pair(prop, state, child, inserted=False)
            case RelationshipDirection.ONETOMANY:
                for child in history.added:
                    self._copy(prop, state, child)
                self._moved.setdefault(prop, set()).update(history.added)
                if not prop.cascade.delete_orphan and prop.passive_deletes != "all":
                    for child in history.deleted:
                        if not _has_parent(prop, child):
                            self._clear(prop, child)
                if self._rekeyed and _has_new_key(state):
                    for child in history.unchanged:
                        self._copy(prop, state, child)
            case _:
                for parent in history.added:
                    self._copy_from(prop, state, parent)
                if not history.added and history.deleted:
                    self._clear(prop, state)
                if self._rekeyed:
                    for parent in history.unchanged:
                        if parent is not None and _has_new_key(parent):
                            self._copy_from(prop, state, parent)

    def _deleted(self, state: State, prop: RelationshipProperty[Any]) -> None:
        if prop.direction is RelationshipDirection.MANYTOONE:
            # Whether it is written depends on what is loaded later on: take it that it is.
            if (
                prop.post_update
                and not prop.cascade.delete_orphan
                and prop.passive_deletes != "all"
            ):
                self._clear(prop, state)
            return
        # As far as SQLAlchemy has loaded it by now: the rest is left to the database.
        history = self._history(state, prop)
        if not history:
            return
        match prop.direction:
            case RelationshipDirection.MANYTOMANY:
                for child in history.non_added():
                    self._pair(prop, state, child, inserted=False)
            case RelationshipDirection.ONETOMANY if (
                prop.post_update or prop.passive_deletes != "all"
            ):
                for child in history.deleted:
                    if child is not None and not _has_parent(prop, child):
                        self._clear(prop, child)
                if prop.post_update or not prop.cascade.delete:
                    for child in set(history.unchanged) - self._moved.get(prop, set()):
                        self._clear(prop, child)
            case _:
                pass

    def _history(self, state: State, prop: RelationshipProperty[Any]) -> History:
        # The plan keeps what its first pass has loaded.
        history: History = self._plan.get_attribute_history(state, prop.key)  # type: ignore[no-untyped-call]
        return history

    def _copy(self, prop: RelationshipProperty[Any], parent: State, child: State | None) -> None:
        if child is not None:
            self._set(prop, child, prop.mapper, parent, prop.parent)

    def _copy_from(
        self, prop: RelationshipProperty[Any], child: State, parent: State | None
    ) -> None:
        if parent is None:
            self._clear(prop, child)
        elif self._plan.session._contains_state(parent):
            self._set(prop, child, prop.parent, parent, prop.mapper)

    def _set(
        self,
        prop: RelationshipProperty[Any],
        child: State,
        child_mapper: Mapper[Any],
        parent: State,
        parent_mapper: Mapper[Any],
    ) -> None:
        for of_parent, of_child in prop.synchronize_pairs:
            source = parent_mapper.get_property_by_column(of_parent).key
            target = child_mapper.get_property_by_column(of_child).key
            self.copied.setdefault(child, {})[target] = (parent, source)
            if prop.post_update:
                self.written_later.setdefault(child, set()).add(target)

    def _clear(self, prop: RelationshipProperty[Any], child: State | None) -> None:
        if child is None:
            return
        is_own = prop.direction is RelationshipDirection.MANYTOONE
        mapper = prop.parent if is_own else prop.mapper
        for _, of_child in prop.synchronize_pairs:
            target = mapper.get_property_by_column(of_child).key
            # Where another parent takes the child over, that is what will be written.
            self.copied.setdefault(child, {}).setdefault(target, None)
            if prop.post_update:
                self.written_later.setdefault(child, set()).add(target)

    def _pair(
        self, prop: RelationshipProperty[Any], state: State, child: State | None, inserted: bool
    ) -> None:
        if child is None or not self._plan.session._contains_state(child):
            return
        # The relationship of the other side knows of the same row.
        ends = {(column, state) for _, column in prop.synchronize_pairs}
        ends |= {(column, child) for _, column in prop.secondary_synchronize_pairs or ()}
        self._pairs.setdefault((frozenset(ends), inserted), (prop, state, child, inserted))

    def _ends(
        self, prop: RelationshipProperty[Any], state: State, child: State, inserted: bool
    ) -> dict[Any, Any]:
        sides: Iterable[tuple[State, Mapper[Any], Any]] = (
            (state, prop.parent, prop.synchronize_pairs),
            (child, prop.mapper, prop.secondary_synchronize_pairs),
        )
        values = {}
        for one, mapper, pairs in sides:
            for of_end, column in pairs:
                attribute = mapper.get_property_by_column(of_end).key
                old = not inserted and one.key is not None
                place = shape_of(one.mapper).identity.get(attribute) if old else None
                if place is not None and one.key is not None:
                    values[column] = one.key[1][place]
                else:
                    value = self.value(one, attribute)
                    values[column] = Unknown.NEW if value is Unknown.COMPUTED else value
        return values


def _has_new_key(state: State) -> bool:
    return state.key is not None and not shape_of(state.mapper).locking.isdisjoint(
        state.committed_state
    )


def _has_parent(prop: RelationshipProperty[Any], child: State) -> bool:
    found: bool = prop.parent.class_manager.get_impl(prop.key).hasparent(child)
    return found


_NOTHING: dict[str, tuple[State, str] | None] = {}
_NOWHERE: Any = object()

"""Rows that a flush will lock and that only a query can find: cascades, unusual foreign keys."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Column, ColumnElement, Exists, Select, Table, select, tuple_
from sqlalchemy.engine import Row

from ...errors import ConfigurationError
from ...policies.locks.book import Strength, stronger
from ...policies.locks.order import Resource
from ...sql.key_types import has_other_spellings
from .keys import to_child, to_parent
from .schema import Columns, Link, links_from, links_to, locking_columns, server_default
from .tables import Tables, key_columns
from .values import all_known

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: Values per query; each is a parameter or more.
CHUNK = 1_000


class Effect(enum.Enum):
    """What happens to the rows that are looked up."""

    #: A foreign key is checked against them.
    REFERRED = enum.auto()
    #: They may have a unique value that another row is to get: its owner refuses that only when it
    #: is not being written.
    OWNING = enum.auto()
    CHANGED = enum.auto()
    DELETED = enum.auto()


#: Nothing follows from it.
_ONLY_LOCKED = (Effect.REFERRED, Effect.OWNING)


@dataclass(slots=True)
class Found:
    """What the answers to lookups mean."""

    #: Rows known by their primary key.
    wants: dict[Resource, Strength] = field(default_factory=dict)
    #: Rows that only a query can find: parents by a unique column, children of a cascade.
    lookups: list[Lookup] = field(default_factory=list)
    #: Rows updated or deleted.
    writes: list[Resource] = field(default_factory=list)
    #: Rows that are locked twice, the one time stronger than the other.
    upgraded: set[Resource] = field(default_factory=set)
    #: Rows that get two UPDATEs.
    rewritten: set[Resource] = field(default_factory=set)
    #: Parents that nothing may lock before COMMIT, unless a lock query does.
    deferred: set[Resource] = field(default_factory=set)
    #: What was asked for and not there. It may have come when the statement does.
    absent: dict[Resource, Strength] = field(default_factory=dict)

    def want(self, resource: Resource, strength: Strength) -> None:
        """Add a lock."""
        before = self.wants.setdefault(resource, strength)
        if before is not strength:
            self.upgraded.add(resource)
            self.wants[resource] = max(before, strength)

    def rename(self, tables: Tables, table: Table, key: tuple[Any, ...]) -> None:
        """Note the key that a row is to get: by that it is known as written from now on."""
        if all_known(key):
            with contextlib.suppress(ConfigurationError):  # what it means is the database's to say
                self.writes.append(tables.row(table, key))

    def add(self, more: Found) -> None:
        """Add what else was found."""
        stronger(self.wants, more.wants)
        self.lookups += more.lookups
        self.writes += more.writes
        self.deferred |= more.deferred


#: By which lookup the consequences of a row's end, or of a change of these columns, are followed
#: up, each once.
Followed: TypeAlias = "dict[tuple[Resource, Effect, frozenset[Column[Any]]], Lookup | None]"

Values: TypeAlias = "Mapping[Column[Any], Any]"
#: What each row gets, by one UPDATE after the other.
Updates: TypeAlias = "Mapping[Resource, Sequence[Values]]"
#: Values of some columns, and what they will be.
Becomes: TypeAlias = "Mapping[tuple[Any, ...], tuple[Any, ...]]"


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """The rows of `table` whose `columns` have one of `values`.

    Give the answer of `statement()` to `found()`: it says what to lock, and what to look up next.
    """

    table: Table
    columns: Columns
    values: tuple[tuple[Any, ...], ...]
    effect: Effect
    followed: Followed
    #: Which columns change, where the effect is CHANGED.
    changed: frozenset[Column[Any]] = frozenset()
    #: They get the defaults of the schema.
    to_default: bool = False
    #: Where `changed` alone does not tell which foreign keys are checked, and with which values.
    updates: Updates | None = None
    #: By what `columns` are, what ON UPDATE CASCADE makes of them.
    becomes: Becomes | None = None

    @property
    def strength(self) -> Strength:
        """The lock that the flush takes on them."""
        match self.effect:
            case Effect.REFERRED:
                return Strength.KEY_SHARE
            case Effect.OWNING:
                return Strength.SHARE
            case Effect.CHANGED if self.changed.isdisjoint(locking_columns(self.table)):
                return Strength.NO_KEY_UPDATE
            case _:
                return Strength.UPDATE

    def statement(self) -> Select[Any]:
        """The query for them."""
        return select(*self.selected()).where(self._condition())

    def exists(self) -> Exists:
        """Whether there are any."""
        return select(self.table).where(self._condition()).exists()

    def _condition(self) -> ColumnElement[bool]:
        if len(self.columns) == 1:
            return self.columns[0].in_([value for (value,) in self.values])
        return tuple_(*self.columns).in_(self.values)

    def found(
        self, tx: CoreTransaction, rows: Iterable[Row[Any]], written: Set[Resource] = frozenset()
    ) -> Found:
        """What follows from the answer. `written`: rows that the same flush writes before."""
        tables, book = tx.unit.home.tables, tx.unit.book
        found = Found()
        key = key_columns(self.table)
        follow: list[tuple[Values, Values]] = []
        for answer in rows:
            values = dict(zip(self.selected(), answer, strict=True))
            resource = tables.row(self.table, tuple(values[column] for column in key))
            found.want(resource, self.strength)
            if self.effect in _ONLY_LOCKED:
                continue
            found.writes.append(resource)
            after = values
            if self.effect is Effect.CHANGED:
                again = resource in written or book.has_written(resource)
                for new in (self.updates or {}).get(resource) or [self._changes(values)]:
                    after = {**after, **new}
                    self._check_parents(tables, after, None if again else new, found)
                    again = True
                if not self.changed.isdisjoint(key):
                    found.rename(tables, self.table, _pick(after, key))
            if self.followed.setdefault((resource, self.effect, self.changed), self) is self:
                follow.append((values, after))
        for link in links_to(self.table):
            if self.effect is Effect.DELETED or not self.changed.isdisjoint(link.referred):
                referred = {
                    _pick(old, link.referred): _pick(new, link.referred) for old, new in follow
                }
                found.lookups += child_lookups(
                    link, referred, self.effect, self.followed, becomes=referred
                )
        return found

    def _changes(self, values: Values) -> Values:
        """What a row gets; None also where whoever sets it has looked after that."""
        new = {one: server_default(one) if self.to_default else None for one in self.changed}
        become = self.becomes.get(_pick(values, self.columns)) if self.becomes else None
        return new if become is None else new | dict(zip(self.columns, become, strict=True))

    def _check_parents(
        self, tables: Tables, values: Values, new: Values | None, found: Found
    ) -> None:
        """Add what a row refers to by what is `new`; None: by all foreign keys."""
        for link in links_from(self.table):
            if self.becomes and link.columns == self.columns:
                continue  # it follows a row that is written itself
            referred = _pick(values, link.columns)
            is_checked = new is None or not new.keys().isdisjoint(link.columns)
            if is_checked and all_known(referred):
                check_parent(tables, link, referred, found)

    def selected(self) -> list[Column[Any]]:
        """The columns of the answer."""
        columns = dict.fromkeys(key_columns(self.table))
        if self.effect not in _ONLY_LOCKED:
            for link in links_to(self.table):
                columns.update(dict.fromkeys(link.referred))
            for link in links_from(self.table):
                columns.update(dict.fromkeys(link.columns))
        return list(columns)


def child_lookups(
    link: Link,
    values: Iterable[tuple[Any, ...]],
    effect: Effect,
    followed: Followed,
    becomes: Becomes | None = None,
) -> Iterator[Lookup]:
    """The children of rows that had these values, and are deleted or have others from now on.

    `becomes`: from which to which, as far as that is known.
    """
    is_deleted = effect is Effect.DELETED
    changed: Columns = ()
    action = link.on_delete if is_deleted else link.on_update
    match action:
        case "CASCADE" if is_deleted:
            pass
        case "CASCADE" | "SET NULL" | "SET DEFAULT":
            effect, changed = Effect.CHANGED, link.given_up if is_deleted else link.columns
        case _:
            # The check locks children that another transaction is about to delete.
            effect = Effect.REFERRED
    values = [to_child(link, each) for each in values]
    to_default = action == "SET DEFAULT"
    found = lookups_of(link.child, link.columns, values, effect, followed, changed, to_default)
    if not becomes or action != "CASCADE" or is_deleted:
        return found
    known = {old: new for old, new in becomes.items() if all_known(old) and all_known(new)}
    follows = {to_child(link, old): to_child(link, new) for old, new in known.items()}
    return (replace(one, becomes=follows) for one in found)


def check_parent(tables: Tables, link: Link, values: tuple[Any, ...], into: Found) -> None:
    """Add the parent that the check of a foreign key locks."""
    if any(value is None for value in values):
        return
    values = to_parent(link, values)
    if link.key_order is None or has_other_spellings(link.parent):
        into.lookups += lookups_of(link.parent, link.referred, [values], Effect.REFERRED, {})
    else:
        parent = tables.row(link.parent, link.parent_key(values))
        into.want(parent, Strength.KEY_SHARE)
        if link.deferred:
            into.deferred.add(parent)


def _pick(values: Values, columns: Columns) -> tuple[Any, ...]:
    return tuple(values[column] for column in columns)


def lookups_of(
    table: Table,
    columns: Columns,
    values: Iterable[tuple[Any, ...]],
    effect: Effect,
    followed: Followed,
    changed: Iterable[Column[Any]] = (),
    to_default: bool = False,
    updates: Updates | None = None,
) -> Iterator[Lookup]:
    """Lookups for so many values, without those that are partly NULL."""
    if not key_columns(table):  # no lock query can name its rows
        return
    whole = list(
        dict.fromkeys(value for value in values if not any(part is None for part in value))
    )
    for start in range(0, len(whole), CHUNK):
        chunk = tuple(whole[start : start + CHUNK])
        yield Lookup(
            table, columns, chunk, effect, followed, frozenset(changed), to_default, updates
        )

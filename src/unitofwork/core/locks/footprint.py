"""The footprint of a flush: which rows it will lock, worked out before it sends anything."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, Table, select
from sqlalchemy.orm.attributes import instance_state

from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from .intent import State
from .lookups import Found, Lookup
from .own_order import in_own_order, inserts_in_order
from .shapes import shape_of
from .survey import Survey, stored
from .tables import key_columns

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: Of one query; the servers take some more, of columns as of values.
MOST_COLUMNS = 1_000
MOST_VALUES = 10_000


@dataclass(slots=True)
class Footprint(Found):
    """What one flush will lock; `wants` until it is locked by a query."""

    #: Rows inserted under a key that is known now.
    inserts: list[Resource] = field(default_factory=list)
    #: Inserted objects whose key the flush will tell; `rows_of` names their rows then.
    new_objects: list[object] = field(default_factory=list)
    deletes: set[Resource] = field(default_factory=set)
    #: The association tables of which rows are written.
    associations: set[Table] = field(default_factory=set)
    #: The objects whose rows are updated or deleted, with the attributes that are set.
    overwritten: Mapping[State, Collection[str]] = field(default_factory=dict)
    #: With `names`: client-given keys, unique values (new and old), association pairs.
    names: dict[Resource, Strength] = field(default_factory=dict)
    #: Left alone, the flush takes what is not held yet in the global order, above what is held.
    in_own_order: bool = True
    #: It takes no lock that is not held.
    is_covered: bool = True
    #: It takes a lock that can't be told before.
    is_unsure: bool = False


def footprint(tx: CoreTransaction, *, names: bool = False) -> Footprint:
    """Work out what the flush that is about to begin will lock. Locks nothing itself.

    To be called in `before_flush`. Loads what the flush itself would load, and else leaves the
    objects as they are.
    """
    book = tx.unit.book
    survey = Survey(tx, tx.unit.home.tables, book, names)
    names_missing = book.missing(survey.claims.names)
    nothing_else = not survey.lookups and not survey.is_unsure and not names_missing
    missing = book.missing(survey.wants)
    return Footprint(
        wants=survey.wants,
        lookups=survey.lookups,
        inserts=survey.inserts,
        new_objects=survey.new_objects,
        writes=survey.writes,
        deletes=survey.deleted,
        rewritten=survey.rewritten,
        associations=survey.associations,
        overwritten=survey.overwritten,
        names=survey.claims.names,
        in_own_order=nothing_else
        and survey.deferred.isdisjoint(missing)
        and inserts_in_order(book, missing, survey.ranks)
        and in_own_order(book, missing, survey.upgraded, survey.updated, survey.mappers),
        is_covered=nothing_else and not missing,
        is_unsure=survey.is_unsure,
    )


def closure(
    tx: CoreTransaction, found: Found, ask: Callable[[Select[Any]], Iterable[Row[Any]]]
) -> Iterator[Found]:
    """Look up what `found.lookups` stand for, level by level: cascades go on.

    Hold `found.wants` before, and lock what each level wants before asking for the next one:
    while the parents are locked, nobody adds a child that was not found. `ask` runs a query.
    """
    lookups, written = found.lookups, set(found.writes)
    while lookups:
        level = Found()
        for together in _in_one_query(lookups):
            answer: Iterable[Any] = [True]
            if len(together) > 1:  # mostly there are no rows, and one query says so
                are_there: list[Any] = [lookup.exists() for lookup in together]
                (answer,) = ask(select(*are_there))
            for lookup in itertools.compress(together, answer):
                # A row that is looked up for itself is among those written anyway.
                is_itself = lookup.columns == key_columns(lookup.table)
                before = found.rewritten if is_itself else written
                more = lookup.found(tx, ask(lookup.statement()), before)
                written.update(more.writes)
                level.add(more)
        yield level
        lookups = level.lookups


def _in_one_query(lookups: Iterable[Lookup]) -> Iterator[list[Lookup]]:
    """As many at a time as a query has room for."""
    together: list[Lookup] = []
    size = 0
    for lookup in lookups:
        size += len(lookup.values) * len(lookup.columns)
        if together and (len(together) == MOST_COLUMNS or size > MOST_VALUES):
            yield together
            together, size = [], len(lookup.values) * len(lookup.columns)
        together.append(lookup)
    yield together


def rows_of(tx: CoreTransaction, objects: Iterable[object]) -> list[Resource]:
    """The rows of objects that have a key by now, one per table of their class."""
    rows = []
    for one in objects:
        state = instance_state(one)
        for part in shape_of(state.mapper).parts:
            key = stored(state, part.key)
            if key is not None:
                rows.append(tx.unit.home.tables.row(part.table, key))
    return rows

"""Whether a flush, left alone, takes its locks in the global order."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Set
from typing import Any

from sqlalchemy.orm import InstanceState, Mapper, RelationshipDirection

from ...policies.locks.book import Book, Strength, lowest
from ...policies.locks.order import Rank, Resource
from .shapes import shape_of


def in_own_order(
    book: Book,
    missing: Mapping[Resource, Strength],
    more_than_once: Set[Resource],
    updated: Mapping[Resource, InstanceState[Any]],
    mappers: frozenset[Mapper[Any]],
) -> bool:
    """Whether SQLAlchemy's own order of statements provably is that of the locks not held yet.

    `missing`: those locks. `more_than_once`: what a flush locks in several steps, which may be an
    upgrade. `updated`: of rows that one UPDATE is sent for, the object. `mappers`: of all objects
    in the flush.
    """
    if not missing:
        return True
    if not more_than_once.isdisjoint(missing):
        return False
    first = min(missing)
    if book.top is not None and lowest(first, missing[first]) <= book.top:
        return False
    return len(missing) == 1 or _are_sorted_updates(missing, updated, mappers)


def inserts_in_order(book: Book, missing: Iterable[Resource], ranks: Iterable[Rank]) -> bool:
    """Whether no table that is met anew by an INSERT stands before a row that may be held by then.

    A unit in its serial mode may keep all others out of it, and wait for that row.
    """
    new = [rank for rank in ranks if not book.is_touched(rank)]
    if not new:
        return True
    first = min(new)
    is_below = book.top is not None and first < book.top.rank
    return not is_below and all(first >= resource.rank for resource in missing)


def _are_sorted_updates(
    missing: Mapping[Resource, Strength],
    updated: Mapping[Resource, InstanceState[Any]],
    mappers: frozenset[Mapper[Any]],
) -> bool:
    """Updates of one mapper are sent in the order of its objects' keys, as Python compares them."""
    states = [(resource, updated.get(resource)) for resource in missing]
    keys = []
    mapper = None
    for resource, state in states:
        if state is None or state.key is None or missing[resource] is not Strength.NO_KEY_UPDATE:
            return False
        mapper = mapper or state.mapper
        if state.mapper is not mapper or not shape_of(mapper).sorts_by_key:
            return False
        keys.append((state.key[1], resource))
    if mapper is not None and _is_in_circle(mapper, mappers):
        return False
    try:
        keys.sort(key=lambda pair: pair[0])
    except TypeError:
        return False
    return all(one[1] < other[1] for one, other in itertools.pairwise(keys))


@functools.lru_cache(maxsize=4096)
def _is_in_circle(mapper: Mapper[Any], mappers: frozenset[Mapper[Any]]) -> bool:
    """Whether objects of `mapper` may have to wait, in a flush with `mappers`, for each other.

    Then SQLAlchemy sends them one by one, what they refer to first, and not by key.
    """
    then: dict[Mapper[Any], set[Mapper[Any]]] = {}
    for one in mappers:
        for prop in shape_of(one).relationships:
            # Rows of association tables, and updates of their own, come after all of it.
            if prop.post_update or prop.direction is RelationshipDirection.MANYTOMANY:
                continue
            own, other = prop.parent.base_mapper, prop.mapper.base_mapper
            is_first = prop.direction is RelationshipDirection.ONETOMANY
            parent, child = (own, other) if is_first else (other, own)
            then.setdefault(parent, set()).add(child)
    met: set[Mapper[Any]] = set()
    ahead = [mapper]
    while ahead:
        new = then.get(ahead.pop(), set()) - met
        met |= new
        ahead += new
    return mapper in met

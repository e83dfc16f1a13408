"""Whether a flush, left alone, takes its locks in the global order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Set
from typing import Any

from sqlalchemy.orm import InstanceState

from ...policies.locks.book import Book, Strength, lowest
from ...policies.locks.order import Resource
from .shapes import shape_of


def in_own_order(
    book: Book,
    missing: Mapping[Resource, Strength],
    more_than_once: Set[Resource],
    updated: Mapping[Resource, InstanceState[Any]],
) -> bool:
    """Whether SQLAlchemy's own order of statements provably is that of the locks not held yet.

    `missing`: those locks. `more_than_once`: what a flush locks in several steps, which may be an
    upgrade. `updated`: of rows that one UPDATE is sent for, the object.
    """
    if not missing:
        return True
    if not more_than_once.isdisjoint(missing):
        return False
    first = min(missing)
    if book.top is not None and lowest(first, missing[first]) <= book.top:
        return False
    return len(missing) == 1 or _are_sorted_updates(missing, updated)


def _are_sorted_updates(
    missing: Mapping[Resource, Strength], updated: Mapping[Resource, InstanceState[Any]]
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
    try:
        keys.sort(key=lambda pair: pair[0])
    except TypeError:
        return False
    return all(one[1] < other[1] for one, other in itertools.pairwise(keys))

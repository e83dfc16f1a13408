"""Changes that are not flushed yet, and that loading rows anew would overwrite: refused."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from ...errors import UnsavedWorkError
from .. import places

if TYPE_CHECKING:
    from ..transaction import CoreTransaction


def refuse_to_overwrite(
    tx: CoreTransaction,
    mapper: Mapper[Any],
    keys: Collection[tuple[Any, ...]] | None,
    options: Sequence[object] = (),
) -> None:
    """Raise `UnsavedWorkError` where loading anew would lose changes that are not flushed.

    `keys` None: of any row of the class. `options`: the query's own, which may load more.
    """
    if not tx.identity_map.check_modified():
        return
    changed = [inspect(one) for one in tx.dirty if tx.is_modified(one)]
    if not changed:
        return
    beside = _reached(mapper) if _load_more(options) else loaded_along(mapper)
    asked = None if keys is None else set(keys)
    pending = tuple(
        f"{state.class_.__name__} {state.identity!r}"
        for state in changed
        if any(state.mapper.isa(target) for target in beside)
        or (
            (state.mapper.isa(mapper) or mapper.isa(state.mapper))
            and (asked is None or tuple(state.identity) in asked)
        )
    )
    if pending:
        raise UnsavedWorkError(
            f"Rows to be locked at {places.caller()}, or that are loaded along with them, have "
            "changes that loading them anew would overwrite:"
            + "".join(f"\n  - {each}" for each in pending[:20]),
            "lock before you change (the lock loads the row), or call tx.flush() first.",
            pending=pending,
        )


def _load_more(options: Sequence[object]) -> bool:
    """Whether loader options have a query load other objects; there is no public way to ask."""
    return any(
        name == "lazy" and how not in _LAZY
        for option in options
        for element in getattr(option, "context", ())
        for name, how in getattr(element, "strategy", None) or ()
    )


@functools.lru_cache(maxsize=4096)
def loaded_along(mapper: Mapper[Any]) -> frozenset[Mapper[Any]]:
    """The classes whose objects a query for this one loads as well, however far away."""
    return _closure(mapper, _is_eager)


@functools.lru_cache(maxsize=4096)
def _reached(mapper: Mapper[Any]) -> frozenset[Mapper[Any]]:
    """The classes that a query's options can have it load."""
    return _closure(mapper, lambda relationship: True)


def _closure(mapper: Mapper[Any], follows: Any) -> frozenset[Mapper[Any]]:
    found: set[Mapper[Any]] = set()
    new = [mapper]
    while new:
        # A query may load sub-classes, and what these load along.
        family = new.pop().self_and_descendants
        targets = {each.mapper for one in family for each in one.relationships if follows(each)}
        new += targets - found
        found |= targets
    return frozenset(found)


def _is_eager(relationship: Any) -> bool:
    return relationship.lazy not in _LAZY


#: Loaded by access only.
_LAZY = ("select", True, "raise", "raise_on_sql", "noload", None, "write_only", "dynamic")

"""The errors for rows that were asked for by key and are not there, or not to be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Mapper

from ...errors import RowNotFoundError
from .. import places
from ..listing import listed
from .keys import Key

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: The classes, and the keys of each.
Asked = Sequence[tuple[type[Any], Mapper[Any], list[Key]]]


def not_found(tx: CoreTransaction, missing: Asked) -> RowNotFoundError:
    """The error for keys that have no row."""
    lines: dict[tuple[str, Any], str] = {}
    any_is_new = False
    for entity, mapper, keys in missing:
        new = {
            tuple(mapper.primary_key_from_instance(one))
            for one in tx.new
            if isinstance(one, entity)
        }
        any_is_new |= not new.isdisjoint(keys)
        for key in keys:
            row = entity.__name__, key if len(key) > 1 else key[0]
            lines[row] = f"{row[0]} {row[1]!r}{' (added, but not flushed)' if key in new else ''}"
    return RowNotFoundError(
        f"Unit {tx.unit.name!r} asked at {places.caller()} to lock rows that do not exist:"
        f"{listed(list(lines.values()))}",
        "call tx.flush() first, which sends what was added to the session."
        if any_is_new
        else "create them first, or look for them with a select and lock what it finds "
        "(tx.lock_where).",
        missing=tuple(lines),
    )


def skipped(entity: type[Any], key: Any) -> RowNotFoundError:
    """The error for one row that a query with SKIP LOCKED has not found: why, it does not tell."""
    return RowNotFoundError(
        f"{entity.__name__} {key!r} is locked by another transaction, or does not exist: it was "
        f"asked for with skip_locked at {places.caller()}.",
        "use lock_many() or lock_where(), whose result may be empty; tx.get() tells whether there "
        "is such a row.",
        missing=((entity.__name__, key),),
    )

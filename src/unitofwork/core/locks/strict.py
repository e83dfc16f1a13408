"""What `strict_locks` says of a statement that it refuses: why, and what to send instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Delete, Insert, Update
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.sql.dml import UpdateBase

from ...errors import UnorderedWriteError
from ...policies.statements import Effect, first_word, takes_advisory_lock
from .. import places
from .dml import target_of
from .parts import may_differ, writes_elsewhere
from .tables import translated

if TYPE_CHECKING:
    from ..unit import Unit


class _Told(NamedTuple):
    why: str
    remedy: str


def refused(unit: Unit, context: ExecutionContext, effect: Effect) -> UnorderedWriteError:
    """The error for a statement whose locks can't be put in order."""
    place = places.caller()
    statement = context.statement or ""
    short = " ".join(statement.split())[:500]
    compiled: Any = getattr(context.compiled, "statement", None)
    map_of_all = translated(context.root_connection.get_execution_options())
    if translated(context.execution_options) != map_of_all and unit.is_in_use():
        told = _IN_ANOTHER_SCHEMA
    elif isinstance(compiled, UpdateBase):
        is_given = unit.is_in_use() and unit.flushing is None
        told = _of_compiled(compiled) if is_given else _ON_THE_CONNECTION
    else:
        told = _of_text(statement, effect)
    return UnorderedWriteError(
        f"Unit {unit.name!r} has strict_locks=True, and was asked at {place} for a statement whose "
        f"row locks can't be put in order:\n  {short}\n  {told.why}",
        f"{told.remedy}{_OR_SEND_IT}",
        statement=short,
        place=place,
    )


_OR_SEND_IT = (
    " With strict_locks=False the statement may be sent, and waits for locks for a short time only."
)
_ON_THE_CONNECTION = _Told(
    "It was sent on the connection, past the session, which looks for the rows of a statement.",
    "give update(), delete() and insert() to tx.execute(); in a mapper's event, to "
    "object_session(target).execute(), or declare the rows that it writes: writes_also().",
)
_IN_ANOTHER_SCHEMA = _Told(
    "It was given a schema_translate_map of its own, so its tables are others than those whose "
    "rows the unit can lock.",
    "give the map to the connection, first thing in the unit: "
    "tx.connection(execution_options=...); or to the engine.",
)


def _of_compiled(statement: UpdateBase) -> _Told:
    """Of an update(), delete() or insert() that the session was given, and could not order."""
    why = "Its rows can't be told beforehand (docs/locks.md, 'Bulk statements'): "
    if writes_elsewhere(statement):
        return _Told(
            f"{why}a part of it writes or locks rows as well.",
            "send its parts one after the other, the locks first: tx.lock_where().",
        )
    if isinstance(statement, Insert):
        return _of_insert(statement, why)
    if isinstance(statement, Update | Delete) and target_of(statement) is None:
        return _Told(
            f"{why}the table has no primary key.",
            "give it one; or let a row of another table, or a name, stand for its rows: "
            "tx.lock(), tx.lock_name().",
        )
    differs = isinstance(statement, Update | Delete) and may_differ(statement.whereclause)
    return _Told(
        f"{why}its WHERE may find others the next time (random(), TABLESAMPLE)."
        if differs
        else f"{why}its WHERE, with these parameters, or its SET is nothing that a query can read.",
        "read the keys first, lock them by tx.lock_many(), and name them in WHERE: "
        "update(Account).where(Account.id.in_(keys)).",
    )


def _of_insert(statement: Insert, why: str) -> _Told:
    if statement.select is not None:
        return _Told(
            f"{why}the server makes them of a query.",
            "read them first, and insert them as values: tx.execute(insert(Account), rows).",
        )
    if statement._post_values_clause is not None:
        return _Told(
            f"{why}what they may conflict with is an expression, or nothing that the model has.",
            "name the columns of a unique constraint of the model as the conflict target; or lock "
            "the rows that are there by tx.lock_where(), and insert the others.",
        )
    return _Told(
        f"{why}the server computes a key, or a foreign key, of them; or it was sent by a legacy "
        "bulk method.",
        "read the value first, and give plain ones: tx.execute(insert(Account), rows).",
    )


def _of_text(statement: str, effect: Effect) -> _Told:
    """Of what the library has only the text of, or no more than that it locks."""
    word = first_word(statement)
    if takes_advisory_lock(statement):
        return _Told(
            "An advisory lock has no place in the global order.",
            "take a name: tx.lock_name(), whose keys are others than those of your own calls.",
        )
    if word == "lock" or word in _WHOLE_TABLES:
        return _Told(
            "It locks tables as a whole, which have no place in the order of rows.",
            "let it be the first statement of a unit of its own that has no strict_locks"
            + ("; delete(Account) goes row by row." if word == "truncate" else "."),
        )
    if effect is Effect.LOCK:
        return _Told(
            "It locks rows in the order in which the server comes upon them.",
            "lock with tx.lock(), tx.lock_many() or tx.lock_where(), which take the rows in order.",
        )
    return _Told(
        "Its text does not tell which rows.",
        "change objects, or give update(), delete() and insert() to tx.execute(), so that their "
        "rows can be told.",
    )


_WHOLE_TABLES = frozenset(
    {"truncate", "create", "alter", "drop", "reindex", "cluster", "vacuum", "refresh", "grant"}
    | {"revoke", "comment"}
)

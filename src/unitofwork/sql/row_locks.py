"""PostgreSQL's lock queries: rows of any tables, and names, locked in exactly the order asked."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    CTE,
    Column,
    ColumnElement,
    Integer,
    Interval,
    Numeric,
    Select,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    extract,
    func,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.sql.selectable import FromClause, TableValuedAlias
from sqlalchemy.types import TypeEngine

from ..policies.locks.book import Strength
from .key_types import key_columns, types_sent
from .transaction_ids import known_as


class Wait(enum.Enum):
    """What to do about a row that somebody else has locked."""

    BLOCK = "block"
    NOWAIT = "nowait"
    SKIP = "skip locked"


class Step(NamedTuple):
    """Rows of one table, or names (`table` None), to be locked at one strength."""

    table: Table | None
    strength: Strength
    #: So many parameters stand for the keys, NULL where there are fewer; 0: an array stands for
    #: any number of them.
    places: int = 0


def step_for(table: Table | None, strength: Strength, keys: int) -> Step:
    """The step for so many keys.

    Few keys are parameters of their own, 1, 2, 4, ... of them: of an array parameter the server
    does not know the length, takes it for ten, and so plans the query anew each time that there
    are fewer, which takes it longer than to run it (benchmarks/NOTES.md).
    """
    return Step(table, strength, 0 if keys > FEW else 1 << max(0, keys - 1).bit_length())


#: For `Select.with_for_update`.
FOR = {
    Strength.KEY_SHARE: {"read": True, "key_share": True},
    Strength.SHARE: {"read": True},
    Strength.NO_KEY_UPDATE: {"key_share": True},
    Strength.UPDATE: {},
}

#: Each number of parameters is a statement of its own; array_position() looks through all of them
#: for each row.
FEW = 32

#: Seconds; a request that must not wait gets them, because `FOR KEY SHARE NOWAIT` can wait for
#: another transaction in heap_lock_updated_tuple_rec, and NOWAIT says nothing of table locks.
GUARD = 0.005


@dataclass(frozen=True, slots=True)
class Limits:
    """The lock_timeout of one lock query, in seconds; None: leave it to the server.

    `during`: while it waits; None: as it is. `after`: for what follows in the transaction;
    None: four fifths of the server's deadlock_timeout, so that it comes before the detector.
    `session`: the value that the session had at first, as the server wrote it.
    """

    during: float | None = None
    after: float | None = None
    session: str | None = None

    def parameters(self) -> dict[str, Any]:
        """For the statements of this module."""
        during = None if self.during is None else f"{max(1, round(self.during * 1000))}ms"
        after = None if self.after is None else max(1, round(self.after * 1000))
        return {"during": during or self.session, "after": after, "session": self.session}


class Answer(NamedTuple):
    """What a lock query has found out."""

    #: For each step the places, from 0, of the keys that are locked now.
    locked: list[list[int]]
    transaction_id: str
    #: lock_timeout as it was before.
    lock_timeout: str


def answer(rows: Iterable[Any], steps: int) -> Answer:
    """Read the result of `lock_statement`."""
    locked: list[list[int]] = [[] for _ in range(steps)]
    notes = {}
    for step, place, note in rows:
        if step < 0:
            notes[step] = note
        elif note != _REFUSED:
            locked[step].append(place - 1)
    return Answer(locked, notes[_XID], notes[_WAS])


_XID, _WAS, _LIMIT = -1, -2, -3
#: The answer of pg_try_advisory_xact_lock, as text.
_REFUSED = "false"
_SPACE: ColumnElement[Any] = literal_column("' '", Text)
_ZERO: ColumnElement[Any] = literal_column("0")
_LOCK_TIMEOUT: ColumnElement[Any] = literal_column("'lock_timeout'")


@functools.lru_cache(maxsize=512)
def lock_statement(steps: tuple[Step, ...], wait: Wait) -> Select[Any]:
    """One statement that takes all steps, one after the other, each in the order of its keys.

    The order is forced by data flow: each step joins the count of all rows of the steps before
    it, and a locking clause works above its ORDER BY. `rows_parameters` gives the keys.
    """
    head = _head()
    done = [select(func.count(head.c.now)).select_from(head).scalar_subquery()]
    parts: list[Select[Any]] = []
    for number, step in enumerate(steps):
        locked = _step(number, step, wait, _sum(done))
        parts.append(select(literal_column(str(number)), locked.c.place, locked.c.note))
        done.append(select(func.count()).select_from(locked).scalar_subquery())
    last = select(
        literal_column(str(_XID)).label("step"),
        _ZERO.label("place"),
        known_as(func.pg_current_xact_id()).label("note"),
    ).where(_sum(done) >= _ZERO)
    was = select(literal_column(str(_WAS)), _ZERO, head.c.was)
    limit = select(literal_column(str(_LIMIT)), _ZERO, _limit(head.c.was))
    everything = union_all(last, was, limit.where(_sum(done) >= _ZERO), *parts).subquery()
    return select(everything)


def rows_parameters(number: int, step: Step, keys: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """The keys of step `number`, by column; names have one, of 64-bit numbers."""
    width = 1 if step.table is None else len(key_columns(step.table))
    if not step.places:
        return {f"k{number}_{column}": [key[column] for key in keys] for column in range(width)}
    padded = [*keys, *[(None,) * width] * (step.places - len(keys))]
    return {
        f"k{number}_{column}_{place}": value
        for place, key in enumerate(padded)
        for column, value in enumerate(key)
    }


class Load(NamedTuple):
    """The parts of a statement that locks rows of one table and returns them."""

    #: The rows with all their columns, and `uow_place`: the place of the key, from 1.
    locked: CTE
    #: One row, there when all of them are locked; they are to be joined to it, if there are any.
    done: CTE
    #: Columns to select beside: the place and, in the first row, a note for `read_note`.
    facts: list[ColumnElement[Any]]


def load_statement(step: Step, wait: Wait, *, limited: bool) -> Load:
    """Lock rows of one table in the order of the keys of step 0, and load them.

    `limited`: by a lock_timeout of their own, `Limits.during`; else by the present one, which
    takes the server less time than to set it.
    """
    table = step.table
    assert table is not None
    head = _head()
    row = table.alias("uow_row")
    if step.places and len(key_columns(table)) == 1:
        # Without a join: that counts where the server has waited, and looks at each row again.
        (array,), (kind,), (column,) = _arrays(0, step), types_sent(table), key_columns(table)
        key = row.c[column.key]
        place: ColumnElement[Any] = func.array_position(array, cast(key, kind)).label("uow_place")
        rows = select(*row.c, place).where(key == any_(array))
    else:
        keys = _keys(0, step)
        place = keys.c.place.label("uow_place")
        rows = select(*row.c, place).select_from(keys.join(row, _same_key(0, step, row, keys)))
    rows = rows.order_by(place).with_for_update(**_for(step.strength, wait), of=row)
    was: ColumnElement[Any] = func.current_setting(_LOCK_TIMEOUT)
    if limited:
        gate = select(func.count(head.c.now)).select_from(head).scalar_subquery()
        rows = rows.where(gate >= _ZERO)
        was = select(head.c.was).scalar_subquery()
    locked = rows.cte("uow_locked").prefix_with("MATERIALIZED")
    done = (
        select(func.min(locked.c.uow_place).label("first"), was.label("was"))
        .select_from(locked)
        .cte("uow_done")
        .prefix_with("MATERIALIZED")
    )
    # Also where there is no row: what the query has set for itself must be taken back.
    is_first = or_(locked.c.uow_place == done.c.first, done.c.first.is_(None))
    parts = [known_as(func.pg_current_xact_id()), done.c.was, _limit(done.c.was)]
    note = functools.reduce(lambda one, two: one.concat(_SPACE).concat(two), parts)
    return Load(locked, done, [locked.c.uow_place, case((is_first, note), else_=null())])


def read_note(note: str) -> tuple[str, str]:
    """The transaction's id, and lock_timeout as it was before."""
    transaction_id, was, _ = note.split(" ")
    return transaction_id, was


@functools.cache
def limit_statement() -> Select[Any]:
    """Sets lock_timeout for the rest of the transaction, to `Limits.after`; tells what it was."""
    was = select(func.current_setting(_LOCK_TIMEOUT).label("was")).offset(_ZERO).subquery("w")
    return select(was.c.was, _limit(was.c.was))


@functools.lru_cache(maxsize=512)
def find_statement(table: Table) -> Select[Any]:
    """The places of keys, and the keys as they are stored; locks nothing."""
    step = Step(table, Strength.KEY_SHARE)
    keys = _keys(0, step)
    row = table.alias("uow_row")
    return (
        select(keys.c.place, *(row.c[column.key] for column in key_columns(table)))
        .select_from(keys.join(row, _same_key(0, step, row, keys)))
        .order_by(keys.c.place)
    )


def among_keys(table: Table, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    """That a key, in `columns`, is one of those in the arrays of step 0."""
    step = Step(table, Strength.KEY_SHARE)
    if len(columns) == 1:
        return columns[0] == any_(_arrays(0, step)[0])
    keys = _keys(0, step)
    return tuple_(*columns).in_(select(*(keys.c[f"c{n}"] for n in range(len(columns)))))


@functools.cache
def _head() -> CTE:
    was = select(func.current_setting(_LOCK_TIMEOUT).label("was")).offset(_ZERO).subquery("w")
    during = func.coalesce(cast(bindparam("during", type_=Text), Text), was.c.was)
    now = func.set_config(_LOCK_TIMEOUT, during, literal_column("true"))
    return select(was.c.was, now.label("now")).cte("uow_head").prefix_with("MATERIALIZED")


def _limit(was: ColumnElement[Any]) -> ColumnElement[Any]:
    """Sets what holds for the rest of the transaction, never above what the session had."""
    before = func.coalesce(cast(bindparam("session", type_=Text), Text), was)
    detector = _milliseconds(
        func.current_setting(literal_column("'deadlock_timeout'"))
    ) * literal_column("0.8")
    after = func.coalesce(cast(bindparam("after", type_=Integer), Numeric), detector)
    limit = func.least(after, func.nullif(_milliseconds(before), _ZERO))
    return func.set_config(_LOCK_TIMEOUT, cast(cast(limit, Integer), Text), literal_column("true"))


def _milliseconds(setting: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(extract("epoch", cast(setting, Interval)), Numeric) * literal_column("1000")


def _step(number: int, step: Step, wait: Wait, gate: ColumnElement[Any]) -> CTE:
    keys = _keys(number, step)
    if step.table is None:
        take = func.pg_advisory_xact_lock if wait is Wait.BLOCK else func.pg_try_advisory_xact_lock
        got = cast(take(keys.c.c0), Text)
        names = select(keys.c.place, got.label("note")).where(gate >= _ZERO, keys.c.c0.is_not(None))
        names = names.order_by(keys.c.place)
        return names.cte(f"uow_l{number}").prefix_with("MATERIALIZED")
    row = step.table.alias(f"uow_t{number}")
    rows = (
        select(keys.c.place, cast(null(), Text).label("note"))
        .select_from(keys.join(row, _same_key(number, step, row, keys)))
        .where(gate >= _ZERO)
        .order_by(keys.c.place)
        .with_for_update(**_for(step.strength, wait), of=row)
    )
    return rows.cte(f"uow_l{number}").prefix_with("MATERIALIZED")


def _keys(number: int, step: Step) -> TableValuedAlias:
    columns = [Column(f"c{column}", kind) for column, kind in enumerate(types_sent(step.table))]
    arrays = _arrays(number, step)
    valued = func.unnest(*arrays).table_valued(*columns, with_ordinality="place")
    return valued.render_derived(name=f"uow_k{number}")


def _arrays(number: int, step: Step) -> list[ColumnElement[Any]]:
    # Else each program would pay for the import of a dialect that it may not use.
    from sqlalchemy.dialects.postgresql import array

    def value(name: str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
        return cast(bindparam(name, type_=kind), kind)

    kinds = enumerate(types_sent(step.table))
    if not step.places:
        return [value(f"k{number}_{column}", ARRAY(kind)) for column, kind in kinds]
    return [
        array(value(f"k{number}_{column}_{place}", kind) for place in range(step.places))
        for column, kind in kinds
    ]


def _same_key(
    number: int, step: Step, row: FromClause, keys: TableValuedAlias
) -> ColumnElement[bool]:
    assert step.table is not None
    columns = [row.c[column.key] for column in key_columns(step.table)]
    same = [one == keys.c[f"c{place}"] for place, one in enumerate(columns)]
    # Says nothing new, but the planner does not know how many rows unnest() gives, and would read
    # the whole of a table of a thousand rows (benchmarks/NOTES.md).
    among = [one == any_(array) for one, array in zip(columns, _arrays(number, step), strict=True)]
    return and_(*same, *among)


def _for(strength: Strength, wait: Wait) -> Mapping[str, Any]:
    return {
        **FOR[strength],
        "nowait": wait is Wait.NOWAIT,
        "skip_locked": wait is Wait.SKIP,
    }


def _sum(counts: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    total = counts[0]
    for count in counts[1:]:
        total = total + count
    return total

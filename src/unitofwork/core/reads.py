"""The rows that a unit has read: remembered when it is released, compared when it goes on."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import Column, Select, bindparam, inspect, select, tuple_
from sqlalchemy.orm import ColumnProperty, InstanceState, LoaderCallableStatus, Mapper
from sqlalchemy.orm.attributes import set_committed_value

from ..errors import StaleReadError
from ..types import StaleColumn
from . import places
from .listing import listed
from .locks.keys import keys_of_class

if TYPE_CHECKING:
    from .transaction import CoreTransaction

#: What SQLAlchemy keeps in place of a value that was overwritten before it was ever loaded.
_UNKNOWN = (LoaderCallableStatus.NO_VALUE, LoaderCallableStatus.NEVER_SET)
Recheck = Literal["raise", "refresh", "ignore"]
_CHUNK = 500


@dataclass(frozen=True, slots=True, eq=False)
class ReadRow:
    """One row as the unit knows it. Holds the object, so that its identity stays the unit's."""

    instance: Any
    mapper: Mapper[Any]
    key: tuple[Any, ...]
    #: Loaded columns by attribute; the version alone where one is mapped.
    values: Mapping[str, Any]


class Difference(NamedTuple):
    """What has changed of a row; `name`: of the attribute, None if the whole row is gone."""

    row: ReadRow
    name: str | None
    old: Any
    new: Any


def rows_read(tx: CoreTransaction) -> list[ReadRow]:
    """Every persistent row in the session with the values that were loaded of it."""
    return [row for instance in tx.identity_map.values() if (row := read_row(tx, instance))]


def read_row(tx: CoreTransaction, instance: Any) -> ReadRow | None:
    """The row of a persistent object as it was loaded, whatever was set since."""
    state: InstanceState[Any] = inspect(instance)
    if state.identity is None:
        return None
    mapper = state.mapper
    columns = list(_columns(mapper))
    version = mapper.version_id_col
    if version is not None:
        versions = [prop for prop in columns if version in prop.columns]
        columns = versions if versions and versions[0].key in state.dict else columns
    before = state.committed_state
    values = {
        prop.key: before.get(prop.key, state.dict[prop.key])
        for prop in columns
        if prop.key in state.dict
    }
    values = {key: value for key, value in values.items() if not _is_unknown(value)}
    for key, (written, stored) in tx.unit.stored_as.get(state, {}).items():
        if values.get(key) is written:
            values[key] = stored
    identity, forms = tuple(state.identity), keys_of_class(mapper)
    if not forms.is_read(identity):  # it may be spelled otherwise than it will come back
        identity = forms.read(identity)[1]
    return ReadRow(instance, mapper, identity, values)


def _is_unknown(value: Any) -> bool:
    return any(value is one for one in _UNKNOWN)  # `==` of an array is an array


def _columns(mapper: Mapper[Any]) -> Iterator[ColumnProperty[Any]]:
    return (prop for prop in mapper.column_attrs if isinstance(prop.columns[0], Column))


def learn_stored(tx: CoreTransaction, rows: Iterable[ReadRow]) -> None:
    """Note what the database made of values that the unit has written, before it commits them.

    Rounded, padded or set by a trigger, they come back as others than were sent; that is no
    change by another one.
    """
    learnt: dict[InstanceState[Any], dict[str, tuple[Any, Any]]] = defaultdict(dict)
    for row, name, written, stored in compare(tx, rows):
        if name is not None:
            learnt[inspect(row.instance)][name] = written, stored
    known = tx.unit.stored_as
    for state, values in learnt.items():
        known[state] = known.get(state, {}) | values


def compare(tx: CoreTransaction, rows: Iterable[ReadRow]) -> list[Difference]:
    """Read the rows again and say what differs."""
    groups: dict[Mapper[Any], list[ReadRow]] = defaultdict(list)
    for row in rows:
        if row.values:
            groups[row.mapper].append(row)
    found: list[Difference] = []
    for mapper in sorted(groups, key=_table_name):
        group = groups[mapper]
        for start in range(0, len(group), _CHUNK):
            found += _compare_chunk(tx, mapper, group[start : start + _CHUNK])
    return found


def _compare_chunk(
    tx: CoreTransaction, mapper: Mapper[Any], rows: Sequence[ReadRow]
) -> Iterator[Difference]:
    names = names_of(rows)
    width = len(mapper.primary_key)
    keys = [row.key if width > 1 else row.key[0] for row in rows]
    result = tx.execute(_select(mapper, names), {"keys": keys})
    now = {tuple(found[:width]): found[width:] for found in result}
    return differences(mapper, rows, names, now)


def names_of(rows: Iterable[ReadRow]) -> tuple[str, ...]:
    """The attributes that are to be read again."""
    return tuple(sorted({name for row in rows for name in row.values}))


def differences(
    mapper: Mapper[Any],
    rows: Iterable[ReadRow],
    names: Sequence[str],
    now: Mapping[tuple[Any, ...], Sequence[Any]],
) -> Iterator[Difference]:
    """What has changed; `now`: by key the values of `names`, of the rows that are still there."""
    for row in rows:
        values = now.get(row.key)
        if values is None:
            yield Difference(row, None, "present", "deleted")
            continue
        for name, new in zip(names, values, strict=True):
            column = mapper.attrs[name].columns[0]
            if name in row.values and not _same(column, row.values[name], new):
                yield Difference(row, name, row.values[name], new)


def _same(column: Column[Any], old: Any, new: Any) -> bool:
    if _holds(column.type.compare_values(old, new)):
        return True
    return _holds(old != old) and _holds(new != new)  # NaN, of float and Decimal, is unlike itself


def _holds(answer: Any) -> bool:
    # Arrays (numpy's, and so pgvector's) compare element by element.
    every = getattr(answer, "all", None)
    return bool(answer if every is None else every())


@functools.lru_cache(maxsize=256)
def _select(mapper: Mapper[Any], names: tuple[str, ...]) -> Select[Any]:
    """The rows with the keys `:keys`; built once, for it is run in each unit."""
    entity = mapper.class_
    primary = [
        getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key
    ]
    # The same column twice would be returned once only: each gets a label of its own.
    wanted = [*primary, *(getattr(entity, name) for name in names)]
    labelled = [column.label(f"c{number}") for number, column in enumerate(wanted)]
    key = primary[0] if len(primary) == 1 else tuple_(*primary)
    return select(*labelled).where(key.in_(bindparam("keys", expanding=True)))


def recheck(tx: CoreTransaction, rows: Iterable[ReadRow], how: Recheck) -> None:
    """Compare after the unit has got a new transaction; take new values over if `how` says so.

    Raises `StaleReadError`: with "refresh" only for rows that are gone, and for columns that the
    unit has changed itself meanwhile.
    """
    stale = compare(tx, rows)
    if how == "refresh":
        stale = [change for change in stale if not _taken_over(tx, change)]
    if stale:
        raise stale_read(tx, stale, how)


def _taken_over(tx: CoreTransaction, change: Difference) -> bool:
    row, name = change.row, change.name
    if name is None:
        return False
    version = row.mapper.version_id_col
    if version is not None and version in row.mapper.attrs[name].columns:
        if tx.is_modified(row.instance):
            return False
        tx.refresh(row.instance)  # the version stands for all columns
        return True
    if name in inspect(row.instance).committed_state:
        return False
    set_committed_value(row.instance, name, change.new)
    return True


def stale_read(
    tx: CoreTransaction, stale: Iterable[Difference], how: Recheck | None = None
) -> StaleReadError:
    """The error for rows that changed under the unit. `how`: of a release; None: at a flush."""
    rows = tuple(map(_told, stale))
    name, place = tx.unit.name, places.caller()
    what = (
        f"Unit {name!r} was about to overwrite, at {place}, what has changed since it had read it:"
        if how is None
        else f"What unit {name!r} had read has changed while it was released, as seen at {place}:"
    )
    return StaleReadError(f"{what}{listed(rows)}", f"{_RUN_AGAIN}{_INSTEAD[how]}", rows=rows)


_RUN_AGAIN = "have the unit run again (@transactional, uow.run and uow.attempts do that); or "
_OLD_ONES = "recheck='ignore' goes on with the old ones."
_INSTEAD: Mapping[Recheck | None, str] = {
    None: "read and lock the rows in one step, with tx.lock(), so that nobody changes them.",
    "raise": f"recheck='refresh' goes on with the new values, {_OLD_ONES}",
    "refresh": "handle it: a row that is gone has no new values to go on with, and what the unit "
    f"has changed itself would be overwritten; {_OLD_ONES}",
    "ignore": "",
}


def _told(change: Difference) -> StaleColumn:
    mapper, name = change.row.mapper, change.name
    # Of an inheritance each column has a table of its own.
    table = _table_name(mapper) if name is None else str(mapper.attrs[name].columns[0].table)
    return StaleColumn(table, change.row.key, name, change.old, change.new)


def _table_name(mapper: Mapper[Any]) -> str:
    return str(mapper.local_table)

"""`tx.lock`, `lock_many`, `lock_across`, `lock_where`: load and lock, never a stale copy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, inspect, select, true, tuple_
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper, aliased

from ...errors import ConfigurationError
from ...policies.locks.book import Strength
from ...policies.locks.order import Resource
from ...sql.key_types import has_other_spellings
from ...sql.row_locks import (
    FOR,
    Step,
    Wait,
    among_keys,
    find_statement,
    load_statement,
    rows_parameters,
)
from .acquire import (
    Parameters,
    acquire,
    can_lock,
    connection_of,
    guard,
    limit_waits,
    locking,
    take_and_load,
    with_late,
)
from .again import locks_first
from .fresh import note_read
from .how import How
from .keys import Key, keys_of_class
from .missing import Asked, not_found
from .overwriting import loaded_along, refuse_to_overwrite
from .row_keys import RowKey, refuse_unknown_rows, row_keys, rows_in
from .tables import tables_of, translated

if TYPE_CHECKING:
    from ..transaction import CoreTransaction

#: Keys in one query where they can't be sent as an array.
_CHUNK = 500


def lock_rows(
    tx: CoreTransaction, wanted: Mapping[type[Any], Iterable[Any]], how: How
) -> dict[type[Any], list[Any]]:
    """Load and lock rows of some classes; the objects in the order of the keys given.

    With `skip_locked` the rows that others hold are left out. Raises `RowNotFoundError` for keys
    that have no row.
    """
    if not isinstance(wanted, Mapping):
        raise ConfigurationError(
            f"lock_across() was given {wanted!r}, which is no mapping.",
            "pass a dict of keys by class: tx.lock_across({Account: [1, 2], Order: [9]}).",
        )
    asked = [(one, mapper_of(one), _keys_given(one, keys)) for one, keys in wanted.items()]
    asked = [
        (entity, mapper, [key_of(mapper, key) for key in keys]) for entity, mapper, keys in asked
    ]
    for _, mapper, keys in asked:
        refuse_to_overwrite(tx, mapper, keys)
    if locks_first(tx.unit) and any(keys for _, _, keys in asked):
        # The first statement does it: plans are made after it.
        connection_of(tx)
    given = asked
    asked = [(entity, mapper, _as_stored(tx, mapper, keys)) for entity, mapper, keys in asked]
    for (_, mapper, keys), (_, _, spelt) in zip(asked, given, strict=True):
        if keys is not spelt:
            refuse_to_overwrite(tx, mapper, keys)
    found = _take(tx, asked, how)
    missing = _missing(asked, found)
    if missing and how.wait is Wait.BLOCK and tx.unit.home.rules.locks_rows:
        # One transaction may have deleted and inserted them again: who has waited for the old row
        # does not see the new one.
        for entity, objects in _take(tx, missing, how).items():
            found[entity] |= objects
        missing = _missing(missing, found)
    note_read(tx, (instance for objects in found.values() for instance in objects.values()))
    if missing and how.wait is not Wait.SKIP:
        raise not_found(tx, missing)
    return {
        entity: [found[entity][key] for key in keys if key in found[entity]]
        for entity, _, keys in asked
    }


def _keys_given(entity: type[Any], keys: Iterable[Any]) -> list[Any]:
    # Text is iterable, but its letters are not what was meant.
    if isinstance(keys, (str, bytes, bytearray)) or not isinstance(keys, Iterable):
        raise ConfigurationError(
            f"{keys!r} is no list of keys of {getattr(entity, '__name__', entity)}.",
            "pass a list: tx.lock_many(Account, [1, 2]); one row is tx.lock(Account, 1).",
        )
    return list(keys)


def _take(tx: CoreTransaction, asked: Asked, how: How) -> dict[type[Any], dict[Key, Any]]:
    """Lock and load what is there; the objects by class and key."""
    wants = {
        resource: how.strength
        for _, mapper, keys in asked
        for resource in resources_of(tx, mapper, keys)
    }
    at_once = _in_one_query(tx, asked[0][1], wants, how) if len(asked) == 1 else None
    if at_once is Wait.NOWAIT and how.wait is Wait.BLOCK:
        late = dataclasses.replace(how, wait=at_once)
        load_late = functools.partial(_lock_and_load, tx, asked[0][1], wants, late)
        return {asked[0][0]: with_late(tx.unit, wants, load_late)}
    if at_once is not None:
        return {asked[0][0]: _lock_and_load(tx, asked[0][1], wants, how)}
    acquire(tx, wants, wait=how.wait, timeout=how.timeout)
    return {
        entity: {
            tuple(inspect(one).identity): one
            for one in _load(tx, mapper, select(entity), _locked(tx, mapper, keys, how))
        }
        for entity, mapper, keys in asked
    }


def lock_where(tx: CoreTransaction, statement: Select[Any], how: How) -> list[Any]:
    """Load and lock the rows that a `select` of one mapped class finds, in its order.

    Rows that stop matching while they are waited for are left out; rows that begin to match
    meanwhile too.
    """
    entity = _only_entity(statement)
    mapper = mapper_of(entity)
    options = statement._with_options
    if translated(statement.get_execution_options()) and tx.unit.home.rules.locks_rows:
        raise ConfigurationError(
            "lock_where() was given a select with a schema_translate_map, which the lock query "
            "would not follow.",
            "give the map to the connection, first thing in the unit: "
            "tx.connection(execution_options=...); or to the engine.",
        )
    if how.wait is not Wait.BLOCK:
        refuse_to_overwrite(tx, mapper, None, options)
        # Nothing is waited for, so any order will do, and one query with it.
        return _lock_unordered(tx, statement, mapper, how)
    if statement._distinct:
        # What it is sorted by must stay selected.
        query = select(*_primary(mapper, aliased(entity, statement.subquery())))
    else:
        query = statement.with_only_columns(*_primary(mapper))
    keys = list(dict.fromkeys(map(tuple, tx.execute(query))))
    if not keys:
        return []
    refuse_to_overwrite(tx, mapper, keys, options)
    wants = dict.fromkeys(resources_of(tx, mapper, keys), how.strength)
    acquire(tx, wants, timeout=how.timeout)
    held = _locked(tx, mapper, keys, how)
    rows = _load(tx, mapper, statement.limit(None).offset(None), held)
    note_read(tx, rows)
    return rows


def _load(
    tx: CoreTransaction, mapper: Mapper[Any], statement: Select[Any], keys: Sequence[Key]
) -> list[Any]:
    primary = _primary(mapper)
    base = row_keys(mapper)[0]
    if tx.unit.home.rules.locks_rows and base.is_whole:
        statement = statement.where(among_keys(base.table, base.of(tuple(primary))))
        parameters = rows_parameters(0, Step(base.table, _ANY), [base.of(key) for key in keys])
        return _fresh(tx, statement, parameters) if keys else []
    column = primary[0] if len(primary) == 1 else tuple_(*primary)
    rows: list[Any] = []
    for start in range(0, len(keys), _CHUNK):
        chunk = [key if len(key) > 1 else key[0] for key in keys[start : start + _CHUNK]]
        rows += _fresh(tx, statement.where(column.in_(chunk)))
    return rows


def _fresh(
    tx: CoreTransaction, statement: Select[Any], parameters: Mapping[str, Any] | None = None
) -> list[Any]:
    found = tx.execute(statement, parameters or {}, execution_options=_FRESH)
    return list(found.unique().scalars())


def mapper_of(entity: type[Any]) -> Mapper[Any]:
    """Raises `ConfigurationError` for what is not a mapped class with a primary key."""
    try:
        mapper = inspect(entity)
    except NoInspectionAvailable:
        mapper = None
    if not isinstance(mapper, Mapper):
        raise ConfigurationError(
            f"{entity!r} is not a mapped class.", "pass the class: tx.lock(Account, 1)."
        )
    if not mapper.local_table.primary_key:
        raise ConfigurationError(
            f"The table of {entity.__name__} has no primary key, so its rows have no order.",
            "lock another row that stands for them, or a name: tx.lock_name(...).",
        )
    refuse_unknown_rows(mapper)
    return mapper


_FRESH = {"populate_existing": True}


def key_of(mapper: Mapper[Any], key: Any) -> Key:
    """A key as loaded objects have it. Raises `ConfigurationError` for one that can't be."""
    forms = keys_of_class(mapper)
    values: Key = key if isinstance(key, tuple) else (key,)
    width = len(forms.forms)
    if len(values) == width and forms.is_read(values):
        return values
    if len(values) != width or any(value is None for value in values):
        raise ConfigurationError(
            f"{key!r} is no key of {mapper.class_.__name__}, whose primary key has {width} "
            f"column{'s' if width > 1 else ''}.",
            "pass the value; of a composite key a tuple, in the order of tx.get().",
        )
    _, own = forms.read(tuple(values))
    return own


def resources_of(
    tx: CoreTransaction, mapper: Mapper[Any], keys: Sequence[Key]
) -> Iterable[Resource]:
    """The rows of objects in all of their tables. Raises `ConfigurationError`."""
    found: list[Resource] = []
    for row_key in row_keys(mapper):
        found += rows_in(tx, row_key, keys).values()
    return found


def _as_stored(tx: CoreTransaction, mapper: Mapper[Any], keys: list[Key]) -> list[Key]:
    """The keys as the database spells them, where several spellings are one row."""
    if not tx.unit.home.rules.locks_rows:
        return keys
    asked_in = _spelled_in(mapper)
    keys = list(keys) if asked_in else keys
    for row_key, parts in asked_in:
        table = row_key.table
        asked = rows_parameters(0, Step(table, _ANY), [row_key.of(key) for key in keys])
        for place, *stored in tx.execute(find_statement(table), asked):
            spelled = dict(zip(parts, stored, strict=True))
            key = keys[place - 1]
            keys[place - 1] = tuple(spelled.get(at, value) for at, value in enumerate(key))
    return keys


@functools.lru_cache(maxsize=4096)
def _spelled_in(mapper: Mapper[Any]) -> list[tuple[RowKey, tuple[int, ...]]]:
    """The tables that tell how parts of a key are spelled, and which ones."""
    found = []
    left = set(range(len(mapper.primary_key)))
    for row_key in row_keys(mapper):
        places = row_key.places
        if places and not left.isdisjoint(places) and has_other_spellings(row_key.table):
            left.difference_update(places)
            found.append((row_key, places))
    return found


_ANY = Strength.KEY_SHARE


def _in_one_query(
    tx: CoreTransaction, mapper: Mapper[Any], wants: Mapping[Resource, Strength], how: How
) -> Wait | None:
    """How one statement can lock and load it all, if it can."""
    one_table = len(row_keys(mapper)) == 1 and row_keys(mapper)[0].is_whole
    if not tx.unit.home.rules.locks_rows or not one_table or not wants:
        return None
    if mapper.single:
        return None  # it would lock rows of other classes in the table, and not tell of them
    if how.wait is not Wait.BLOCK:
        return how.wait
    plan = tx.unit.book.plan(wants)
    if len(plan.in_order) == len(wants):
        return Wait.BLOCK
    return Wait.NOWAIT if len(plan.late) == len(wants) else None


def _lock_and_load(
    tx: CoreTransaction, mapper: Mapper[Any], wants: Collection[Resource], how: How
) -> dict[Key, Any]:
    def send(step: Step, limited: bool, parameters: Parameters) -> Sequence[Any]:
        statement = _load_statement(mapper, step, how.wait, limited)
        answer = tx.execute(statement, parameters, execution_options=_FRESH)
        return (answer.unique() if loaded_along(mapper) else answer).all()

    (row_key,) = row_keys(mapper)
    is_answer = how.wait is Wait.NOWAIT or how.timeout is not None
    waits = how.wait is Wait.BLOCK
    during = how.timeout if waits else guard(tx, how.wait, (how.strength,))
    table, rows = row_key.table, sorted(wants)
    found = take_and_load(tx.unit, table, how.strength, rows, send, during, is_answer)
    if len(found) < len(wants) and how.wait is not Wait.SKIP:
        # One that the application's own criteria hide is locked although it does not come.
        for resource in wants:
            if resource.key not in found:
                tx.unit.book.pass_by(resource, how.strength)
    return {row_key.back(key): instance for key, (instance,) in found.items()}


@functools.lru_cache(maxsize=512)
def _load_statement(mapper: Mapper[Any], step: Step, wait: Wait, limited: bool) -> Select[Any]:
    locked, done, facts = load_statement(step, wait, limited=limited)
    entity = aliased(mapper.class_, locked)
    rows = select(entity, *facts).select_from(done).join(entity, true(), isouter=True)
    return rows.order_by(locked.c.uow_place)


def _locked(tx: CoreTransaction, mapper: Mapper[Any], keys: Sequence[Key], how: How) -> list[Key]:
    """Those of the keys whose rows are held, or all where rows are not locked one by one."""
    keys = list(dict.fromkeys(keys))
    if not tx.unit.home.rules.locks_rows:
        return keys
    book = tx.unit.book
    parts = [rows_in(tx, row_key, keys) for row_key in row_keys(mapper)]
    return [
        key
        for key in keys
        if all(key in rows and book.covers(rows[key], how.strength) for rows in parts)
    ]


def _missing(asked: Asked, found: Mapping[type[Any], Mapping[Key, Any]]) -> Asked:
    """What has not been found of what was asked for."""
    gone = [
        (entity, mapper, [key for key in keys if key not in found[entity]])
        for entity, mapper, keys in asked
    ]
    return [each for each in gone if each[2]]


def _lock_unordered(
    tx: CoreTransaction, statement: Select[Any], mapper: Mapper[Any], how: How
) -> list[Any]:
    unit = tx.unit
    locks = can_lock(unit)
    if locks:
        _refuse_groups(statement)
        # The first statement locks what earlier attempts have learnt: limits are set after it.
        connection_of(tx)
        if guard(tx, how.wait, (how.strength,)) is not None:
            limit_waits(unit, connection_of(tx))
        statement = statement.with_for_update(
            nowait=how.wait is Wait.NOWAIT,
            skip_locked=how.wait is Wait.SKIP,
            of=tables_of(mapper),
            **FOR[how.strength],
        )
    with locking(unit, is_answer=how.wait is Wait.NOWAIT):
        rows = list(tx.execute(statement, execution_options=_FRESH).unique().scalars())
    if locks:
        for table in tables_of(mapper):
            unit.book.touch(unit.home.tables.rank(table))
        place = unit.called_at()
        keys = [tuple(inspect(each).identity) for each in rows]
        for resource in resources_of(tx, mapper, keys):
            unit.book.record(resource, how.strength, place)
    note_read(tx, rows)
    return rows


def _refuse_groups(statement: Select[Any]) -> None:
    """The server locks no rows of a query that makes one of several."""
    # There is no public way to ask for these.
    if statement._distinct or statement._group_by_clauses or statement._having_criteria:
        raise ConfigurationError(
            "lock_where() with nowait or skip_locked takes no DISTINCT, GROUP BY or HAVING: it is "
            "one query, and of such a one PostgreSQL locks no rows.",
            "put that into a subquery: select(Account).where(Account.id.in_(select(...))); or "
            "leave nowait and skip_locked out.",
        )


def _only_entity(statement: Select[Any]) -> type[Any]:
    is_select = isinstance(statement, Select)  # and no union, and no text that loads a class
    descriptions: list[Any] = statement.column_descriptions if is_select else []
    entity = descriptions[0]["entity"] if len(descriptions) == 1 else None
    if entity is None or descriptions[0]["expr"] is not entity:
        raise ConfigurationError(
            "lock_where() takes a select of one mapped class.", "select(Account).where(...)."
        )
    found: type[Any] = entity
    return found


def _primary(mapper: Mapper[Any], entity: Any = None) -> list[Any]:
    entity = entity or mapper.class_
    return [getattr(entity, mapper.get_property_by_column(c).key) for c in mapper.primary_key]

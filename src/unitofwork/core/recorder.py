"""The recorder: which locks are taken while which are held, over all transactions of an engine."""

from __future__ import annotations

import enum
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, MetaData, Table, TextClause, UniqueConstraint, event

from ..errors import ConfigurationError
from ..policies.lock_graph import LockGraph, Taken
from ..policies.lock_report import Doubt, LockOrderReport, Remark, told
from . import places

if TYPE_CHECKING:
    from ..sql.parsing import LockRequest, Statement, TableFacts

log = logging.getLogger("unitofwork.locks")
#: Texts and ways through them that are remembered; beyond, they are worked out anew.
LIMIT = 20_000
#: Values of one statement that are compared; more are taken for the same rows as before.
MANY_VALUES = 2_000


def recording_wanted() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get("UNITOFWORK_RECORD_LOCKS", "") not in ("", "0")


class _Rows(enum.Enum):
    """How the rows of a request compare with what the transaction has locked in that table."""

    FIRST = 0
    SAME = 1
    OTHER = 2
    UNKNOWN = 3
    #: In a table into which it has inserted: probably its own new row.
    OWN = 4


class _State:
    """What a transaction holds, the same object for all that hold the same.

    A statement that was sent before in this state leads to the state that is remembered for it.
    """

    __slots__ = ("after", "held")

    def __init__(self, held: tuple[Taken, ...]) -> None:
        self.held = held
        self.after: dict[Any, _State] = {}


@dataclass(slots=True)
class _Track:
    """One transaction."""

    state: _State
    #: By table, the values that named rows of it.
    rows: dict[str, set[object]] = field(default_factory=dict)
    inserted: set[str] = field(default_factory=set)
    #: By the name of a savepoint, what was held when it was set.
    savepoints: dict[str, _State] = field(default_factory=dict)
    #: Named locks that stay when the transaction ends.
    stays: bool = False


class Recorder:
    """Listens to an engine, or to all engines when given the class `Engine`.

    A circle is told once, to the logger `unitofwork.locks` and in `report()`, when the second
    half of it is first seen, whether or not the transactions ever met. `metadata` tells the keys
    and foreign keys of tables; those of ORM and Core statements are known without it.

    Raises `ConfigurationError` when sqlglot is not installed.
    """

    def __init__(self, engine: Engine | type[Engine], *, metadata: MetaData | None = None) -> None:
        try:
            from ..sql import parsing
        except ImportError as error:
            raise ConfigurationError(
                "The lock recorder reads SQL with sqlglot, which is not installed.",
                "pip install 'sqlalchemy-unitofwork[locks]'",
            ) from error
        self._parsing = parsing
        self._engine = engine
        self._metadata: set[MetaData] = set() if metadata is None else {metadata}
        self._graph = LockGraph()
        self._remarks: dict[Remark, None] = {}
        self._unread: dict[str, None] = {}
        #: With each, whether SQLAlchemy has written it.
        self._statements: dict[str, tuple[Statement, bool]] = {}
        self._start = _State(())
        self._states: dict[tuple[Taken, ...], _State] = {(): self._start}
        #: Threads may add to the graph at the same time; what is known needs no lock.
        self._learning = threading.Lock()
        self._listeners: list[tuple[str, Callable[..., Any]]] = [
            ("before_cursor_execute", self._sent),
            ("commit", self._ended),
            ("rollback", self._ended),
            ("commit_twophase", self._ended),
            ("rollback_twophase", self._ended),
            ("savepoint", self._savepoint),
            ("rollback_savepoint", self._back_to_savepoint),
            ("checkin", self._checked_in),
        ]

    def attach(self) -> Recorder:
        """Begin to listen; returns itself."""
        for name, listener in self._listeners:
            if not event.contains(self._engine, name, listener):
                event.listen(self._engine, name, listener)
        return self

    def detach(self) -> None:
        """Stop listening; what was found stays."""
        for name, listener in self._listeners:
            if event.contains(self._engine, name, listener):
                event.remove(self._engine, name, listener)

    def report(self) -> LockOrderReport:
        """What was found until now."""
        with self._learning:
            return LockOrderReport(
                cycles=tuple(self._graph.cycles),
                remarks=tuple(self._remarks),
                pairs=len(self._graph),
                statements=len(self._statements),
                unread=tuple(self._unread),
            )

    # --- listeners; they run in the thread or greenlet that holds the connection

    def _sent(
        self,
        conn: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
    ) -> None:
        known, compiled = self._statements.get(statement) or self._read(statement, context)
        if not known.locks and known.inserts is None:
            return
        if conn.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            return  # given back before the next statement
        info = conn.info
        track = info.get(self)
        if track is None:
            track = info[self] = _Track(self._start)
        hold = info.get("unitofwork_hold")
        unit = None if hold is None else hold.unit
        # What SQLAlchemy writes in a unit, and the unit's own lock queries, are in order already.
        name, ordered = (None, False) if unit is None else (unit.name, compiled or unit.is_locking)
        rows = tuple(self._compare(track, request, parameters) for request in known.locks)
        if known.inserts is not None:
            track.inserted.add(known.inserts)
            track.rows.setdefault(known.inserts, set()).update(_values_of(parameters))
        way = (statement, name, ordered, rows)
        state = track.state.after.get(way)
        track.state = state or self._learn(track, way, known)

    def _ended(self, conn: Connection, *which: Any) -> None:
        if not conn.closed and not conn.invalidated:
            self._forget(conn.info)

    def _checked_in(self, dbapi_connection: Any, record: Any) -> None:
        record.info.pop(self, None)

    def _forget(self, info: dict[Any, Any]) -> None:
        track = info.get(self)
        if track is None:
            return
        if not track.stays:
            del info[self]
            return
        kept = tuple(t for t in track.state.held if t.lock.resource.startswith("named lock"))
        info[self] = _Track(self._state(kept), stays=True)

    def _savepoint(self, conn: Connection, name: str) -> None:
        track = conn.info.get(self)
        if track is None:
            track = conn.info[self] = _Track(self._start)
        track.savepoints[name] = track.state

    def _back_to_savepoint(self, conn: Connection, name: str, context: Any) -> None:
        track = conn.info.get(self)
        if track is not None and name in track.savepoints:
            # The rows' values stay: what is held decides, they only say which rows are the same.
            track.state = track.savepoints[name]

    # --- what is new

    def _read(self, statement: str, context: Any) -> tuple[Statement, bool]:
        source = getattr(context.compiled, "statement", None)
        table = getattr(source, "table", None)
        with self._learning:
            if isinstance(table, Table):
                self._metadata.add(table.metadata)
            known = self._parsing.read(statement, context.dialect.name, self._facts)
            if not known.readable:
                self._unread[" ".join(statement.split())[:200]] = None
            if len(self._statements) > LIMIT:
                self._statements.clear()
            compiled = source is not None and not isinstance(source, TextClause)
            self._statements[statement] = known, compiled
            return known, compiled

    def _facts(self, name: str) -> TableFacts | None:
        for metadata in self._metadata:
            table = metadata.tables.get(name)
            if table is not None:
                return _facts_of(table, self._parsing.TableFacts)
        return None

    def _compare(self, track: _Track, request: LockRequest, parameters: Any) -> _Rows:
        resource = request.lock.resource
        before = track.rows.get(resource)
        found: set[object] = set()
        if request.keys:
            found.update(_named_values(request.keys, parameters, self._parsing.Parameter))
        if before is None:
            track.rows[resource] = found or set(_values_of(parameters))
            return _Rows.FIRST
        if found and found <= before:
            return _Rows.SAME
        before.update(found or _values_of(parameters))
        if resource in track.inserted:
            return _Rows.OWN
        return _Rows.OTHER if found else _Rows.UNKNOWN

    def _learn(self, track: _Track, way: tuple[Any, ...], known: Statement) -> _State:
        _, name, ordered, rows = way
        place = places.caller()
        found = []
        held = list(track.state.held)
        with self._learning:
            for request, compared in zip(known.locks, rows, strict=True):
                taken = Taken(request.lock, name or place.function, place)
                if self._is_held(held, request, compared, taken, ordered):
                    continue
                if request.waits:
                    found += [self._graph.add(earlier, taken) for earlier in held]
                    if request.many and not ordered and compared is not _Rows.SAME:
                        self._remarks[Remark(Doubt.MANY, taken)] = None
                if taken not in held:
                    held.append(taken)
                track.stays = track.stays or request.session
            state = self._state(tuple(held))
            track.state.after[way] = state
        for cycle in found:
            if cycle is not None:
                log.warning("%s", told(cycle))
        return state

    def _is_held(
        self,
        held: list[Taken],
        request: LockRequest,
        compared: _Rows,
        taken: Taken,
        ordered: bool,
    ) -> bool:
        """Whether the request adds nothing to what is held; notes what is odd about it."""
        if compared is _Rows.OWN:
            return True
        earlier = [one for one in held if one.lock.resource == request.lock.resource]
        if not earlier:
            return False
        if any(one.lock.whole_table for one in earlier):
            return True
        covered = any(one.lock.covers(request.lock) for one in earlier)
        if request.waits and not ordered:
            if compared is not _Rows.SAME and compared is not _Rows.FIRST:
                # The same line twice is mostly one flush, which SQLAlchemy sorts.
                if taken.place not in [one.place for one in earlier]:
                    self._remarks[Remark(Doubt.AGAIN, taken, earlier[0])] = None
            elif not covered:
                weak = [one for one in earlier if one.lock.conflicts(request.lock)]
                shared = [one for one in weak if not one.lock.conflicts(one.lock)]
                if shared:
                    self._remarks[Remark(Doubt.UPGRADE, taken, shared[0])] = None
        return covered and compared is not _Rows.OTHER

    def _state(self, held: tuple[Taken, ...]) -> _State:
        if len(self._states) > LIMIT:
            self._states = {(): self._start}
            self._start.after.clear()
        state = self._states.get(held)
        if state is None:
            state = self._states[held] = _State(held)
        return state


def _facts_of(table: Table, facts: type[TableFacts]) -> TableFacts:
    primary = frozenset(column.name for column in table.primary_key.columns)
    unique = {
        column.name
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
        for column in constraint.columns
    }
    unique |= {c.name for index in table.indexes if index.unique for c in index.columns}
    parents = {
        key.parent.name: key.target_fullname.rpartition(".")[0] for key in table.foreign_keys
    }
    return facts(primary, primary | unique, parents)


def _sets(parameters: Any) -> Iterable[Any]:
    """The sets of parameters: one, or those of an executemany."""
    if isinstance(parameters, list) and parameters and isinstance(parameters[0], Mapping | tuple):
        return parameters
    return (parameters,)


def _flat(value: Any) -> Iterator[object]:
    if isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _flat(part)
    elif value.__hash__ is not None:
        yield value


def _values_of(parameters: Any) -> list[object]:
    values: list[object] = []
    for one in _sets(parameters):
        for value in one.values() if isinstance(one, Mapping) else one or ():
            values.extend(_flat(value))
            if len(values) > MANY_VALUES:
                return values
    return values


def _named_values(keys: Iterable[object], parameters: Any, named: type) -> Iterator[object]:
    for one in _sets(parameters):
        for key in keys:
            if not isinstance(key, named):
                yield key
                continue
            try:
                yield from _flat(one[key.key])  # type: ignore[attr-defined]
            except (KeyError, IndexError, TypeError):
                continue

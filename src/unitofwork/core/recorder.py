"""The recorder: which locks are taken while which are held, over all transactions of an engine."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, MetaData, Table, TextClause, UniqueConstraint, event

from ..errors import ConfigurationError
from ..policies.lock_graph import LockClass, LockGraph, Taken
from ..policies.lock_report import Doubt, LockOrderReport, Remark, told
from ..types import Place
from . import places
from .recorded_rows import Rows, RowsSeen

if TYPE_CHECKING:
    from ..sql.parsing import LockRequest, Statement, TableFacts

log = logging.getLogger("unitofwork.locks")
#: Texts and ways through them that are remembered; beyond, they are worked out anew.
LIMIT = 20_000


def recording_wanted() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get("UNITOFWORK_RECORD_LOCKS", "") not in ("", "0")


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
    #: The unit's name; without a unit the place where the transaction began to lock.
    origin: str | Place | None = None
    rows: RowsSeen = field(default_factory=RowsSeen)
    #: By the name of a savepoint, what was held when it was set.
    savepoints: dict[str, _State] = field(default_factory=dict)
    #: Named locks of the session, which stay when the transaction ends.
    stays: set[LockClass] = field(default_factory=set)


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
        self._nothing = parsing.Statement()
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
        if known is self._nothing:
            return
        if _commits_each(conn):
            return  # given back before the next statement
        info = conn.info
        track = info.get(self)
        if track is None:
            track = info[self] = _Track(self._start)
        if not known.locks and known.inserts is None:
            self._give_back(track, known)
            return
        hold = info.get("unitofwork_hold")
        unit = None if hold is None else hold.unit
        # What SQLAlchemy writes in a unit, and the unit's own lock queries, are in order already.
        if unit is None:
            ordered = False
            if track.origin is None:
                track.origin = places.caller() if hold is None else hold.acquired_at
        else:
            ordered = compiled or unit.is_locking
            track.origin = unit.name
        rows = tuple([track.rows.compare(request, parameters) for request in known.locks])
        if known.inserts is not None:
            track.rows.inserted.add(known.inserts)
        if known.sessions:
            track.stays.update(known.sessions)
        way = (statement, track.origin, ordered, rows)
        state = track.state.after.get(way)
        track.state = state or self._learn(track, way, known)

    def _ended(self, conn: Connection, *which: Any) -> None:
        if not conn.closed and not conn.invalidated:
            self._forget(conn.info)

    def _checked_in(self, dbapi_connection: Any, record: Any) -> None:
        record.info.pop(self, None)

    def _forget(self, info: dict[Any, Any]) -> None:
        track = info.pop(self, None)
        if track is not None and track.stays:
            kept = tuple(one for one in track.state.held if one.lock in track.stays)
            info[self] = _Track(self._state(kept), stays=track.stays)

    def _give_back(self, track: _Track, known: Statement) -> None:
        if known.sets is not None:
            track.savepoints[known.sets] = track.state
        elif known.back_to is not None:
            # The rows' values stay: they only say which rows are the same, not what is held.
            track.state = track.savepoints.get(known.back_to, track.state)
        elif known.gives_back is not None:
            gone = {k for k in track.stays if known.gives_back in ("", k.resource)}
            track.stays -= gone
            kept = tuple(one for one in track.state.held if one.lock not in gone)
            track.state = self._state(kept)

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
            if known == self._nothing:
                known = self._nothing
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

    def _learn(self, track: _Track, way: tuple[Any, ...], known: Statement) -> _State:
        _, origin, ordered, rows = way
        place = places.caller()
        name = origin if isinstance(origin, str) else place.function
        found = []
        held = list(track.state.held)
        with self._learning:
            for request, compared in zip(known.locks, rows, strict=True):
                taken = Taken(request.lock, name, place)
                if self._is_held(held, request, compared, taken, ordered):
                    continue
                if request.waits:
                    found += [self._graph.add(earlier, taken) for earlier in held]
                    if request.many and not ordered and compared is not Rows.SAME:
                        self._remarks[Remark(Doubt.MANY, taken)] = None
                if taken not in held:
                    held.append(taken)
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
        compared: Rows,
        taken: Taken,
        ordered: bool,
    ) -> bool:
        """Whether the request adds nothing to what is held; notes what is odd about it."""
        if compared is Rows.OWN:
            return True
        earlier = [one for one in held if one.lock.resource == request.lock.resource]
        if not earlier:
            return False
        if any(one.lock.whole_table for one in earlier):
            return True
        covered = any(one.lock.covers(request.lock) for one in earlier)
        if request.waits and not ordered:
            if compared is not Rows.SAME and compared is not Rows.FIRST:
                # The same line twice is mostly one flush, which SQLAlchemy sorts.
                if taken.place not in [one.place for one in earlier]:
                    self._remarks[Remark(Doubt.AGAIN, taken, earlier[0])] = None
            elif not covered:
                weak = [one for one in earlier if one.lock.conflicts(request.lock)]
                shared = [one for one in weak if not one.lock.conflicts(one.lock)]
                if shared:
                    self._remarks[Remark(Doubt.UPGRADE, taken, shared[0])] = None
        return covered and compared is not Rows.OTHER

    def _state(self, held: tuple[Taken, ...]) -> _State:
        if len(self._states) > LIMIT:
            self._states = {(): self._start}
            self._start.after.clear()
        state = self._states.get(held)
        if state is None:
            state = self._states[held] = _State(held)
        return state


def _commits_each(conn: Connection) -> bool:
    level = conn.get_execution_options().get("isolation_level")
    level = level or getattr(conn.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT"


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

"""The recorder: which locks are taken while which are held, over all transactions of an engine."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from sqlalchemy import Connection, Engine, MetaData, TextClause, event
from sqlalchemy.engine import RootTransaction

from ..errors import ConfigurationError
from ..policies.lock_graph import LockGraph, Taken
from ..policies.lock_report import Doubt, LockOrderReport, Remark, told
from ..sql.table_locks import LOCKS_TABLES
from . import places
from .holders import HOLD
from .recorded_facts import facts_of, is_late, metadata_of, ranks_of
from .recorded_rows import Rows
from .recorded_statements import Statements
from .recorded_track import ANYONE, LOCK_QUERY, UNIT, By, Savepoint, State, Track, Way

if TYPE_CHECKING:
    from ..sql.lock_requests import LockRequest, Statement, TableFacts
    from .unit import Unit

log = logging.getLogger("unitofwork.locks")
#: Texts, and ways through them, that are remembered; beyond, they are worked out anew. And so
#: many findings of each kind are kept.
LIMIT = 20_000
#: Named locks that are told apart by the parameter that says which.
MOST_NAMES = 1_000


def recording_wanted() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get("UNITOFWORK_RECORD_LOCKS", "") not in ("", "0")


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
        #: The names of those that are in it, when it was last looked at.
        self._tables: set[str] = set() if metadata is None else set(metadata.tables)
        self._graph = LockGraph(LIMIT)
        #: By what they are about, without the names of units, of which there may be ever more.
        self._remarks: dict[tuple[Any, ...], Remark] = {}
        self._unread: dict[str, None] = {}
        self._left_out: set[str] = set()
        #: With each, whether SQLAlchemy has written it.
        self._statements: dict[str, tuple[tuple[Statement, ...], bool]] = {}
        #: Those whose parameters say which named locks they take, by statement and names.
        self._named: dict[tuple[Any, ...], Statement] = {}
        self._start = State(())
        self._states: dict[tuple[Taken, ...], State] = {(): self._start}
        self._ways = 0
        #: Weakly, for a transaction keeps its connection out. The connection has the last one too.
        self._tracks: dict[ReferenceType[RootTransaction], Track] = {}
        #: Threads may add to the graph at the same time; what is known needs no lock. Reentrant,
        #: because a garbage collection meanwhile may roll an abandoned unit back right here.
        self._learning = threading.RLock()
        self._sending = Statements(engine, self._sent)

    def attach(self) -> Recorder:
        """Begin to listen; returns itself."""
        self._sending.attach()
        if not event.contains(self._engine, "checkin", self._checked_in):
            event.listen(self._engine, "checkin", self._checked_in)
        return self

    def detach(self) -> None:
        """Stop listening; what was found stays."""
        self._sending.detach()
        if event.contains(self._engine, "checkin", self._checked_in):
            event.remove(self._engine, "checkin", self._checked_in)

    def report(self) -> LockOrderReport:
        """What was found until now."""
        with self._learning:
            return LockOrderReport(
                cycles=tuple(self._graph.cycles),
                remarks=tuple(self._remarks.values()),
                pairs=len(self._graph),
                statements=len(self._statements),
                unread=tuple(self._unread),
                left_out=tuple(sorted(self._left_out | self._graph.left_out)),
            )

    # --- listeners; they run in the thread or greenlet that holds the connection

    def _sent(self, context: Any) -> None:
        statement = context.statement
        known, compiled = self._statements.get(statement) or self._read(statement, context)
        if not known or context.isddl:
            return
        connection = context.root_connection
        transaction = connection.get_transaction()
        if transaction is None:
            return
        track = self._tracks.get(ref(transaction)) or self._begin(connection, transaction)
        if track is None:
            return
        parameters = context.parameters
        if len(parameters) == 1:
            parameters = parameters[0]
        for each in known:
            if each.plain is not None:
                compared = (track.rows.compare(each.plain, parameters),)
                self._follow(track, each, compared, compiled, context)
            elif each.ends:
                track = self._begin(connection, transaction) or track
            elif each.locks or each.inserted is not None:
                told = self._told_apart(each, parameters) if each.by_value else each
                several = self._compare(track, told, parameters)
                self._follow(track, told, several, compiled, context)
            else:
                self._give_back(track, each, parameters)

    def _follow(
        self,
        track: Track,
        known: Statement,
        compared: tuple[Rows, ...],
        compiled: bool,
        context: Any,
    ) -> None:
        """Go on to what the transaction holds after a statement."""
        hold = track.hold
        unit = None if hold is None else hold.unit
        by = ANYONE
        if unit is None:
            if track.origin is None:
                track.origin = places.caller() if hold is None else hold.acquired_at
        else:
            track.origin = unit.name
            if compiled or unit.is_locking:
                by = LOCK_QUERY if unit.is_locking else UNIT
        # A flush looks up what it sends in a cache of its mapper.
        flushes = compiled and "compiled_cache" in context.execution_options
        way = (known, track.origin, by, flushes, compared)
        track.state = track.state.after.get(way) or self._learn(track, Way(*way), unit)

    def _compare(self, track: Track, known: Statement, parameters: Any) -> tuple[Rows, ...]:
        rows = track.rows
        compared = tuple([rows.compare(request, parameters) for request in known.locks])
        if known.inserted is not None:
            rows.insert(known.inserted, parameters)
        track.stays.update(known.sessions)
        return compared

    def _begin(self, connection: Connection, transaction: RootTransaction) -> Track | None:
        """A transaction, with the named locks that the session has kept from the last one.

        None where a statement gives back what it locks before the next one.
        """
        if _commits_each(connection):
            return None
        info = connection.info
        last: Track | None = info.get(self)
        track = Track(self._start, info.get(HOLD))
        if last is not None and last.stays:
            track.state, track.stays = self._state(_staying(last)), last.stays
        info[self] = self._tracks[ref(transaction, self._tracks.pop)] = track
        return track

    def _checked_in(self, dbapi_connection: Any, record: Any) -> None:
        record.info.pop(self, None)

    def _give_back(self, track: Track, known: Statement, parameters: Any) -> None:
        if known.sets is not None:
            track.savepoints.append(Savepoint(known.sets, track.state, track.rows.mark()))
        elif known.releases is not None:
            at = track.savepoint(known.releases)
            if at is not None:
                del track.savepoints[at:]
        elif known.back_to is not None:
            at = track.savepoint(known.back_to)
            if at is not None:
                del track.savepoints[at + 1 :]
                _, state, mark = track.savepoints[at]
                track.rows.back_to(mark)
                later = [one for one in _staying(track) if one not in state.held]
                track.state = self._state((*state.held, *later)) if later else state
        elif known.gives_back is not None:
            name = known.gives_back.told(parameters)
            gone = {one for one in track.stays if name in ("", one.resource.partition(" lock ")[2])}
            track.stays -= gone
            kept = tuple(one for one in track.state.held if one.lock not in gone)
            track.state = self._state(kept)

    # --- what is new

    def _read(self, statement: str | None, context: Any) -> tuple[tuple[Statement, ...], bool]:
        # DDL is of fixtures and migrations, which run while nobody else does. It is not kept, for
        # the same may come as text. Without a transaction it is a question of the dialect's.
        in_transaction = context.root_connection.in_transaction()
        if statement is None or context.isddl or not in_transaction:
            return (), True
        source = getattr(context.compiled, "statement", None)
        models = metadata_of(source)
        dialect = context.dialect
        schema: str | None = dialect.default_schema_name

        def facts(name: str) -> TableFacts | None:
            return facts_of(self._metadata, name, schema)

        with self._learning:
            for each in models:
                if not each.tables.keys() <= self._tables:
                    self._metadata.add(each)
                    self._tables.update(each.tables)
                    self._statements.clear()  # it tells more about them
            known = self._parsing.read(statement, dialect.name, facts, schema)
            is_ours = statement.startswith(LOCKS_TABLES)
            if not is_ours and not all(each.readable for each in known):
                self._keep(self._unread, " ".join(statement.split())[:200], None, "statements")
            if len(self._statements) > LIMIT:
                self._statements.clear()
            compiled = source is not None and not isinstance(source, TextClause)
            known = tuple(each for each in known if not each.is_nothing)
            return self._statements.setdefault(statement, (known, compiled))

    def _told_apart(self, known: Statement, parameters: Any) -> Statement:
        """The statement with the named locks that its parameters tell."""
        names = (each.name.told(parameters) for each in known.locks if each.name is not None)
        key = (known, *names)
        found = self._named.get(key)
        if found is None:
            with self._learning:
                if len(self._named) >= MOST_NAMES:
                    self._left_out.add("named locks")
                    return self._named.setdefault((known,), known.without_names())
                found = self._named.setdefault(key, known.with_names(parameters))
        return found

    def _learn(self, track: Track, way: Way, unit: Unit | None) -> State:
        origin = way.origin
        place = places.caller()
        name = origin if isinstance(origin, str) else place.function
        found = []
        held = list(track.state.held)
        ranks = ranks_of(unit) if unit is not None and way.by is By.UNIT else {}
        with self._learning:
            for request, compared in zip(way.statement.locks, way.rows, strict=True):
                taken = Taken(request.lock, name, place, way.by is not By.ANYONE, unit is not None)
                if self._is_held(held, request, compared, taken, way):
                    continue
                if request.waits:
                    found += [
                        self._graph.add(earlier, taken)
                        for earlier in held
                        if not (earlier.in_order and is_late(earlier.lock, taken.lock, ranks))
                    ]
                    if request.many and not taken.in_order and compared is not Rows.SAME:
                        self._remark(Doubt.MANY, taken)
                if taken not in held:
                    held.append(taken)
            state = self._state(tuple(held))
            if self._ways >= LIMIT:
                self._states = {(): self._start}
                self._start.after.clear()
                track.state.after.clear()
                self._ways = 0
            self._ways += 1
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
        way: Way,
    ) -> bool:
        """Whether the request adds nothing to what is held; notes what is odd about it."""
        if compared is Rows.OWN or compared is Rows.NONE:
            return True
        earlier = [one for one in held if one.lock.resource == request.lock.resource]
        if not earlier:
            return False
        covering = [one for one in earlier if one.lock.covers(request.lock)]
        if any(one.lock.whole_table for one in covering):
            return True
        if request.waits and not taken.in_order:
            if compared is Rows.OTHER or compared is Rows.UNKNOWN:
                # One flush has many statements on one line, and SQLAlchemy sorts their rows.
                if not (way.flushes and taken.place in [one.place for one in earlier]):
                    self._remark(Doubt.AGAIN, taken, earlier[0])
            elif not covering:
                weak = [one for one in earlier if one.lock.conflicts(request.lock)]
                shared = [one for one in weak if not one.lock.conflicts(one.lock)]
                if shared:
                    self._remark(Doubt.UPGRADE, taken, shared[0])
        return bool(covering) and compared is not Rows.OTHER

    def _remark(self, doubt: Doubt, taken: Taken, held: Taken | None = None) -> None:
        earlier = () if held is None else (held.lock, held.place)
        about = (doubt, taken.lock, taken.place, *earlier)
        self._keep(self._remarks, about, Remark(doubt, taken, held), "remarks")

    def _keep(self, found: dict[Any, Any], key: Any, value: Any, what: str) -> None:
        if len(found) < LIMIT:
            found.setdefault(key, value)
        elif key not in found:
            self._left_out.add(what)

    def _state(self, held: tuple[Taken, ...]) -> State:
        if len(self._states) > LIMIT:
            self._states = {(): self._start}
        state = self._states.get(held)
        if state is None:
            state = self._states[held] = State(held)
        return state


def _staying(track: Track) -> tuple[Taken, ...]:
    return tuple(one for one in track.state.held if one.lock in track.stays)


def _commits_each(conn: Connection) -> bool:
    level = conn.get_execution_options().get("isolation_level")
    level = level or getattr(conn.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT"

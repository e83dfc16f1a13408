"""A coverage audit: which rows a unit has locked, by the server, that its own book does not know.

It needs no contention: each unit is looked at alone, before its COMMIT, from a second connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    MetaData,
    NullPool,
    Select,
    Table,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ..core.locks.schema import links_to
from ..core.transaction import CoreTransaction
from ..core.unit import Unit
from ..policies.locks.book import Strength
from ..policies.locks.order import Resource
from ..sql.key_types import key_columns
from ..sql.row_locks import FOR
from ..types import Place

#: A table with more rows is left out, and named in `LockAudit.skipped`.
MOST_ROWS = 5_000
#: Seconds that a query of the audit waits for a table.
PATIENCE = 0.5

# A row that can't be locked so is held at least at the strength beside it.
_CONFLICTS = (
    (Strength.UPDATE, Strength.KEY_SHARE),
    (Strength.NO_KEY_UPDATE, Strength.SHARE),
    (Strength.SHARE, Strength.NO_KEY_UPDATE),
    (Strength.KEY_SHARE, Strength.UPDATE),
)
_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE pid NOT IN (:own, pg_backend_pid()) "
    "AND datname = current_database() AND backend_type = 'client backend' "
    "AND state IS DISTINCT FROM 'idle'"
)
# Whoever has locked a row has such a lock on its table.
_TABLES = text(
    "SELECT n.nspname, c.relname, pg_table_is_visible(c.oid), bool_or(l.mode IN ("
    "'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) "
    "FROM pg_locks l "
    "JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE l.pid = :own AND l.locktype = 'relation' AND l.granted "
    "AND l.mode NOT IN ('AccessShareLock') AND c.relkind IN ('r', 'p') "
    "AND n.nspname NOT IN ('pg_catalog', 'information_schema') GROUP BY c.oid, 1, 2 ORDER BY 1, 2"
)


@dataclass(frozen=True)
class Hole:
    """A row that a unit had locked without knowing."""

    table: str
    key: tuple[Any, ...]
    #: As the server has it, and as the unit's book has it (None: not at all).
    strength: str
    booked: str | None
    unit: str
    opened_at: Place

    def __str__(self) -> str:
        key = self.key[0] if len(self.key) == 1 else self.key
        return (
            f"{self.table} {key!r}: locked FOR {self.strength.replace('_', ' ')}, in the book "
            f"{self.booked or 'not at all'}; unit {self.unit!r}, opened at {self.opened_at}"
        )


@dataclass
class LockAudit:
    """What was found; see `audit_locks`."""

    holes: list[Hole] = field(default_factory=list)
    #: Units that were looked at.
    units: int = 0
    #: Those that were not, and tables that were not, by why.
    skipped: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Raise `AssertionError` that lists the holes, if there are any."""
        if self.holes:
            listed = "".join(f"\n  - {hole}" for hole in self.holes[:50])
            raise AssertionError(
                f"{len(self.holes)} row locks that the units did not know of, so others may wait "
                f"for them in a circle:{listed}\n"
                "  What to do: a trigger or rule is declared by uow.writes_also(); for anything "
                "else lock the rows before (tx.lock_many), or report it."
            )


class audit_locks:
    """`with audit_locks(uow) as audit:` look at each unit before it commits (PostgreSQL).

    A row that the unit has locked on the server, and that is not in its book with that strength,
    is a hole: nobody could have put the wait for it in order. At the end of the block holes raise
    `AssertionError` (not over another error); `audit.check()` does so at once.

    Looked at are units that are alone on the database, since otherwise nothing tells whose a lock
    is, and that sent no write the library can't read (`text()`); the rest is counted in
    `audit.skipped`. Costs one connection and some queries per unit: for tests, not for services.

    Args:
        uow: an `AsyncUnitOfWork` or `UnitOfWork`; None: all of them.
        url: where the second connection goes; None: to the URL of the unit's engine.
        most_rows: tables with more rows are left out.
    """

    def __init__(
        self, uow: Any = None, *, url: str | URL | None = None, most_rows: int = MOST_ROWS
    ) -> None:
        engine = None if uow is None else uow.engine
        self._engine = getattr(engine, "sync_engine", engine)
        self._url = url
        self._most_rows = most_rows
        self._audit = LockAudit()

    def __enter__(self) -> LockAudit:
        event.listen(CoreTransaction, "before_commit", self._before_commit)
        return self._audit

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        event.remove(CoreTransaction, "before_commit", self._before_commit)
        if error is None:
            self._audit.check()

    async def __aenter__(self) -> LockAudit:
        return self.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self.__exit__(*error)

    def _before_commit(self, session: Session) -> None:
        if not isinstance(session, CoreTransaction) or session.in_nested_transaction():
            return
        unit = session.unit
        engine = unit.home.engine
        if self._engine is not None and engine is not self._engine:
            return
        if unit.connection is None or not unit.home.rules.locks_rows:
            return
        reason = _unfit(unit)
        own = _server_process(unit.connection)
        if reason is None and own is None:
            reason = "the driver does not tell the server's process"
        if reason is not None:
            self._audit.skipped[reason] += 1
            return
        # Made here, because an async driver connects inside of the unit's own greenlet only.
        second = create_engine(self._url or engine.url, poolclass=NullPool)
        try:
            with second.connect() as connection:
                self._look(unit, connection, own)
        except (DBAPIError, OSError) as error:
            self._audit.skipped[f"the second connection failed: {type(error).__name__}"] += 1

    def _look(self, unit: Unit, connection: Connection, own: Any) -> None:
        limit = f"{round(PATIENCE * 1000)}ms"
        connection.execute(select(func.set_config("lock_timeout", limit, False)))
        connection.commit()
        if connection.scalar(_OTHERS, {"own": own}):
            self._audit.skipped["others are at work on the database"] += 1
            return
        touched = connection.execute(_TABLES, {"own": own}).all()
        if any(is_whole for *_, is_whole in touched):
            self._audit.skipped["it has a whole table to itself"] += 1
            return
        self._audit.units += 1
        for table in _known_tables(unit, touched):
            rows: Select[Any] = select(func.count()).select_from(table)
            if (connection.scalar(rows) or 0) > self._most_rows:
                self._audit.skipped[f"{table.fullname} has too many rows"] += 1
                continue
            connection.rollback()
            self._compare(unit, _locked(unit, connection, table))

    def _compare(self, unit: Unit, locked: dict[Resource, Strength]) -> None:
        for resource, strength in sorted(locked.items()):
            held = unit.book.held.get(resource)
            if (held is None or held.strength < strength) and not unit.book.has_passed(
                resource, strength
            ):
                self._audit.holes.append(
                    Hole(
                        table=resource.rank.name,
                        key=resource.key,
                        strength=strength.name,
                        booked=None if held is None else held.strength.name,
                        unit=unit.name,
                        opened_at=unit.opened_at,
                    )
                )


def _unfit(unit: Unit) -> str | None:
    if unit.sent_unordered:
        return "it sent writes that the library can't read"
    if unit.around or len(unit.home.running) > 1:
        return "it is not the only unit of its engine"
    return None


def _server_process(connection: Connection) -> Any:
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return driver.get_server_pid()
    info = getattr(driver, "info", None)
    return getattr(info, "backend_pid", None)


def _known_tables(unit: Unit, touched: Iterable[Any]) -> Iterator[Table]:
    """Of the tables in which the server says that there may be locks, those that are mapped."""
    known: dict[tuple[str | None, str], Table] = {}
    for metadata in _metadata(unit):
        for table in metadata.tables.values():
            known.setdefault((table.schema, table.name), table)
    for schema, name, is_visible, _ in touched:
        found = known.get((schema, name))
        if found is None and is_visible:
            found = known.get((None, name))
        if found is not None and key_columns(found):
            yield found


def _metadata(unit: Unit) -> set[MetaData]:
    known = unit.home.tables.known()
    children = {link.child for table in known for link in links_to(table)}
    return {table.metadata for table in children.union(known)}


def _locked(unit: Unit, connection: Connection, table: Table) -> dict[Resource, Strength]:
    """The rows that can't be locked now, with how strongly they are."""
    columns = key_columns(table)
    rows = {tuple(row) for row in connection.execute(select(*columns))}
    found: dict[Resource, Strength] = {}
    for asked, strength in _CONFLICTS:
        query = select(*columns).with_for_update(skip_locked=True, of=table, **FOR[asked])
        free = {tuple(row) for row in connection.execute(query)}
        connection.rollback()
        for key in rows - free:
            found[unit.home.tables.row(table, key)] = strength
        if not rows - free:
            break
    return found

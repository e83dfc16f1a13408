"""The sync core's session: a unit's transaction, seen through SQLAlchemy's `Session`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar, Unpack, cast

from sqlalchemy import Connection, Engine, Select, event, insert, update
from sqlalchemy.orm import Mapper, Session, SessionTransaction
from sqlalchemy.sql.dml import UpdateBase

from ..errors import ConfigurationError, TransactionStateError, UnitOfWorkError
from ..policies.locks.book import Strength
from ..policies.locks.order import name
from ..types import LockOptions, Outcome
from .locks.acquire import acquire
from .locks.again import lock_first
from .locks.flush import lock_before, note_after
from .locks.fresh import forget_released, note_read
from .locks.how import How
from .locks.missing import skipped
from .locks.rows import lock_rows, lock_where
from .locks.writing import execute_write
from .room import is_full, wait_for_room
from .savepoint import Savepoint
from .unit import Callback, Unit

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class UnitView:
    """What `tx` tells and takes beyond a session; the same in both faces."""

    unit: Unit

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.unit!r}>"

    @property
    def name(self) -> str:
        """The label of the unit in reports: its `name` option, function, or file and line."""
        return self.unit.name

    @property
    def outcome(self) -> Outcome:
        """How the unit ended; `Outcome.PENDING` while it runs."""
        return self.unit.outcome

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.unit.attempt

    def set_rollback_only(self) -> None:
        """Have the unit end with a rollback, without an error. Raises after its end."""
        self.unit.check_usable()
        self.unit.rollback_only = True

    def on_commit(self, callback: Callback) -> None:
        """Call `callback()` once after the outermost commit, with no connection held.

        A callback that raises is logged; the commit stands and the further
        callbacks run. Raises `ConfigurationError` for what can't be called here.
        """
        self.unit.check_usable()
        self.unit.on_commit.append(self._checked(callback))

    def on_rollback(self, callback: Callback) -> None:
        """Call `callback()` once after the unit, or the savepoint it is in, was rolled back."""
        self.unit.check_usable()
        self.unit.on_rollback.append(self._checked(callback))

    def _checked(self, callback: Callback) -> Callback:
        if not callable(callback):
            raise ConfigurationError(
                f"The callback {callback!r} can't be called.",
                "pass the function itself: on_commit(send), or on_commit(lambda: send(mail)).",
            )
        return callback

    def _refuse(self, call: str, instead: str) -> NoReturn:
        raise TransactionStateError(
            f"tx.{call}() was called inside unit {self.unit.name!r}; the block decides how it ends."
            f"\n  It was opened at {self.unit.opened_at}.",
            instead,
            name=self.unit.name,
            opened_at=self.unit.opened_at,
        )


def _in_turn(method: F) -> F:
    """The same method, for the one task (thread) that has the unit to itself meanwhile."""

    @functools.wraps(method)
    def guarded(self: CoreTransaction, *args: Any, **kwargs: Any) -> Any:
        self.unit.begin_use()
        try:
            result = method(self, *args, **kwargs)
        except Exception as error:
            if self.unit.connection is None and not isinstance(error, UnitOfWorkError):
                self.unit.connect_error = error
            raise
        finally:
            self.unit.end_use()
        if self.unit.ended:  # by its owner, while this task (thread) was in the statement
            self.unit.check_usable()
        return result

    return cast(F, guarded)


class CoreTransaction(UnitView, Session):
    """The session of a unit in both faces, whose transaction the block begins and ends.

    For one task (thread) at a time; what may be sent when is asked of the unit first.
    """

    def __init__(self, bind: Engine, *, unit: Unit, binds: None = None) -> None:
        super().__init__(
            bind=bind, autoflush=False, expire_on_commit=False, close_resets_only=False
        )
        self.unit = unit
        self._engine = unit.home.engine_for(unit.settings)

    def get_bind(self, *args: Any, **kwargs: Any) -> Engine:
        """The unit's engine, for whatever is mapped. Raises where no statement may be sent."""
        unit = self.unit
        unit.check_usable()
        if unit.connection is None and is_full(unit.home):
            wait_for_room(unit)
        return self._engine

    def connection(self, *args: Any, **kwargs: Any) -> Connection:
        """The unit's connection, as `Session.connection`; statements on it are the unit's too."""
        self.unit.connection_was_lent = True
        self.unit.begin_use()
        try:
            return super().connection(*args, **kwargs)
        finally:
            self.unit.end_use()

    def savepoint(self) -> Savepoint:
        """`with tx.savepoint():` a part of the unit that is undone alone.

        An exception that leaves the block undoes the work since its beginning; catch it outside.
        Raises `SilentRollbackError` at its end if a joined block inside failed unseen.
        """
        return Savepoint(self)

    def bulk_update_mappings(
        self, mapper: Mapper[Any] | type[Any], mappings: Iterable[dict[str, Any]]
    ) -> None:
        """As in `Session`; the rows are locked in order."""
        rows = list(mappings)
        if rows:
            self.execute(update(mapper), rows)

    @_in_turn
    def bulk_insert_mappings(
        self,
        mapper: Mapper[Any] | type[Any],
        mappings: Iterable[dict[str, Any]],
        return_defaults: bool = False,
        render_nulls: bool = False,
    ) -> None:
        """As in `Session`; the rows are sorted, and their parents locked in order."""
        rows = list(mappings)
        if return_defaults:  # they are filled into the mappings, which a statement does not do
            super().bulk_insert_mappings(mapper, rows, return_defaults, render_nulls)
        elif rows:
            self.execute(insert(mapper).execution_options(render_nulls=render_nulls), rows)

    # --- row locks; each call is one task's (thread's) at a time

    @_in_turn
    def lock(
        self,
        entity: type[T],
        key: Any,
        **how: Unpack[LockOptions],
    ) -> T:
        """Load and lock one row; see `lock_many`. A composite key is a tuple.

        With `skip_locked` a row that another transaction holds is a `RowNotFoundError` too.
        """
        found = lock_rows(self, {entity: [key]}, How.of(**how))[entity]
        if not found:
            raise skipped(entity, key)
        row: T = found[0]
        return row

    @_in_turn
    def lock_many(
        self,
        entity: type[T],
        keys: Iterable[Any],
        **how: Unpack[LockOptions],
    ) -> list[T]:
        """Load and lock rows, sorted by primary key, so that no two units wait in a circle.

        Returns the objects in the order of `keys`, fresh from the database. `strength`: of the
        lock; the default is that of an UPDATE of plain columns; "update" before a delete or a
        change of key or unique columns. `timeout`: seconds that each lock is waited for (None:
        `lock_timeout`); `nowait`: none at all, and the database's error; `skip_locked`: leave
        out what others hold. Raises `RowNotFoundError`, `LateLockError` (the rows come before
        some that are held, and are not free), `UnsavedWorkError` (a row has changes not flushed).
        """
        return lock_rows(self, {entity: keys}, How.of(**how))[entity]

    @_in_turn
    def lock_across(
        self,
        wanted: Mapping[type[Any], Iterable[Any]],
        **how: Unpack[LockOptions],
    ) -> dict[type[Any], list[Any]]:
        """`lock_many` for rows of several classes at once: `{Account: [1, 2], Order: [9]}`."""
        return lock_rows(self, wanted, How.of(**how))

    @_in_turn
    def lock_where(
        self,
        statement: Select[tuple[T]],
        **how: Unpack[LockOptions],
    ) -> list[T]:
        """Load and lock the rows that a select of one class finds; options as for `lock_many`.

        They still match when they are locked. `skip_locked=True` makes a queue:
        `select(Job).where(...).order_by(Job.id).limit(10)` gives each worker other jobs.
        """
        return lock_where(self, statement, How.of(**how))

    @_in_turn
    def lock_name(self, *parts: Any, timeout: float | None = None) -> None:
        """Take a named lock until the end of the transaction: `lock_name("invoices", 2026)`.

        It orders what has no row yet: numbers to be given out, unique values to be inserted.
        Names come before all rows in the order, so take them first. Raises `LateLockError`.
        """
        How.of(timeout=timeout)
        wants = {name(parts): Strength.UPDATE}
        acquire(self, wants, timeout=timeout)

    def begin(self, nested: bool = False) -> SessionTransaction:
        """Refused: a unit begins and ends by its block. (`begin_nested` sets a savepoint.)"""
        if nested:
            return super().begin(nested=True)
        self._refuse("begin", "the first statement begins it; for a savepoint: tx.savepoint().")

    def commit(self) -> NoReturn:
        """Refused: leave the block to commit."""
        self._refuse("commit", "leave the block to commit; tx.flush() sends changes before.")

    def rollback(self) -> NoReturn:
        """Refused: raise, or call `set_rollback_only()`."""
        self._refuse(
            "rollback",
            "raise to roll back, or call tx.set_rollback_only(); to undo a part of the unit use "
            "tx.savepoint().",
        )

    def close(self) -> NoReturn:
        """Refused: leave the block."""
        self._refuse("close", "leave the block: it returns the connection.")

    def reset(self) -> NoReturn:
        """Refused: leave the block."""
        self._refuse("reset", "leave the block: it returns the connection.")

    def invalidate(self) -> NoReturn:
        """Refused: leave the block by an exception."""
        self._refuse("invalidate", "leave the block; a lost connection is dropped by itself.")

    def prepare(self) -> NoReturn:
        """Refused: there is no two-phase commit in a unit."""
        self._refuse("prepare", "two-phase commit is not available in a unit.")


#: Rows that a unit keeps to compare them after a release; of more, only those still referenced
#: are compared, so that streaming a large result needs no memory for all of it.
KEPT_ROWS = 10_000

#: Session's own methods that lead to the database or change what the unit will write.
_IN_TURN = (
    *("get", "get_one", "refresh", "merge", "flush", "add", "add_all", "delete", "begin_nested"),
    *("bulk_save_objects",),
)
#: Those that take a statement.
_EXECUTE = ("execute", "scalar", "scalars")


def _in_order(method: Any) -> Any:
    """The same method, which takes the locks of what writes in order before it sends it."""

    @functools.wraps(method)
    def ordered(self: CoreTransaction, statement: Any, params: Any = None, **options: Any) -> Any:
        if isinstance(statement, UpdateBase):
            # A listener to `do_orm_execute` would have SQLAlchemy prepare each query twice.
            options["_add_event"] = execute_write
        return method(self, statement, params, **options)

    return ordered


for _name in _IN_TURN:
    setattr(CoreTransaction, _name, _in_turn(getattr(Session, _name)))
for _name in _EXECUTE:
    setattr(CoreTransaction, _name, _in_turn(_in_order(getattr(Session, _name))))


@event.listens_for(CoreTransaction, "after_begin")
def _connected(session: CoreTransaction, transaction: SessionTransaction, conn: Connection) -> None:
    if transaction.parent is None:
        session.unit.home.adopt(session.unit, conn)
        lock_first(session.unit, conn)


@event.listens_for(CoreTransaction, "before_flush")
def _about_to_flush(session: CoreTransaction, _context: object, objects: object) -> None:
    lock_before(session, is_partial=objects is not None)


@event.listens_for(CoreTransaction, "after_flush_postexec")
def _flushed(session: CoreTransaction, *_: object) -> None:
    note_after(session)


@event.listens_for(CoreTransaction, "loaded_as_persistent")
def _loaded(session: CoreTransaction, instance: object) -> None:
    # The identity map is weak; what the code read and let go of is compared after a release too.
    if len(session.unit.loaded) < KEPT_ROWS:
        session.unit.loaded.append(instance)
    if session.unit.guards_reads:
        note_read(session, [instance])


@event.listens_for(CoreTransaction, "after_transaction_create")
def _savepoint_set(session: CoreTransaction, transaction: SessionTransaction) -> None:
    if transaction.nested:
        session.unit.savepoints[transaction] = session.unit.book.mark()


@event.listens_for(CoreTransaction, "after_soft_rollback")
def _rolled_back(session: CoreTransaction, transaction: SessionTransaction) -> None:
    # A flush that fails goes back to the savepoint around it at once, and of that one's own end
    # nobody is told after it.
    savepoint: SessionTransaction | None = transaction
    while savepoint is not None and not savepoint.nested:
        savepoint = savepoint.parent
    if savepoint is not None:
        session.unit.savepoint_rolled_back(savepoint)
        forget_released(session)


@event.listens_for(CoreTransaction, "after_commit")
def _committed(session: CoreTransaction) -> None:
    # From here on nothing can undo it, also if the way back to the pool fails.
    if session.unit.commit_was_sent and not session.in_nested_transaction():
        session.unit.outcome = Outcome.COMMITTED

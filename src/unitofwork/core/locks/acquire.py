"""Taking locks: in the global order those that may be waited for, the late ones without waiting."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, exc
from sqlalchemy.orm import Session

from ...errors import ConfigurationError
from ...policies.locks.book import NOTHING, Plan, Strength, Wants
from ...policies.locks.order import NAMES, Resource
from ...sql.row_locks import (
    GUARD,
    Limits,
    Step,
    Wait,
    answer,
    limit_statement,
    lock_statement,
    read_note,
    rows_parameters,
    step_for,
)
from ...sql.sqlstates import LOCK_NOT_AVAILABLE
from ...sql.symptoms import sqlstate_in
from .around import refuse_own_rows
from .late import late_lock

if TYPE_CHECKING:
    from ..transaction import CoreTransaction
    from ..unit import Unit

Parameters = dict[str, Any]
#: Seconds that a write may wait in a unit that can be run again, after its locks were taken:
#: LOCKS rule R13. It never does where everything is covered.
TRIPWIRE = 0.01
#: After so many trips the unit waits as long as a plain block does: what it waits for is nothing
#: that the next attempt could lock first, such as a unique value that another one is inserting.
PATIENT_AFTER = 3
#: Of one table in one statement, which grows with the square of them; more of them are locked as
#: one run, as strongly as the strongest.
MOST_RUNS = 8
#: After so many, as long as the caller allows: it is a queue, and if it is a circle after all, the
#: server's detector ends it.
DETECTED_AFTER = 5


def acquire(
    tx: CoreTransaction, wants: Wants, *, wait: Wait = Wait.BLOCK, timeout: float | None = None
) -> None:
    """Lock what is not held yet. Rows that don't exist are passed over.

    `wait`: BLOCK lets each lock that is in order wait, up to `timeout` seconds (None: the
    transaction's own lock_timeout); late ones never wait. NOWAIT and SKIP wait for none.
    Raises `LateLockError` where a late lock was refused; otherwise the database's own error.
    """
    if not wants:
        return
    unit = tx.unit
    if not can_lock(unit):
        return
    # The first statement locks what earlier attempts have learnt: plans are made after it.
    connection = connection_of(tx)
    plan = unit.book.plan(wants)
    if not plan.late and not plan.in_order:
        return
    if wait is Wait.BLOCK:
        take_planned(unit, connection, plan, timeout)
        return
    everything = dict(sorted({**plan.late, **plan.in_order}.items()))
    during = guard(tx, wait, everything.values())
    take(unit, connection, everything, wait, during, is_answer=wait is Wait.NOWAIT)


def acquire_known(tx: CoreTransaction, wants: Wants) -> None:
    """`acquire` for rows that were there just now: those that are not are asked for once more.

    Who waits for a row that is deleted and inserted again by one transaction does not see the new
    one; the write that follows would, and would lock it unknown to the book (LOCKS class 23).
    """
    acquire(tx, wants)
    acquire(tx, tx.unit.book.missing(wants))


def guard(tx: CoreTransaction, wait: Wait, strengths: Iterable[Strength]) -> float | None:
    """Limit the waits of a request that asks for none; the seconds that one may last all the same.

    It waits for a table that others keep for themselves, and with KEY SHARE for some rows (LOCKS
    class 25). None, no limit: who holds nothing may wait for the table while it skips rows.
    """
    if tx.unit.book.top is not None:
        limit_waits(tx.unit, connection_of(tx))
    elif wait is Wait.SKIP and Strength.KEY_SHARE not in strengths:
        return None
    return GUARD


def take_planned(
    unit: Unit, connection: Connection, plan: Plan, timeout: float | None = None
) -> None:
    """The late ones without waiting, the others in order. Raises `LateLockError`."""
    if plan.late:
        # The query takes the tables' locks before its own limit holds, and NOWAIT is not for them.
        limit_waits(unit, connection)
        late = plan.late
        with_late(unit, late, lambda: take(unit, connection, late, Wait.NOWAIT, GUARD))
    if plan.in_order:
        is_answer = timeout is not None
        take(unit, connection, plan.in_order, Wait.BLOCK, timeout, is_answer=is_answer)


def can_lock(unit: Unit) -> bool:
    """False where there is nothing to lock. Raises `ConfigurationError` where none knows how."""
    rules = unit.home.rules
    if not rules.locks_rows and not rules.one_writer:
        raise ConfigurationError(
            f"Rows and names can't be locked on {rules.dialect.name} yet.",
            "use SQLAlchemy's with_for_update() there, in one order of your own.",
        )
    return rules.locks_rows


def with_late(unit: Unit, wants: Wants, request: Callable[[], Any]) -> Any:
    """Make a late request; a refusal becomes `LateLockError`."""
    unit.is_trying = True
    try:
        return request()
    except exc.DBAPIError as error:
        if sqlstate_in(error) != LOCK_NOT_AVAILABLE:
            raise
        refuse_own_rows(unit, wants)
        raise late_lock(unit, wants) from error
    finally:
        unit.is_trying = False


def take(
    unit: Unit,
    connection: Connection,
    wants: Wants,
    wait: Wait,
    during: float | None = None,
    *,
    is_answer: bool = False,
) -> None:
    """Send one lock query for `wants`, which are sorted, and book what came back.

    `during`: seconds that each lock may be waited for. `is_answer`: see `locking`.
    Two queries if names are among them: a query has the locks of all of its tables while it waits
    for its first row, and names come before tables.
    """
    names = {resource: how for resource, how in wants.items() if resource.rank == NAMES}
    if 0 < len(names) < len(wants):
        others = {resource: how for resource, how in wants.items() if resource not in names}
        take(unit, connection, names, wait, during, is_answer=is_answer)
        take(unit, connection, others, wait, during, is_answer=is_answer)
        return
    runs = list(_runs(wants))
    tables = [None if names else unit.home.tables.table_of(rows[0]) for _, rows in runs]
    steps: list[Step] = []
    parameters = limits(unit, during).parameters()
    for number, (table, (strength, rows)) in enumerate(zip(tables, runs, strict=True)):
        steps.append(step_for(table, strength, len(rows)))
        keys = [each.order if names else each.key for each in rows]
        parameters |= rows_parameters(number, steps[-1], keys)
    statement = lock_statement(tuple(steps), wait)
    with locking(unit, wants, is_answer=is_answer):
        found = answer(connection.execute(statement, parameters), len(steps))
    note(unit, found.transaction_id, found.lock_timeout)
    place = unit.called_at()
    for (strength, rows), got in zip(runs, found.locked, strict=True):
        unit.book.touch(rows[0].rank)
        for at in got:
            unit.book.record(rows[at], strength, place)
    refused = {} if wait is Wait.BLOCK else unit.book.missing(names)
    if refused:
        refuse_own_rows(unit, refused)
        raise late_lock(unit, refused)


def _runs(wants: Wants) -> Iterator[tuple[Strength, list[Resource]]]:
    """Neighbours that are locked alike, in order. The statement has a part for each run."""
    for _, of_table in itertools.groupby(wants.items(), lambda want: want[0].rank):
        rows = list(of_table)
        runs = [
            (strength, [resource for resource, _ in run])
            for strength, run in itertools.groupby(rows, lambda want: want[1])
        ]
        if len(runs) > MOST_RUNS:
            strongest = max(strength for strength, _ in runs)
            runs = [(strongest, [resource for resource, _ in rows])]
        yield from runs


def take_and_load(
    unit: Unit,
    table: Table,
    strength: Strength,
    resources: Sequence[Resource],
    send: Callable[[Step, bool, Parameters], Sequence[Any]],
    during: float | None = None,
    is_answer: bool = False,
) -> dict[tuple[Any, ...], Any]:
    """Lock rows of one table, sorted, by a `load_statement`; what came beside its facts, by key.

    `send(step, limited, parameters)` makes it and fetches its rows, facts last.
    """
    step = step_for(table, strength, len(resources))
    parameters = limits(unit, during).parameters()
    parameters |= rows_parameters(0, step, [each.key for each in resources])
    with locking(unit, dict.fromkeys(resources, strength), is_answer=is_answer):
        rows = send(step, parameters["during"] is not None, parameters)
    unit.book.touch(resources[0].rank)
    place = unit.called_at()
    found: dict[tuple[Any, ...], Any] = {}
    for *values, at, noted in rows:
        if noted is not None:
            note(unit, *read_note(noted))
        if at is None:  # there is no such row
            continue
        resource = resources[at - 1]
        unit.book.record(resource, strength, place)
        found[resource.key] = values
    return found


def limits(unit: Unit, during: float | None) -> Limits:
    """The lock_timeout while a lock query waits, and afterwards."""
    patience = unit.settings.lock_timeout
    if during is None:
        during = patience
    return Limits(during=during, after=_tripwire(unit), session=unit.session_lock_timeout)


def limit_waits(unit: Unit, connection: Connection) -> None:
    """From now on a wait ends before the server looks for a deadlock; unless that is so already."""
    if unit.tripwire_is_set:
        return
    # While nothing else is held, the wait may well be one behind another unit, which ends.
    after = _tripwire(unit) if unit.book.top is not None else None
    _set_limit(unit, connection, after)
    unit.waits_are_limited = unit.tripwire_is_set = True


def allow_waits(unit: Unit, connection: Connection) -> None:
    """Take back the tripwire that a lock query has left behind, for a wait that is in order."""
    if unit.tripwire_is_set:
        _set_limit(unit, connection, unit.settings.lock_timeout or _FOREVER)
        unit.tripwire_is_set = False


def _tripwire(unit: Unit) -> float | None:
    patience = unit.settings.lock_timeout
    if unit.story is not None and unit.story.trips >= DETECTED_AFTER:
        return patience or _FOREVER
    if unit.story is None or unit.story.trips >= PATIENT_AFTER:
        return None
    return min(TRIPWIRE, patience or TRIPWIRE)


def _set_limit(unit: Unit, connection: Connection, after: float | None) -> None:
    limits = Limits(after=after, session=unit.session_lock_timeout).parameters()
    parameters = {"after": limits["after"], "session": limits["session"]}
    with locking(unit):
        was, _ = connection.execute(limit_statement(), parameters).one()
    if unit.session_lock_timeout is None:
        unit.session_lock_timeout = was


#: Seconds; the server takes no more.
_FOREVER = 2_147_483.0


def note(unit: Unit, transaction_id: str, lock_timeout: str) -> None:
    """What a lock query told beside its rows."""
    unit.transaction_id = transaction_id
    if unit.session_lock_timeout is None:
        unit.session_lock_timeout = lock_timeout
    unit.waits_are_limited = unit.tripwire_is_set = True


class locking:
    """While the unit sends a lock query of its own, which its book tells better than the text.

    `asked`: what it locks. `is_answer`: its caller has said how long it may wait, so that a refusal
    is the answer.
    """

    def __init__(self, unit: Unit, asked: Wants = NOTHING, *, is_answer: bool = False) -> None:
        self._unit = unit
        self._asked = asked
        self._is_answer = is_answer

    def __enter__(self) -> None:
        self._unit.is_locking = True
        self._unit.asking = self._asked

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._unit.is_locking = False
        self._unit.asking = NOTHING
        if self._is_answer and error is not None:
            self._unit.refusal = error


def connection_of(tx: CoreTransaction) -> Connection:
    """The unit's connection, which its first statement checks out."""
    if tx.unit.connection is None or tx.in_nested_transaction():
        # SQLAlchemy sends a SAVEPOINT when its first statement asks for the connection. Locks that
        # were taken before it would outlive ROLLBACK TO, after which the book forgets them.
        return Session.connection(tx)
    return tx.unit.connection

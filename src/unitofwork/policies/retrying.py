"""Which errors a unit may be run again for, and how often; pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from ..errors import ConfigurationError


class Fate(enum.Enum):
    """What an error means for running the unit again."""

    #: Nothing was done, and the next attempt may well succeed.
    RETRY = "retry"
    #: The same, but the database is in trouble: retries must not add to its load.
    RETRY_WITHIN_BUDGET = "retry within the budget"
    #: The same, but the pool's connections lead to a server that can't do it.
    RETRY_ON_NEW_CONNECTIONS = "retry on new connections"
    #: Says nothing by itself; look at what caused it.
    UNDECIDED = "undecided"
    #: Not by itself; a policy's `on` may know better.
    NEVER = "never"
    #: It may be done already, or was not meant to go on: nothing may run it again.
    FINAL = "final"


class Symptom(NamedTuple):
    """One error of a chain, as far as a driver tells."""

    sqlstate: str | None = None
    #: MySQL's and MariaDB's error number, SQLite's primary result code.
    mysql: int | None = None
    sqlite: int | None = None
    #: SQLAlchemy has dropped the connection because of it.
    connection_lost: bool = False
    #: A prepared statement's plan went stale under a migration.
    cached_plan: bool = False


#: https://www.postgresql.org/docs/current/errcodes-appendix.html; a prefix stands for its class.
_BY_SQLSTATE = MappingProxyType(
    {
        "40001": Fate.RETRY,  # serialization_failure
        "40P01": Fate.RETRY,  # deadlock_detected
        "55P03": Fate.RETRY,  # lock_not_available
        "26000": Fate.RETRY,  # invalid_sql_statement_name: behind a pooler
        "25006": Fate.RETRY_ON_NEW_CONNECTIONS,  # read_only_sql_transaction: after a failover
        "57P01": Fate.RETRY_WITHIN_BUDGET,  # admin_shutdown
        "57P02": Fate.RETRY_WITHIN_BUDGET,  # crash_shutdown
        "57P03": Fate.RETRY_WITHIN_BUDGET,  # cannot_connect_now
        "08": Fate.RETRY_WITHIN_BUDGET,  # connection exceptions
        "25P03": Fate.NEVER,  # idle_in_transaction_session_timeout: it would idle again
        "25P04": Fate.NEVER,  # transaction_timeout
        "25P02": Fate.UNDECIDED,  # in_failed_sql_transaction: what failed before decides
    }
)
#: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
_BY_MYSQL = MappingProxyType(
    {
        1213: Fate.RETRY,  # ER_LOCK_DEADLOCK, also a Galera conflict at COMMIT
        1205: Fate.RETRY,  # ER_LOCK_WAIT_TIMEOUT
        1290: Fate.RETRY_ON_NEW_CONNECTIONS,  # ER_OPTION_PREVENTS_STATEMENT: read_only
        1792: Fate.NEVER,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: the unit's own choice
        1047: Fate.RETRY_WITHIN_BUDGET,  # a Galera node that has left its cluster
        1053: Fate.RETRY_WITHIN_BUDGET,  # ER_SERVER_SHUTDOWN
        2006: Fate.RETRY_WITHIN_BUDGET,  # CR_SERVER_GONE_ERROR
        2013: Fate.RETRY_WITHIN_BUDGET,  # CR_SERVER_LOST
    }
)
#: https://www.sqlite.org/rescode.html: SQLITE_BUSY, SQLITE_LOCKED.
_BY_SQLITE = MappingProxyType({5: Fate.RETRY, 6: Fate.RETRY})


def fate_of(symptom: Symptom) -> Fate:
    """What one error of a chain means by itself."""
    if symptom.cached_plan:
        return Fate.RETRY
    if symptom.mysql is not None and symptom.mysql in _BY_MYSQL:
        return _BY_MYSQL[symptom.mysql]
    if symptom.sqlite is not None:
        return _BY_SQLITE.get(symptom.sqlite & 0xFF, Fate.UNDECIDED)
    state = symptom.sqlstate
    if state is not None:
        known = _BY_SQLSTATE.get(state) or _BY_SQLSTATE.get(state[:2])
        if known is not None:
            return known
        if not symptom.connection_lost:
            return Fate.NEVER
    return Fate.RETRY_WITHIN_BUDGET if symptom.connection_lost else Fate.UNDECIDED


def all_of(fates: list[Fate]) -> Fate:
    """Of the errors of an exception group: the unit is run again only if each allows it."""
    for fate in (Fate.FINAL, Fate.NEVER, Fate.UNDECIDED, Fate.RETRY_ON_NEW_CONNECTIONS):
        if fate in fates:
            return fate
    return Fate.RETRY_WITHIN_BUDGET if Fate.RETRY_WITHIN_BUDGET in fates else Fate.RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a unit is run again, and after which waits; times in seconds.

    `attempts`: in all. `timeout`: no attempt begins later than this after the first.
    `wait_initial`, `wait_max`: before attempt n + 1 a random time up to
    `min(wait_max, wait_initial * 2 ** (n - 1))` is waited (full jitter:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    `on`: a further error to retry on, where `on(error)` is true; it must leave nothing done.
    Raises `ConfigurationError`.
    """

    attempts: int = 8
    timeout: float = 30.0
    wait_initial: float = 0.01
    wait_max: float = 1.0
    on: Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ConfigurationError(
                f"RetryPolicy(attempts={attempts!r}) is not a count.", "pass an int from 1."
            )
        for name in ("timeout", "wait_initial", "wait_max"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not (0 <= value < math.inf):
                raise ConfigurationError(
                    f"RetryPolicy({name}={value!r}) is not a number of seconds.",
                    "pass seconds from 0.",
                )
        if self.on is not None and not callable(self.on):
            raise ConfigurationError(
                f"RetryPolicy(on={self.on!r}) can't be called.",
                "pass a function that takes the error and says whether to retry.",
            )


class RetryBudget:
    """Bounds what retries add to the load of a database in trouble, to a share of the units.

    Each unit earns `share` of a retry, up to `reserve` saved ones.
    """

    def __init__(self, share: float = 0.1, reserve: float = 20.0) -> None:
        self._share = share
        self._reserve = reserve
        self._saved = reserve

    def earn(self) -> None:
        """A unit begins its first attempt."""
        self._saved = min(self._reserve, self._saved + self._share)

    def spend(self) -> bool:
        """Whether one more retry is within the budget; it is spent then."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

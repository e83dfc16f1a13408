"""Short scoped transactions for SQLAlchemy, async and sync, that never exhaust the pool."""

from .core.attempts import Attempt, set_testing
from .errors import (
    AcquireTimeoutError,
    CommitUnknownError,
    ConcurrentUseError,
    ConfigurationError,
    ConnectionLeakWarning,
    HeldWhileWaitingWarning,
    LateLockError,
    NestedUnitError,
    NoUnitError,
    PoolDeadlockError,
    PoolSizingError,
    PropagationError,
    RetriesExceededError,
    RowNotFoundError,
    SilentRollbackError,
    StaleReadError,
    TransactionReleasedError,
    TransactionStateError,
    UnitOfWorkError,
    UnitTimeoutError,
    UnorderedWriteError,
    UnsavedWorkError,
)
from .faces.async_transaction import AsyncTransaction
from .faces.async_uow import AsyncUnitOfWork
from .faces.sync_transaction import Transaction
from .faces.sync_uow import UnitOfWork
from .policies.lock_report import LockOrderReport
from .policies.retrying import RetryPolicy
from .policies.shedding import Shedding
from .transactional import current, transactional
from .types import (
    CURRENT,
    Finding,
    Holder,
    IsolationLevel,
    LockStrength,
    Outcome,
    Place,
    PoolStats,
    Propagation,
    StaleColumn,
)

__all__ = [
    "CURRENT",
    "AcquireTimeoutError",
    "AsyncTransaction",
    "AsyncUnitOfWork",
    "Attempt",
    "CommitUnknownError",
    "ConcurrentUseError",
    "ConfigurationError",
    "ConnectionLeakWarning",
    "Finding",
    "HeldWhileWaitingWarning",
    "Holder",
    "IsolationLevel",
    "LateLockError",
    "LockOrderReport",
    "LockStrength",
    "NestedUnitError",
    "NoUnitError",
    "Outcome",
    "Place",
    "PoolDeadlockError",
    "PoolSizingError",
    "PoolStats",
    "Propagation",
    "PropagationError",
    "RetriesExceededError",
    "RetryPolicy",
    "RowNotFoundError",
    "Shedding",
    "SilentRollbackError",
    "StaleColumn",
    "StaleReadError",
    "Transaction",
    "TransactionReleasedError",
    "TransactionStateError",
    "UnitOfWork",
    "UnitOfWorkError",
    "UnitTimeoutError",
    "UnorderedWriteError",
    "UnsavedWorkError",
    "current",
    "set_testing",
    "transactional",
]

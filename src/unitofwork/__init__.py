"""Short scoped transactions for SQLAlchemy, async and sync, that never exhaust the pool."""

from .core.transaction import Transaction
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
from .faces.async_unit import AsyncTransaction
from .faces.async_uow import AsyncUnitOfWork
from .faces.sync_uow import UnitOfWork
from .transactional import current, transactional
from .types import CURRENT, IsolationLevel, Outcome, Place, Propagation

__all__ = [
    "CURRENT",
    "AcquireTimeoutError",
    "AsyncTransaction",
    "AsyncUnitOfWork",
    "CommitUnknownError",
    "ConcurrentUseError",
    "ConfigurationError",
    "ConnectionLeakWarning",
    "HeldWhileWaitingWarning",
    "IsolationLevel",
    "LateLockError",
    "NestedUnitError",
    "NoUnitError",
    "Outcome",
    "Place",
    "PoolDeadlockError",
    "PoolSizingError",
    "Propagation",
    "PropagationError",
    "RetriesExceededError",
    "RowNotFoundError",
    "SilentRollbackError",
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
    "transactional",
]

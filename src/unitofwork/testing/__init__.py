"""Helpers for testing code that uses units of work; nothing here is imported by the library."""

from .cancellation import WAYS, Cut, Way, cancel_at, cancel_at_each_suspension
from .locks import Hole, LockAudit, audit_locks
from .postgres import EmbeddedPostgres, EmbeddedPostgresError

__all__ = [
    "WAYS",
    "Cut",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "Hole",
    "LockAudit",
    "Way",
    "audit_locks",
    "cancel_at",
    "cancel_at_each_suspension",
]

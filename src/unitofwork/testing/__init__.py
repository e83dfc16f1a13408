"""Helpers for testing code that uses units of work; nothing here is imported by the library."""

from .cancellation import WAYS, Cut, Way, cancel_at, cancel_at_each_suspension
from .postgres import EmbeddedPostgres, EmbeddedPostgresError

__all__ = [
    "WAYS",
    "Cut",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "Way",
    "cancel_at",
    "cancel_at_each_suspension",
]

"""The SQLSTATEs of PostgreSQL that something here depends on.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

DEADLOCK_DETECTED = "40P01"
#: Of NOWAIT, and of lock_timeout.
LOCK_NOT_AVAILABLE = "55P03"
#: What failed before decides.
IN_FAILED_TRANSACTION = "25P02"

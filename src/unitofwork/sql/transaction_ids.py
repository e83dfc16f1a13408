"""By what PostgreSQL knows a transaction after its connection is lost."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, cast, exc, func, literal_column, text

from .symptoms import sqlstate_of

# An id alone is not enough. After a crash or a failover the server gives ids again that it had
# given to transactions whose WAL was lost, and another transaction's commit would be taken for
# ours. The time that its statistics began at changes with each crash and is another one on each
# server, but survives an orderly restart. (It also changes when somebody resets them.)
_LIFE = "coalesce(extract(epoch from pg_stat_get_bgwriter_stat_reset_time())::text, '')"
_SPLIT = "@"
_FATE = text(
    f"SELECT pg_xact_status(CAST(CAST(:id AS text) AS xid8)), {_LIFE}, pg_is_in_recovery()"
)
_INVALID_PARAMETER = "22023"  # "transaction ID is in the future"


def known_as(xid: ColumnElement[Any]) -> ColumnElement[str]:
    """What to select beside other columns: `xid`, an xid8, and the life of the server."""
    split = literal_column(f"'{_SPLIT}'", Text)
    return cast(xid, Text).concat(split).concat(literal_column(_LIFE, Text))


def fate(connection: Connection, transaction_id: str) -> str | None:
    """What became of it: "committed", "aborted", "in progress"; None if that can't be told."""
    xid, _, life = transaction_id.partition(_SPLIT)
    try:
        status, life_now, is_standby = connection.execute(_FATE, {"id": xid}).one()
    except exc.DBAPIError as error:
        if error.orig is not None and sqlstate_of(error.orig) == _INVALID_PARAMETER:
            # Its id was not given yet in this server's life: the transaction went with the last.
            return "aborted"
        raise
    return judged(status, same_life=life == life_now, is_standby=is_standby)


def judged(status: str | None, *, same_life: bool, is_standby: bool) -> str | None:
    """What the status of an id says about the transaction that had it when the COMMIT was lost."""
    if is_standby:
        return "in progress"  # it may not have heard of the end yet
    if status == "committed" and not same_life:
        return None  # ours, or another's that was given the same id
    return status


#: Of the transaction that asks; NULL if it has written and locked nothing.
ASSIGNED = func.pg_current_xact_id_if_assigned()

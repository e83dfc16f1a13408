"""Locks of whole tables on PostgreSQL, against every other writer and locker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ClauseElement, Executable, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler


class _LockTables(Executable, ClauseElement):
    """Compiled, so that `schema_translate_map` holds for it too."""

    inherit_cache = False

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tables


@compiles(_LockTables)
def _compile_lock_tables(element: _LockTables, compiler: SQLCompiler, **_: Any) -> str:
    names = (compiler.preparer.format_table(table).replace("'", "''") for table in element.tables)
    listed = ", ".join(f"'{name}'" for name in names)
    return _LOCK_TABLES.replace(":names", listed).replace(":count", str(len(element.tables)))


#: What `lock_tables` begins with.
LOCKS_TABLES = "DO $uow_tables$"
# In the server, so that nothing but the waits takes time. Whoever waits behind this in the line of
# a table has a timer of its own, which finds a circle deadlock_timeout after it came: so all is let
# go of after half of that, and begun anew, for as long as lock_timeout allows.
_LOCK_TABLES = (
    LOCKS_TABLES
    + """
DECLARE
    name text;
    begun timestamptz := clock_timestamp();
    allowed interval := nullif(current_setting('lock_timeout'), '0');
    patience int := extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000 / 4;
BEGIN
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', greatest(1, patience)::text, true);
            FOREACH name IN ARRAY ARRAY[:names] LOOP
                EXECUTE 'LOCK TABLE ' || name || ' IN EXCLUSIVE MODE';
                PERFORM set_config('lock_timeout', greatest(1, patience / :count)::text, true);
            END LOOP;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() - begun > allowed THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END $uow_tables$"""
)


def lock_tables(tables: Sequence[Table]) -> Executable:
    """Locks them all against every other writer and locker, but no reader.

    All or none: what is not to be had before the server would look for a deadlock is tried anew,
    with nothing held in between.
    """
    return _LockTables(tables)

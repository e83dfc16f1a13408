"""What the server tells about a wait that it has ended: the table, and both sides of a deadlock."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .symptoms import causes


class Telling(NamedTuple):
    """The further parts of a PostgreSQL error."""

    detail: str | None
    hint: str | None
    context: str | None

    def __str__(self) -> str:
        return "\n".join(part for part in self if part)


_NOTHING = Telling(None, None, None)
#: while updating tuple (0,1) in relation "stat": in any language the pair and the quoted name.
_TUPLE = re.compile(r"\(\d+,\d+\)")
#: Process 17 waits for ShareLock on transaction 4711; also Prozess, processus, proceso.
_PROCESS = re.compile(r"\bpro[cz]es\w*\s+(\d+)", re.IGNORECASE)
#: while inserting index tuple (0,1); checking exclusion constraint on tuple: of ON CONFLICT, too.
_VALUE = re.compile(
    "ind[eií]|índ|exclu|индекс|исключ|インデックス|排他|索引|排除|인덱스|제외", re.IGNORECASE
)
_NAME = re.compile(r"[\"«„“「](.+?)[\"»“”」]")


def telling_of(error: BaseException) -> Telling:
    """What the server said beside its message, through SQLAlchemy's and the driver's wrappers."""
    tellings = map(_telling_of_one, causes(error))
    return next((one for one in tellings if one is not _NOTHING), _NOTHING)


def processes_in(error: BaseException) -> list[int]:
    """The backends in a deadlock, each once, that of the victim first."""
    detail = telling_of(error).detail or ""
    return list(dict.fromkeys(int(number) for number in _PROCESS.findall(detail)))


def place_of_wait(error: BaseException) -> str | None:
    """The table whose row was waited for, as far as the server names it."""
    context = telling_of(error).context
    # The innermost call comes first: a foreign key's check inside of the statement.
    line = context.partition("\n")[0] if context else ""
    found = _NAME.search(line) if _TUPLE.search(line) else None
    return found.group(1) if found else None


def waits_for_value(error: BaseException) -> bool:
    """Whether it was for another one's end who has inserted the same unique value."""
    context = telling_of(error).context or ""
    return _VALUE.search(_NAME.sub("", context.partition("\n")[0])) is not None


def _telling_of_one(error: BaseException) -> Telling:
    diagnosis: Any = getattr(error, "diag", None)  # psycopg's
    if getattr(diagnosis, "sqlstate", None):
        return Telling(diagnosis.message_detail, diagnosis.message_hint, diagnosis.context)
    if type(error).__module__.partition(".")[0] == "asyncpg":
        values = (getattr(error, name, None) for name in Telling._fields)
        return Telling(*(value if isinstance(value, str) else None for value in values))
    return _NOTHING

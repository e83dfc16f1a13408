"""Every configuration of the model that is checked, and what must be found."""

from __future__ import annotations

from typing import NamedTuple

from .spin import Ask, Found

DEADLOCK, LIVELOCK = Ask.DEADLOCK, Ask.LIVELOCK


class Check(NamedTuple):
    """One run of spin. `long`: not in the default run, for its size."""

    flags: str
    ask: Ask
    expected: Found
    long: bool = False


def holds(flags: str, *asks: Ask, long: bool = False) -> list[Check]:
    return [Check(flags, ask, Found.NOTHING, long) for ask in asks or (DEADLOCK,)]


def fails(flags: str, expected: Found, *, long: bool = False) -> list[Check]:
    ask = LIVELOCK if expected is Found.LIVELOCK else DEADLOCK
    return [Check(flags, ask, expected, long)]


ROWS = [
    *holds("K=2", DEADLOCK, LIVELOCK),
    *holds("K=3", DEADLOCK, LIVELOCK, long=True),
    *fails("K=3 BOUND=1", Found.TOO_MANY_RESTARTS),
    *fails("K=2 NAIVE", Found.DEADLOCK),
    *fails("K=2 NOWAIT_BLIND", Found.LIVELOCK),
]
MODES = [
    *holds("K=2 MODES", DEADLOCK, LIVELOCK, long=True),
    *fails("K=2 MODES NAIVE_UPGRADE", Found.DEADLOCK),
    *holds("K=2 NR=2 NT=2 PGMODES", DEADLOCK, LIVELOCK),
    *holds("K=3 NR=2 NT=2 PGMODES", DEADLOCK, long=True),
    *holds("K=2 NR=2 PGMODES", DEADLOCK, long=True),
    *fails("K=2 NR=2 NT=2 PGMODES NAIVE_UPGRADE", Found.DEADLOCK),
    *fails("K=2 NR=2 NT=2 PGMODES NAIVE_NOWAIT", Found.DEADLOCK),
]
POOL = [
    *holds("K=3 CONNS=2", DEADLOCK),
    *holds("K=3 CONNS=2", LIVELOCK, long=True),
    *fails("K=3 CONNS=2 NAIVE_POOL", Found.DEADLOCK),
    *holds("K=2 CONNS=2 POOL=6 INNER", DEADLOCK, long=True),
    *holds("K=2 CONNS=2 POOL=4 NT=2 INNER", DEADLOCK),
    *fails("K=2 CONNS=2 POOL=6 INNER NAIVE_INNER", Found.DEADLOCK),
    *fails("K=2 CONNS=2 POOL=4 NT=2 INNER", Found.LIVELOCK),
]
NAMES = [
    *holds("K=2 NAMES", DEADLOCK),
    *holds("K=2 NAMES", LIVELOCK, long=True),
    *holds("K=3 NAMES", DEADLOCK, long=True),
    *fails("K=2 NAMES NAIVE_NAMES", Found.DEADLOCK),
    *fails("K=2 NAMES NO_NAMES", Found.DEADLOCK),
]
BOOK = [
    *holds("K=3 NT=2 SAVEPOINT", DEADLOCK),
    *holds("K=3 NT=2 SAVEPOINT", LIVELOCK, long=True),
    *holds("K=3 NR=2 SAVEPOINT", DEADLOCK, long=True),
    *fails("K=3 NT=2 SAVEPOINT BOOK_KEPT", Found.DEADLOCK),
    *fails("K=3 NT=2 SAVEPOINT LOCKS_KEPT", Found.DEADLOCK),
    *holds("K=3 NT=2 ABSENT", DEADLOCK),
    *holds("K=3 NT=2 ABSENT", LIVELOCK, long=True),
    *fails("K=3 NT=2 ABSENT BOOK_ABSENT", Found.DEADLOCK),
]
FOOTPRINT = [
    *holds("K=2 BOUND=2 TRIGGER DECLARED", DEADLOCK),
    *holds("K=2 BOUND=2 TRIGGER DECLARED", LIVELOCK, long=True),
    *fails("K=2 TRIGGER", Found.DEADLOCK),
]
TRIPWIRE = [
    *holds("K=2 NAIVE TRIPWIRE", DEADLOCK),
    *holds("K=3 NAIVE TRIPWIRE", DEADLOCK, long=True),
    *holds("K=2 TRIGGER TRIPWIRE", DEADLOCK),
    *holds("K=2 NAMES NO_NAMES TRIPWIRE", DEADLOCK),
    *holds("K=3 NT=2 SAVEPOINT BOOK_KEPT TRIPWIRE", DEADLOCK, long=True),
    *holds("K=3 NT=2 ABSENT BOOK_ABSENT TRIPWIRE", DEADLOCK, long=True),
    *fails("K=2 TRIGGER TRIPWIRE", Found.LIVELOCK),
]
SERIAL = [
    *holds("K=2 BOUND=2 DYNAMIC", DEADLOCK),
    *holds("K=2 BOUND=2 DYNAMIC", LIVELOCK, long=True),
    *fails("K=2 NR=4 BOUND=2 TABLES DYNAMIC", Found.TOO_MANY_RESTARTS, long=True),
    *holds("K=2 NR=4 BOUND=2 TABLES DYNAMIC SERIAL=1", DEADLOCK, long=True),
    *fails("K=2 TABLES DYNAMIC FRESH", Found.LIVELOCK),
    *holds("K=2 TABLES DYNAMIC FRESH SERIAL=1", DEADLOCK, LIVELOCK),
    *holds("K=2 NR=4 TABLES DYNAMIC FRESH SERIAL=1", DEADLOCK, LIVELOCK, long=True),
    *fails("K=2 TABLES DYNAMIC FRESH SERIAL=1 NAIVE_TABLES", Found.DEADLOCK),
    *holds("K=2 TABLES DYNAMIC FRESH SERIAL=1 ABSENT", DEADLOCK, long=True),
    *holds("K=2 TABLES DYNAMIC FRESH SERIAL=1 ABSENT UNCOUNTED_TABLE", DEADLOCK, long=True),
    *holds("K=2 TABLES DYNAMIC FRESH SERIAL=1 ABSENT NAIVE_SERIAL", DEADLOCK, long=True),
    *fails("K=2 TABLES DYNAMIC FRESH SERIAL=1 ABSENT UNCOUNTED_TABLE NAIVE_SERIAL", Found.DEADLOCK),
    *holds("K=2 NT=2 TABLES DYNAMIC FRESH SERIAL=1 INSERTS", DEADLOCK, LIVELOCK),
    *holds("K=2 TABLES DYNAMIC FRESH SERIAL=1 INSERTS", DEADLOCK, LIVELOCK, long=True),
    *fails("K=2 TABLES DYNAMIC FRESH SERIAL=1 INSERTS NAIVE_SERIAL", Found.DEADLOCK),
]
GROUPS = {
    "Rows": ROWS,
    "Modes": MODES,
    "Pool and inner units": POOL,
    "Names": NAMES,
    "The book": BOOK,
    "Footprint": FOOTPRINT,
    "Tripwire": TRIPWIRE,
    "Tables and the serial mode": SERIAL,
}
CHECKS = [check for group in GROUPS.values() for check in group]

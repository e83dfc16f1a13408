"""What the load was told about each unit, to be compared with what the database has."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Engine, text

from unitofwork import Outcome

#: Hot: every unit waits for one of these rows.
COUNTERS = 8
TABLES = (
    "CREATE TABLE counter (id int PRIMARY KEY, value int NOT NULL)",
    f"INSERT INTO counter SELECT i, 0 FROM generate_series(1, {COUNTERS}) i",
    # No key: what is done twice shows twice.
    "CREATE TABLE entry (id int NOT NULL, counter int NOT NULL)",
)


@dataclass(frozen=True)
class Told:
    """The end of one increment, as the caller saw it."""

    kind: str
    outcome: Outcome
    error: str
    #: The longest that one attempt took.
    seconds: float


class Books:
    """Increments by number; filled by tasks and threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self.told: dict[int, Told] = {}

    def number(self) -> int:
        """The next increment's."""
        with self._lock:
            self._next += 1
            return self._next

    def differences(self, rows: Engine) -> list[str]:
        """Where the reports and the rows don't agree; empty if all is well."""
        with rows.connect() as connection:
            found = Counter(connection.scalars(text("SELECT id FROM entry")))
            uneven = connection.execute(
                text(
                    "SELECT c.id, c.value, count(e.id) FROM counter c "
                    "LEFT JOIN entry e ON e.counter = c.id GROUP BY c.id, c.value "
                    "HAVING c.value <> count(e.id)"
                )
            ).all()
        wrong = [f"counter {id}: {value}, but {count} entries" for id, value, count in uneven]
        wrong += [f"{number} was begun, and nothing was told of it" for number in self._untold()]
        for number, told in sorted(self.told.items()):
            allowed = {
                Outcome.COMMITTED: (1,),
                Outcome.ROLLED_BACK: (0,),
                Outcome.UNKNOWN: (0, 1),
            }[told.outcome]
            if found[number] not in allowed:
                wrong.append(f"{number} is there {found[number]} times: {told}")
        return wrong

    def _untold(self) -> list[int]:
        return sorted(set(range(1, self._next + 1)) - self.told.keys())

    def summary(self) -> str:
        """A line for each kind of unit, and one for the errors."""
        lines = []
        for kind in sorted({told.kind for told in self.told.values()}):
            mine = [told for told in self.told.values() if told.kind == kind]
            outcomes = Counter(told.outcome.value for told in mine)
            counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            slowest = max(told.seconds for told in mine)
            lines.append(f"{kind:22} {len(mine):6} units: {counts}; the slowest {slowest:.1f} s")
        errors = Counter(told.error for told in self.told.values() if told.error)
        lines.append("errors: " + ", ".join(f"{n} {name}" for name, n in errors.most_common()))
        return "\n".join(lines)

"""Where a recorder hears of statements: of one engine, or of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultExecutionContext

#: Is told the execution context of a statement.
Sent = Callable[[Any], None]


class _Recorded(DefaultExecutionContext):
    """Tells of a statement before it is sent.

    Not by `before_cursor_execute`: one listener to an engine has SQLAlchemy dispatch all of its
    events for every statement and connection, which costs more than all that the recorder does.
    """

    told: ClassVar[list[Sent]]

    def pre_exec(self) -> None:
        super().pre_exec()  # type: ignore[no-untyped-call]
        for sent in self.told:
            sent(self)


class Statements:
    """Those of an engine and its copies, or of all engines when given the class `Engine`."""

    def __init__(self, engine: Engine | type[Engine], sent: Sent) -> None:
        self._engine = engine
        self._sent = sent

    def attach(self) -> None:
        """Begin to listen."""
        if isinstance(self._engine, Engine):
            told = _told(self._engine)
            if self._sent not in told:
                told.append(self._sent)
        elif not event.contains(self._engine, "before_cursor_execute", self._heard):
            event.listen(self._engine, "before_cursor_execute", self._heard)

    def detach(self) -> None:
        """Stop listening."""
        if isinstance(self._engine, Engine):
            told = _told(self._engine)
            if self._sent in told:
                told.remove(self._sent)
        elif event.contains(self._engine, "before_cursor_execute", self._heard):
            event.remove(self._engine, "before_cursor_execute", self._heard)

    def _heard(self, conn: Any, cursor: Any, sql: Any, values: Any, context: Any, *_: Any) -> None:
        self._sent(context)


def _told(engine: Engine) -> list[Sent]:
    """Who is told of an engine's statements."""
    dialect = engine.dialect
    base: Any = dialect.execution_ctx_cls
    if not issubclass(base, _Recorded):
        # It stays when nobody listens any more: others may have put theirs on top of it.
        base = type(base.__name__, (_Recorded, base), {"told": []})
        dialect.execution_ctx_cls = base
    told: list[Sent] = base.told
    return told

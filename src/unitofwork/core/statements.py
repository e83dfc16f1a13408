"""Each statement of an engine, on its way out and back: for the ledger, and for its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultExecutionContext

from .locks.raw import before_sending

if TYPE_CHECKING:
    from .holders import Hold
    from .ledger import Ledger


class _Watched(DefaultExecutionContext):
    """Tells of a statement before it is sent, and when it has been answered.

    Not by `before_cursor_execute` and `after_cursor_execute`: one listener to an engine has
    SQLAlchemy dispatch all of its events for every statement and connection, which costs a
    one-row unit more than all that the listeners do.
    """

    ledger: ClassVar[Ledger]
    hold: Hold | None

    def pre_exec(self) -> None:
        try:
            self.hold = hold = self.ledger.hold_of(self.root_connection)
        except NotImplementedError:  # SQLAlchemy's own first questions are not on a pool's entry
            self.hold = hold = None
        if hold is not None:
            if hold.unit is not None:
                before_sending(hold.unit, self)
            hold.statement_begins(self.statement)
        super().pre_exec()  # type: ignore[no-untyped-call]

    def post_exec(self) -> None:
        super().post_exec()  # type: ignore[no-untyped-call]
        if self.hold is not None:
            self.hold.statement_ends()


def watch_statements(engine: Engine, ledger: Ledger) -> None:
    """Have the statements of an engine, and of its copies, told to its ledger and lock rules.

    Also those on a connection that was lent out, which no session sees.
    """
    dialect = engine.dialect
    base = dialect.execution_ctx_cls
    dialect.execution_ctx_cls = type(base.__name__, (_Watched, base), {"ledger": ledger})

"""Whether a COMMIT that failed can have happened."""

from __future__ import annotations

from ..types import Outcome

#: The server answered nothing about the transaction: class 08 (connection exception) and the
#: 57P states, which also close a session that has just committed (57P01 while COMMIT waits for a
#: synchronous standby: https://www.postgresql.org/docs/current/errcodes-appendix.html).
_SAYS_NOTHING = ("08", "57P")


def after_failed_commit(*, sent: bool, sqlstate: str | None, lost: bool) -> Outcome:
    """The outcome of a transaction whose COMMIT raised.

    `sent`: COMMIT may have reached the server. `sqlstate`: of the server's answer, if there was
    one. `lost`: the exchange was cut, by a lost connection or by an interruption on our side.
    """
    if not sent:
        return Outcome.ROLLED_BACK
    answered = sqlstate is not None and not sqlstate.startswith(_SAYS_NOTHING)
    return Outcome.ROLLED_BACK if answered or not lost else Outcome.UNKNOWN

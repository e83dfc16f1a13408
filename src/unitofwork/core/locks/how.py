"""How a lock call locks: its options, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import ConfigurationError
from ...policies.locks.book import Strength
from ...sql.row_locks import Wait
from ...types import LockStrength

#: Seconds: PostgreSQL's lock_timeout is an int4 of milliseconds.
MOST = 2_147_483


@dataclass(frozen=True, slots=True)
class How:
    """The options of a lock call, checked."""

    strength: Strength
    wait: Wait
    #: Seconds that each lock may be waited for.
    timeout: float | None

    @classmethod
    def of(
        cls,
        strength: LockStrength = "no_key_update",
        nowait: bool = False,
        skip_locked: bool = False,
        timeout: float | None = None,
    ) -> How:
        """Raises `ConfigurationError`."""
        if strength not in _STRENGTHS:
            raise ConfigurationError(
                f"strength={strength!r} is unknown.",
                f"use one of {', '.join(map(repr, _STRENGTHS))}.",
            )
        if (nowait and skip_locked) or (timeout is not None and (nowait or skip_locked)):
            raise ConfigurationError(
                "nowait, skip_locked and timeout exclude each other.", "pass one of them."
            )
        number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
        if timeout is not None and not (number and 0.001 <= timeout <= MOST):
            raise ConfigurationError(
                f"timeout={timeout!r} is not a number of seconds from 0.001 to {MOST:,}, which is "
                "the most that the server takes.",
                "pass seconds; nowait=True does not wait at all, and without a limit "
                "(lock_timeout=None of the unit) it waits for as long as it takes.",
            )
        wait = Wait.NOWAIT if nowait else Wait.SKIP if skip_locked else Wait.BLOCK
        return cls(_STRENGTHS[strength], wait, timeout)


_STRENGTHS: Mapping[str, Strength] = {
    "key_share": Strength.KEY_SHARE,
    "share": Strength.SHARE,
    "no_key_update": Strength.NO_KEY_UPDATE,
    "update": Strength.UPDATE,
}

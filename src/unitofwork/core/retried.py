"""Whether a unit may be run again, and how tenacity is set up for it."""

from __future__ import annotations

import time
from typing import Any

from ..errors import ConfigurationError, PropagationError
from ..policies.retrying import RetryPolicy
from ..settings import UnitSettings, settings_from
from ..types import Place
from . import current
from .attempts import Story

#: What `retry` is where it was not given: the default policy, unless the unit is joined.
DEFAULT = RetryPolicy()


def split_options(options: dict[str, Any]) -> tuple[UnitSettings, RetryPolicy | None, bool]:
    """The unit's settings, its policy, and whether that was asked for. Raises on bad ones."""
    given = "retry" in options
    policy = options.pop("retry", DEFAULT)
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise ConfigurationError(
            f"retry={policy!r} is no policy.", "pass RetryPolicy(...), or None for no retry."
        )
    return settings_from(options), policy, given


def effective(policy: RetryPolicy | None, given: bool, place: Place) -> RetryPolicy | None:
    """The policy, if this is the outermost unit; a retry inside a unit would multiply attempts.

    Raises `PropagationError` where a retry that was asked for would have no effect.
    """
    own = current.own()
    if not own:
        # In a child task of a unit that is run again as a whole, retries would multiply as well.
        inside = any(unit.story is not None for unit in current.ancestors())
        return None if inside else policy
    if given and policy is not None:
        outer = own[0]
        raise PropagationError(
            f"A retry was asked for at {place}, inside of unit {outer.name!r}, opened at "
            f"{outer.opened_at}; only the outermost unit can be run again.",
            "leave retry out here, and give it to the outer unit.",
            outer_name=outer.name,
            outer_opened_at=outer.opened_at,
        )
    return None


def arrangement(story: Story) -> dict[str, Any]:
    """Keyword arguments for tenacity's `Retrying` and `AsyncRetrying`."""
    # Imported with the first failure: most processes never see one, and start without it.
    from tenacity import stop_after_attempt, stop_before_delay, wait_random_exponential

    policy = story.policy
    back_off = wait_random_exponential(multiplier=policy.wait_initial, max=policy.wait_max)
    # The delay counts from now, and the first attempt is over already.
    left = max(0.0, policy.timeout - story.seconds(time.monotonic()))
    return {
        "stop": stop_after_attempt(policy.attempts) | stop_before_delay(left),
        "wait": lambda state: 0.0 if story.may_go_on_at_once else back_off(state),
        "retry": _always,
    }


def _always(state: Any) -> bool:
    # Whether to retry at all was decided before tenacity hears of a failure.
    return bool(state.outcome.failed)

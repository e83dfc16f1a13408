"""The options of a unit, checked together before anything is opened."""

from __future__ import annotations

import difflib
import functools
import math
from dataclasses import dataclass, fields
from typing import Any, get_args

from .errors import ConfigurationError
from .policies.locks.order import name as lock_name
from .types import IsolationLevel, Propagation, Verify


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """What was asked of one unit. `None` means: not asked for."""

    propagation: Propagation = Propagation.REQUIRED
    isolation: IsolationLevel | None = None
    read_only: bool | None = None
    deferrable: bool | None = None
    timeout: float | None = None
    acquire_timeout: float | None = None
    lock_timeout: float | None = None
    statement_timeout: float | None = None
    connections: int | None = None
    confirm_commit: bool | None = None
    guard_reads: bool | None = None
    strict_locks: bool | None = None
    lock_names: tuple[tuple[Any, ...], ...] = ()
    verify: Verify | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_choice("isolation", self.isolation, get_args(IsolationLevel))
        for flag in ("read_only", "deferrable", "confirm_commit", "guard_reads", "strict_locks"):
            _check_flag(flag, getattr(self, flag))
        for seconds in ("timeout", "acquire_timeout", "lock_timeout", "statement_timeout"):
            _check_seconds(seconds, getattr(self, seconds))
        _check_count("connections", self.connections)
        if self.verify is not None and not callable(self.verify):
            raise ConfigurationError(
                f"verify={self.verify!r} can't be called.",
                "pass a function that looks whether the unit's work is in the database.",
            )
        if self.deferrable and not (self.read_only and self.isolation == "SERIALIZABLE"):
            # https://www.postgresql.org/docs/current/sql-set-transaction.html
            raise ConfigurationError(
                "deferrable=True has an effect only in a unit that is read_only and SERIALIZABLE.",
                'add read_only=True and isolation="SERIALIZABLE", or leave deferrable out.',
            )
        if self.name is not None and not isinstance(self.name, str):
            raise ConfigurationError(f"name={self.name!r} is not a string.", "pass a short label.")


def settings_from(options: dict[str, Any]) -> UnitSettings:
    """Check keyword options. Raises `ConfigurationError` before any I/O."""
    if not options:
        return _DEFAULT
    if "verify" in options:  # a new function each time, which would be kept for long
        return _checked(tuple(options), *options.values())
    try:
        return _cached(tuple(options), *options.values())
    except TypeError:  # an unhashable value is always a wrong one; say which
        return _checked(tuple(options), *options.values())


def _checked(names: tuple[str, ...], *given: Any) -> UnitSettings:
    values = dict(zip(names, given, strict=True))
    for name in values:
        if name == "retry":
            raise ConfigurationError(
                "A plain `with uow():` block can't be run again, so it takes no retry.",
                "use `for attempt in uow.attempts(retry=...)`, uow.run() or @transactional.",
            )
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigurationError(
                f"{name!r} is not an option of a unit.", f"{hint}options: {', '.join(_NAMES)}."
            )
    propagation = values.get("propagation", Propagation.REQUIRED)
    _check_choice("propagation", propagation, tuple(Propagation))
    values["propagation"] = Propagation(propagation)
    if "lock_names" in values:
        values["lock_names"] = _names(values["lock_names"])
    return UnitSettings(**values)


def _names(value: object) -> tuple[tuple[Any, ...], ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(
            f"lock_names={value!r} is not a list.", 'pass names: lock_names=[("account", 1)].'
        )
    names = tuple(each if isinstance(each, tuple) else (each,) for each in value)
    try:
        for parts in names:
            lock_name(parts)
    except ConfigurationError as error:
        raise ConfigurationError(f"lock_names={value!r}: {error.what}", error.remedy) from error
    return names


def _check_choice(option: str, value: object, choices: tuple[Any, ...]) -> None:
    if value is None and option != "propagation":
        return
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(str(choice)) for choice in choices)
        raise ConfigurationError(f"{option}={value!r} is unknown.", f"use one of {listed}.")


def _check_flag(option: str, value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{option}={value!r} is not a bool.", "pass True or False.")


def _check_count(option: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{option}={value!r} is not a count.", "pass an int from 1.")


def _check_seconds(option: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{option}={value!r} is not a number.", "pass seconds, e.g. 2.5.")
    # Servers take whole milliseconds in a 32-bit integer; 0 would mean "no limit" there.
    if not math.isfinite(value) or not 0.001 <= value <= 2_147_483:
        raise ConfigurationError(
            f"{option}={value!r} s is out of range.",
            "pass seconds from 0.001 to 2147483, or leave it out for no limit.",
        )


# Sites that open units pass the same few combinations again and again. `typed`, because 1 == True;
# it looks at the arguments themselves only, so each value is one.
_cached = functools.lru_cache(maxsize=512, typed=True)(_checked)
_NAMES = tuple(field.name for field in fields(UnitSettings))
_DEFAULT = UnitSettings()

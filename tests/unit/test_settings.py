"""The options of a unit: what is accepted, what is refused, and that the error teaches."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitofwork import ConfigurationError, Propagation
from unitofwork.settings import UnitSettings, settings_from

SECONDS = ("timeout", "acquire_timeout", "lock_timeout", "statement_timeout")
READER = {"isolation": "SERIALIZABLE", "read_only": True}


def test_nothing_asked() -> None:
    """Without options a unit joins or opens, and asks for nothing else."""
    assert settings_from({}) == UnitSettings()
    assert UnitSettings().propagation is Propagation.REQUIRED


def test_what_is_asked_is_kept() -> None:
    """Each option is found again as given; names of propagations become the enum."""
    options: dict[str, Any] = {
        **READER,
        "deferrable": True,
        "propagation": "nested",
        "timeout": 1,
        "lock_timeout": 0.001,
        "statement_timeout": 2_147_483,
        "name": "orders",
    }
    settings = settings_from(options)
    assert settings.propagation is Propagation.NESTED
    for name, value in options.items():
        assert getattr(settings, name) == value


def test_none_means_not_asked() -> None:
    """An application can pass its own optional values through."""
    for name in (*SECONDS, "isolation", "read_only", "deferrable", "name"):
        assert settings_from({name: None}) == UnitSettings()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"propagation": None}, "requires_new"),
    ({"propagation": "supports"}, "mandatory"),
    ({"propagation": 1}, "never"),
    ({"isolation": "serializable"}, "'SERIALIZABLE'"),
    ({"isolation": "READ UNCOMMITTED"}, "'READ COMMITTED'"),
    ({"isolation": 3}, "'REPEATABLE READ'"),
    ({"read_only": "yes"}, "True or False"),
    ({"read_only": 0}, "True or False"),
    ({"deferrable": 1}, "True or False"),
    ({"deferrable": True}, "read_only=True"),
    ({"deferrable": True, "read_only": True}, "SERIALIZABLE"),
    ({**READER, "read_only": False, "deferrable": True}, "read_only=True"),
    ({"name": b"orders"}, "label"),
    ({"isolation": ["SERIALIZABLE"]}, "'SERIALIZABLE'"),
    ({"timeout": {}}, "seconds"),
    ({"lock_names": "a"}, "pass names"),
    *[
        ({option: value}, "seconds")
        for option in SECONDS
        for value in (0, -1, 0.0009, math.inf, math.nan, 2_147_484, "5", True, False, 1j)
    ],
]


@pytest.mark.parametrize(("options", "taught"), WRONG, ids=str)
def test_a_wrong_value_is_refused(options: dict[str, Any], taught: str) -> None:
    """The error names the option and the value, and its remedy what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        settings_from(options)
    assert taught in caught.value.remedy
    assert any(f"{name}={value!r}" in caught.value.what for name, value in options.items())


def test_an_unknown_option_is_refused() -> None:
    """A spelling mistake is not ignored; the nearest name is offered."""
    with pytest.raises(ConfigurationError, match="'isolaton'") as caught:
        settings_from({"isolaton": "SERIALIZABLE"})
    assert "did you mean 'isolation'?" in caught.value.remedy
    with pytest.raises(ConfigurationError) as caught:
        settings_from({"zzz": 1})
    assert "did you mean" not in caught.value.remedy
    assert "statement_timeout" in caught.value.remedy


def test_what_was_accepted_says_nothing_about_an_equal_value() -> None:
    """True == 1, but only one of the two is a flag, and the other one a number of seconds."""
    settings_from({"read_only": True})
    settings_from({"timeout": 1})
    for wrong in ({"read_only": 1}, {"timeout": True}):
        with pytest.raises(ConfigurationError):
            settings_from(wrong)
    assert settings_from({"timeout": 1}).timeout == settings_from({"timeout": 1.0}).timeout


def test_settings_do_not_change() -> None:
    """They are shared by all units that ask for the same."""
    assert settings_from({"timeout": 3}) is settings_from({"timeout": 3})
    with pytest.raises(AttributeError):
        settings_from({"timeout": 3}).timeout = 4  # type: ignore[misc]


@given(st.sampled_from(SECONDS), st.one_of(st.floats(), st.integers()))
def test_seconds_are_accepted_in_their_range_only(option: str, value: float) -> None:
    """From a millisecond to what fits a server's 32-bit milliseconds."""
    fits = 0.001 <= value <= 2_147_483
    try:
        settings = settings_from({option: value})
    except ConfigurationError:
        assert not fits
    else:
        assert fits
        assert getattr(settings, option) == value


@given(st.dictionaries(st.text(max_size=12), st.integers() | st.text() | st.none(), max_size=3))
def test_no_options_break_anything_but_by_our_error(options: dict[str, Any]) -> None:
    """Whatever is passed is taken or refused."""
    with contextlib.suppress(ConfigurationError):
        settings = settings_from(options)
        assert all(getattr(settings, name) == value for name, value in options.items())

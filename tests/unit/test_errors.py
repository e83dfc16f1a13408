"""Every error teaches: a code, a remedy, its facts as fields; and it survives a process border."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import unitofwork
from unitofwork import Outcome, Place, UnitOfWorkError, errors

HERE = Place("app/orders.py", 12, "place_order")


def members(base: type) -> list[type]:
    found = vars(errors).values()
    return [one for one in found if inspect.isclass(one) and issubclass(one, base)]


ERRORS: list[type[UnitOfWorkError]] = members(UnitOfWorkError)
WARNINGS = members(Warning)


def example(kind: type[UnitOfWorkError]) -> UnitOfWorkError:
    """One with every field that its class declares."""
    values = {
        "Outcome": Outcome.UNKNOWN,
        "str": "orders",
        "float": 2.5,
        "tuple[Any, ...]": ("one", HERE),
        "tuple[str, ...]": ("one", "two"),
        "Any": {"size": 5},
        "BaseException | None": LookupError("swallowed"),
    }
    fields = {
        name: HERE if "Place" in kind_of else values.get(kind_of, "text")
        for step in kind.__mro__
        for name, kind_of in vars(step).get("__annotations__", {}).items()
        if name != "code" and issubclass(step, UnitOfWorkError)
    }
    return kind("It went wrong.", "do it right.", **fields)


def fields_of(error: BaseException) -> dict[str, Any]:
    return {
        name: repr(value) if isinstance(value, BaseException) else value
        for name, value in vars(error).items()
        if not name.startswith("_")
    }


def test_there_are_errors_and_warnings() -> None:
    """The lists that the tests below run over are not empty by mistake."""
    assert len(ERRORS) >= 20
    assert len(WARNINGS) >= 2


@pytest.mark.parametrize("kind", [*ERRORS, *WARNINGS])
def test_it_is_public_and_documented(kind: type) -> None:
    """Whoever catches it can import it from the top, and read when it comes."""
    assert getattr(unitofwork, kind.__name__) is kind
    assert kind.__name__ in unitofwork.__all__
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", ERRORS)
def test_its_text_has_the_remedy_and_the_code(kind: type[UnitOfWorkError]) -> None:
    """What happened, what to do, where it is explained."""
    text = str(example(kind))
    assert text.startswith("It went wrong.")
    assert "What to do: do it right." in text
    assert text.endswith(f"docs/errors.md#{kind.code}")
    assert "What to do" not in str(kind("It went wrong."))


def test_codes_tell_errors_apart() -> None:
    """One code each, of its own class, fit for a link."""
    codes = [vars(kind)["code"] for kind in ERRORS]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and code.replace("-", "").isalpha() for code in codes)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("travel", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy])
def test_it_travels_with_its_fields(kind: type[UnitOfWorkError], travel: Any) -> None:
    """Through pickle (Celery, multiprocessing) and copy, unchanged."""
    error = example(kind)
    there = travel(error)
    assert type(there) is kind
    assert str(there) == str(error)
    assert there.args == error.args
    assert there.code == error.code
    assert fields_of(there) == fields_of(error)


@pytest.mark.parametrize("kind", ERRORS)
def test_its_fields_are_declared(kind: type[UnitOfWorkError]) -> None:
    """A field that is not always known has a default, so that reading it never fails."""
    error = kind("It went wrong.")
    for step in kind.__mro__:
        for name, annotation in vars(step).get("__annotations__", {}).items():
            if "None" in annotation or annotation.startswith("tuple"):
                assert getattr(error, name) in (None, ())


def test_timeouts_are_timeouts() -> None:
    """Code that catches the language's TimeoutError catches ours."""
    assert issubclass(unitofwork.UnitTimeoutError, TimeoutError)
    assert issubclass(unitofwork.AcquireTimeoutError, TimeoutError)


def test_the_hierarchy() -> None:
    """A narrower error is caught by its wider kind."""
    assert issubclass(unitofwork.PoolSizingError, unitofwork.ConfigurationError)
    assert issubclass(unitofwork.TransactionReleasedError, unitofwork.TransactionStateError)
    assert all(issubclass(kind, UnitOfWorkError) for kind in ERRORS)

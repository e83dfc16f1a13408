"""What can't run in a unit is refused when it is decorated, with the reason and the way out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from unitofwork import (
    CURRENT,
    AsyncUnitOfWork,
    ConfigurationError,
    UnitOfWork,
    transactional,
)

from .face import Face, both, result


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def plain() -> None:
    """A function of the sync colour."""


async def coloured() -> None:
    """A function of the async colour."""


class Service:
    """Its methods are meant."""


def twice(a: Any = CURRENT, *, b: Any = CURRENT) -> None:
    """Which of the two?"""


async def async_twice(a: Any = CURRENT, *, b: Any = CURRENT) -> None:
    """Which of the two?"""


def by_position(tx: Any = CURRENT, /) -> None:
    """Can't be filled in by name."""


async def async_by_position(tx: Any = CURRENT, /) -> None:
    """Can't be filled in by name."""


#: What is decorated for a sync and for an async unit of work; the reason; the way out.
MISFITS: dict[str, tuple[Any, Any, str, str]] = {
    "generator": (generator, generator, "generator", "list"),
    "async generator": (async_generator, async_generator, "generator", "list"),
    "other colour": (coloured, plain, "async", "UnitOfWork"),
    "class": (Service, Service, "class", "methods"),
    "staticmethod": (staticmethod(plain), staticmethod(coloured), "static", "above"),
    "classmethod": (classmethod(plain), classmethod(coloured), "classmethod", "above"),
    "two": (twice, async_twice, "several", "one"),
    "position": (by_position, async_by_position, "position", "keyword"),
    "nothing": (5, 5, "no function", "@transactional"),
}


@pytest.mark.parametrize("misfit", MISFITS)
async def test_a_misfit_is_refused_when_decorated(face: Face, misfit: str) -> None:
    """In each spelling that names the unit of work; the function and its place are named."""
    for_sync, for_async, reason, remedy = MISFITS[misfit]
    target = for_async if face.is_async else for_sync
    spellings: list[Callable[[Any], Any]] = [
        face.uow.transactional,
        face.uow.transactional(),
        transactional(face.uow),
    ]
    for decorate in spellings:
        with pytest.raises(ConfigurationError, match=reason) as caught:
            decorate(target)
        assert remedy in caught.value.remedy
        if misfit not in ("nothing", "class"):
            function = getattr(target, "__func__", target)
            assert function.__name__ in str(caught.value)
            assert __file__ in str(caught.value)


@pytest.mark.parametrize("misfit", ["generator", "async generator", "class", "two", "position"])
def test_a_misfit_is_refused_by_the_bare_decorator(misfit: str) -> None:
    """There the colour is free, all else is not."""
    for_sync, for_async, reason, _ = MISFITS[misfit]
    for target in (for_sync, for_async):
        with pytest.raises(ConfigurationError, match=reason):
            transactional(target)


def test_a_function_and_options_at_once_are_refused() -> None:
    """`transactional(function, isolation=...)` looks like options and would drop them."""
    with pytest.raises(ConfigurationError, match="options"):
        transactional(plain, isolation="SERIALIZABLE")  # type: ignore[call-overload]


async def test_a_bare_one_with_several_units_of_work_is_refused(face: Face) -> None:
    """It would be a guess which one is meant: the error lists them and says how to name it."""
    others = [face.uow, face.make()]

    @transactional
    @face.function
    async def look() -> None:
        raise AssertionError("must not run")

    with pytest.raises(ConfigurationError, match="not clear") as caught:
        await result(look())
    for one in others:
        assert repr(one) in str(caught.value)
    assert "@transactional(uow)" in caught.value.remedy


async def test_the_one_in_its_lifespan_is_meant(face: Face) -> None:
    """An application that runs has one that is in use, whatever else was made."""
    face.make()

    @transactional
    @face.function
    async def look(*, tx: Any = CURRENT) -> Any:
        return tx

    async with both(face.uow.lifespan()):
        tx = await result(look())
    assert tx.unit.home is face.uow._home


@pytest.mark.parametrize("kind", [UnitOfWork, AsyncUnitOfWork])
def test_the_password_is_not_shown(kind: Any) -> None:
    """A list of units of work ends up in logs."""
    secret = kind.from_url("postgresql+psycopg://me:hunter2@localhost/db")
    assert "hunter2" not in repr(secret)
    assert "me:***@localhost" in repr(secret)

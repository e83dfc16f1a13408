"""Each attempt gets the arguments as they were first given."""

from __future__ import annotations

import collections
import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest

from unitofwork import CURRENT, ConfigurationError

from .world import QUICK, Posting, Purse, RetryFace, both, fail, result


def _spoil(value: Any) -> None:
    """Change a container, deep down where it is one of containers."""
    inner = value["inner"] if isinstance(value, dict) and "inner" in value else value
    inner = inner[0] if isinstance(inner, (list, tuple)) and inner else inner
    if isinstance(inner, dict):
        inner["spoilt"] = True
    elif isinstance(inner, set):
        inner.add("spoilt")
    elif isinstance(inner, (list, collections.deque)):
        inner.append("spoilt")
    elif isinstance(inner, bytearray):
        inner.extend(b"spoilt")
    else:
        value.append("spoilt")


VALUES: dict[str, Callable[[], Any]] = {
    "list": lambda: [1, 2],
    "empty list": list,
    "dict": lambda: {"a": 1},
    "set": lambda: {1, 2},
    "bytearray": lambda: bytearray(b"ab"),
    "deque": lambda: collections.deque([1, 2], maxlen=5),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "Counter": lambda: collections.Counter("aab"),
    "list of lists": lambda: [[1], [2]],
    "list of dicts": lambda: [{"a": 1}],
    "dict of sets": lambda: {"inner": {1}},
    "dict of lists of dicts": lambda: {"inner": [{"a": 1}]},
    "tuple of lists": lambda: ([1], [2]),
}


@pytest.mark.parametrize("form", ["run", "by position", "by keyword"])
@pytest.mark.parametrize("kind", VALUES)
async def test_a_mutable_argument(face: RetryFace, kind: str, form: str) -> None:
    """Each attempt sees it as given, though the one before has changed it."""
    given, seen = VALUES[kind](), []

    async def body(value: Any, *, tx: Any = CURRENT) -> None:
        seen.append(copy.deepcopy(value))
        assert value is given
        _spoil(value)
        await fail(tx, 2)

    if form == "run":
        await face.run(lambda tx, value: _call(face, body, value, tx), given)
    elif form == "by position":
        await result(face.decorated(body)(given))
    else:
        await result(face.decorated(body)(value=given))
    assert seen == [VALUES[kind]()] * 3
    assert given != VALUES[kind](), "the change of the last attempt stays"


async def _call(face: RetryFace, body: Any, value: Any, tx: Any) -> None:
    await result(face.function(body)(value, tx=tx))


async def test_a_list_inside_is_still_the_callers(face: RetryFace) -> None:
    """The caller's own reference to an inner list sees the last attempt's change, and only it."""
    inner: list[int] = []

    async def body(rows: list[list[int]], *, tx: Any = CURRENT) -> None:
        rows[0].append(tx.attempt)
        await fail(tx, 1)

    await result(face.decorated(body)([inner]))
    assert inner == [2]


async def test_the_callers_list_is_what_the_last_attempt_left(face: RetryFace) -> None:
    """A function that collects into its caller's list has collected once."""
    found: list[int] = []

    async def collect(into: list[int], *, tx: Any = CURRENT) -> None:
        into.append((await result(tx.get(Purse, 1))).balance)
        await fail(tx, 2)

    await result(face.decorated(collect)(found))
    assert found == [100]


async def test_an_iterator(face: RetryFace) -> None:
    """One that the first attempt has used up gives the next one nothing: all rows, or a refusal."""

    async def add(amounts: Any, *, tx: Any = CURRENT) -> None:
        for amount in amounts:
            tx.add(Posting(amount=amount))
        await result(tx.flush())
        await fail(tx, 1)

    try:
        await result(face.decorated(add)(amount for amount in (1, 2, 3)))
    except ConfigurationError:
        assert face.postings() == []
    else:
        assert face.postings() == [1, 2, 3], "committed without what it was given"


async def test_what_can_not_be_copied(face: RetryFace) -> None:
    """A list of clients, locks or the like is no reason to fail: the list can be put back."""
    lock = threading.Lock()

    async def body(clients: list[Any], *, tx: Any = CURRENT) -> None:
        assert clients == [lock]
        clients.clear()
        await fail(tx, 1)

    await result(face.decorated(body)([lock]))


# --- mapped objects


async def _loaded(face: RetryFace) -> Purse:
    async with both(face.uow()) as tx:
        purse: Purse = await result(tx.get_one(Purse, 1))
    return purse


async def charge(purse: Any, *, tx: Any = CURRENT) -> None:
    raise AssertionError("it was not refused")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda purse: purse,
        lambda purse: [purse],
        lambda purse: (purse,),
        lambda purse: {"key": purse},
        lambda purse: {purse},
        lambda purse: [[purse]],
        lambda purse: {"key": [purse]},
    ],
    ids=["itself", "list", "tuple", "dict", "set", "list of lists", "dict of lists"],
)
async def test_a_mapped_object_is_refused(face: RetryFace, wrap: Any) -> None:
    """A second attempt's session would not know it: refused at the call, naming what to do."""
    purse = await _loaded(face)
    for call in (face.decorated(charge), lambda given: face.uow.run(face.function(charge), given)):
        with pytest.raises(ConfigurationError) as caught:
            await result(call(wrap(purse)))
        assert "Purse" in caught.value.what
        assert "charge" in caught.value.what
        assert "retry=None" in caught.value.remedy
    with pytest.raises(ConfigurationError):
        await result(face.decorated(charge)(purse=wrap(purse)))


async def test_a_new_mapped_object_is_refused_too(face: RetryFace) -> None:
    """It would be added to the session of an attempt that fails."""
    with pytest.raises(ConfigurationError):
        await result(face.decorated(charge)(Posting(amount=1)))


async def test_a_mapped_class_is_no_mapped_object(face: RetryFace) -> None:
    """`load(Purse, 1)` is fine."""

    async def load(kind: Any, key: int, *, tx: Any = CURRENT) -> int:
        return int((await result(tx.get_one(kind, key))).balance)

    assert await result(face.decorated(load)(Purse, 1)) == 100


async def test_allowed_without_a_retry(face: RetryFace) -> None:
    """`retry=None`: there is one attempt, which may do with it what it likes."""
    purse = await _loaded(face)

    async def keep(given: Any, *, tx: Any = CURRENT) -> None:
        assert given is purse

    await result(face.decorated(keep, retry=None)(purse))
    await result(face.uow.run(face.function(_second_is(purse)), purse, retry=None))


def _second_is(expected: Any) -> Any:
    async def check(tx: Any, given: Any) -> None:
        assert given is expected

    return check


async def test_allowed_where_it_joins(face: RetryFace) -> None:
    """Inside of the unit that has loaded the object."""

    async def withdraw(purse: Any, *, tx: Any = CURRENT) -> None:
        assert purse in tx
        purse.balance -= 1

    function = face.uow.transactional(face.function(withdraw))

    async def outer(tx: Any) -> None:
        await result(function(await result(tx.get_one(Purse, 1))))
        await fail(tx, 1)

    await face.run(outer, retry=QUICK)
    assert face.balances() == [99, 100]

"""The one order over all that can be locked: total, the same everywhere, parents first."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import random
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitofwork import ConfigurationError
from unitofwork.policies.locks.order import NAMES, Rank, comparable, depths, name, row

T = Rank(2, 0, "t")
NUMBERS = st.integers() | st.decimals(allow_nan=False) | st.floats(allow_nan=False)
AWARE = st.datetimes(
    min_value=dt.datetime(1900, 1, 2),
    max_value=dt.datetime(2200, 1, 1),
    timezones=st.sampled_from([dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")]),
)
VALUES = st.one_of(
    st.none(), NUMBERS, st.booleans(), st.text(), st.binary(), st.uuids(), st.dates(), AWARE,
    st.datetimes(), st.timedeltas(), st.ip_addresses(), st.times(),
)  # fmt: skip


class Colour(enum.Enum):
    RED = 2
    BLUE = "one"


@given(st.lists(VALUES, max_size=8))
def test_any_two_values_compare(values: list[Any]) -> None:
    """Keys of every kind have one order, whatever order they are given in."""
    ordered = sorted(map(comparable, values))
    assert ordered == sorted(map(comparable, reversed(values)))
    for low, high in itertools.pairwise(ordered):
        assert not high < low


@given(NUMBERS, NUMBERS)
def test_numbers_go_by_their_value(one: Any, other: Any) -> None:
    """Whatever Python type a driver chose: 1, 1.0 and Decimal("1.00") are one key."""
    assert (comparable(one) < comparable(other)) is (one < other)
    assert (comparable(one) == comparable(other)) is (one == other)


@given(AWARE, AWARE)
def test_moments_go_by_the_instant(one: dt.datetime, other: dt.datetime) -> None:
    """Not by the clock on the wall, which shows an hour twice in autumn."""
    first, second = one.timestamp(), other.timestamp()
    if abs(first - second) > 1e-3:
        assert (comparable(one) < comparable(other)) is (first < second)


def test_an_hour_that_comes_twice_is_two_keys() -> None:
    """Python compares two times of one zone by the clock; the server does not."""
    berlin = ZoneInfo("Europe/Berlin")
    first, again = (dt.datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=berlin) for fold in (0, 1))
    assert comparable(first) < comparable(again)


@given(st.text(), st.text())
def test_text_goes_by_its_bytes(one: str, other: str) -> None:
    """As COLLATE "C" sorts UTF-8."""
    assert (comparable(one) < comparable(other)) is (one.encode() < other.encode())


@given(st.uuids(), st.uuids())
def test_uuids_go_by_their_bytes(one: uuid.UUID, other: uuid.UUID) -> None:
    """As the server compares them."""
    assert (comparable(one) < comparable(other)) is (one.bytes < other.bytes)


class Size(enum.StrEnum):
    SMALL = "s"
    LARGE = "l"


class Digit(enum.IntEnum):
    ONE = 1
    TWO = 2


def test_an_enum_that_is_a_value_as_well() -> None:
    """A text column gives text back: asked for by a `StrEnum`, it is the same row."""
    assert row(T, (Size.SMALL, Digit.TWO)) == row(T, ("s", 2))
    assert hash(row(T, (Size.SMALL, Digit.TWO))) == hash(row(T, ("s", 2)))


def test_the_rest_of_the_table() -> None:
    """NULL is first, an enum goes by its label, bytes are bytes whatever holds them."""
    assert comparable(None) < comparable(-(10**30))
    assert comparable(Colour.BLUE) < comparable(Colour.RED)
    assert comparable(memoryview(b"ab")) == comparable(bytearray(b"ab")) == comparable(b"ab")


@pytest.mark.parametrize("value", [float("nan"), Decimal("NaN"), Decimal("sNaN")])
def test_what_has_no_place_is_refused(value: Any) -> None:
    """NaN is neither above nor below anything."""
    with pytest.raises(ConfigurationError, match="NaN"):
        row(T, (value,))


@given(st.tuples(VALUES, VALUES), st.tuples(VALUES, VALUES))
def test_composite_keys_go_by_their_first_difference(one: Any, other: Any) -> None:
    """As the server compares rows."""
    pairs = [(comparable(a), comparable(b)) for a, b in zip(one, other, strict=True)]
    differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
    below = row(T, one).order < row(T, other).order
    assert below is (differing is not None and differing[0] < differing[1])


def test_names_then_pinned_tables_then_the_others() -> None:
    """The tiers of the order, whatever the keys are."""
    pinned, free = Rank(1, 7, "a"), Rank(2, 0, "a")
    resources = [name(("z", 10**9)), row(pinned, (99,)), row(free, (-5,)), row(free, (1,))]
    assert sorted(random.Random(1).sample(resources, 4)) == resources


@given(st.lists(st.integers() | st.text() | st.booleans() | st.uuids(), min_size=1, max_size=3))
def test_a_name_fits_an_advisory_lock(parts: list[Any]) -> None:
    """Its place is the number that the server locks."""
    resource = name(tuple(parts))
    (number,) = resource.order
    assert resource.rank is NAMES
    assert -(2**63) <= number < 2**63
    assert name(tuple(parts)) == resource


def test_a_name_is_the_same_in_every_process() -> None:
    """Two processes, and two versions, lock the same number; and 1 is not "1"."""
    code = "from unitofwork.policies.locks.order import name; print(name(('invoice', 2026)).order)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert elsewhere.strip() == str(name(("invoice", 2026)).order) == "(-7849614833489942176,)"
    assert name(("invoice", "2026")) != name(("invoice", 2026)) != name(("invoice2026",))


@given(NUMBERS, NUMBERS)
def test_equal_numbers_make_one_name(one: Any, other: Any) -> None:
    """1, 1.0 and Decimal("1.00") are one value of a column, so they are one name."""
    assert (name((one,)).order == name((other,)).order) is (one == other)


@given(AWARE)
def test_one_moment_makes_one_name(moment: dt.datetime) -> None:
    """Wherever the clock hangs."""
    assert name((moment,)).order == name((moment.astimezone(dt.UTC),)).order


@pytest.mark.parametrize("value", [1, 1.0, Decimal("1.00"), True, Digit.ONE])
def test_one_by_all_its_names(value: Any) -> None:
    """Also the name is the one that it always was."""
    assert name(("invoice", value)).order == name(("invoice", 1)).order == (-6117167440273336615,)


@pytest.mark.parametrize("value", [float("nan"), Decimal("NaN"), float("inf"), Decimal("1E+9000")])
def test_numbers_out_of_the_common_can_be_named(value: Any) -> None:
    """A unique column may have them."""
    assert name((value,)).order == name((Decimal(value),)).order


def test_text_is_not_a_number() -> None:
    """Nor are bytes text."""
    parts = [1, "1", b"1", dt.date(1, 1, 1), None, dt.timedelta(1), uuid.UUID(int=1)]
    assert len({name((part,)).order for part in parts}) == len(parts)


class Anonymous:
    """Says of itself only where in memory it is."""


@pytest.mark.parametrize("make", [row, name])
def test_an_address_is_no_name(make: Any) -> None:
    """It is another one in each process: so it is refused."""
    arguments = (T,) if make is row else ()
    for value in (Anonymous(), [Anonymous()]):
        with pytest.raises(ConfigurationError, match="differently in each process"):
            make(*arguments, (value,))


def test_a_name_needs_a_part() -> None:
    """`lock_name()` would lock everybody's nothing."""
    with pytest.raises(ConfigurationError):
        name(())


GRAPHS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.frozensets(st.sampled_from("abcdefghxy"), max_size=4)
)


@given(GRAPHS)
def test_parents_are_above_unless_they_are_below_as_well(graph: dict[str, frozenset[str]]) -> None:
    """A parent is less deep than its child; in a circle of foreign keys all are equally deep."""
    found = depths(graph)

    def ancestors(table: str) -> set[str]:
        seen: set[str] = set()
        left = list(graph.get(table, ()))
        while left:
            one = left.pop()
            if one not in seen:
                seen.add(one)
                left.extend(graph.get(one, ()))
        return seen

    for child, parents in graph.items():
        for parent in parents:
            if child in ancestors(parent):
                assert found[parent] == found[child]
            else:
                assert found[parent] < found[child]
        if not parents:
            assert found[child] == 0


@given(GRAPHS, st.randoms())
def test_later_models_move_nothing(graph: dict[str, frozenset[str]], choose: random.Random) -> None:
    """A process that has imported fewer models ranks those it has alike."""
    table = choose.choice(sorted(graph)) if graph else "a"
    known: dict[str, frozenset[str]] = {}
    left = [table]
    while left:
        one = left.pop()
        if one not in known:
            known[one] = graph.get(one, frozenset())
            left.extend(known[one])
    every = depths({**graph, table: graph.get(table, frozenset())})
    assert {one: every[one] for one in known} == depths(known)

"""What a circle is told with: who, where, and the remedy that fits."""

from __future__ import annotations

import pytest

from unitofwork.policies.lock_graph import Cycle, LockClass, Step, Taken
from unitofwork.policies.lock_report import Doubt, Remark, told
from unitofwork.policies.locks.book import Strength
from unitofwork.types import Place

ACROSS, NAMES = "tx.lock_across({...})", "lock_names=[...]"


def step(held: str, taken: str, *, in_unit: bool = True, in_order: bool = False) -> Step:
    def one(resource: str) -> Taken:
        lock = LockClass(resource, Strength.UPDATE)
        return Taken(lock, "work", Place("file.py", 1, "work"), in_order, in_unit)

    return Step(one(held), one(taken))


def remedy(*steps: Step) -> str:
    (line,) = [each for each in told(Cycle(steps)).splitlines() if "Remedy" in each]
    return line.strip()


def test_tables_in_units_are_locked_in_one_call() -> None:
    """That sorts them."""
    found = remedy(step("b", "a"), step("a", "b"))
    assert found == f"Remedy: lock them in one order, a before b, or in one call: {ACROSS}."


def test_plain_sessions_are_told_the_order_and_that_units_have_it() -> None:
    """One of them is enough: it has no `tx`."""
    for one in (True, False):
        found = remedy(step("b", "a", in_unit=one), step("a", "b", in_unit=False))
        assert found == (
            f"Remedy: lock them in one order, a before b; or in units, in one call: {ACROSS}."
        )


def test_names_are_the_units_to_sort() -> None:
    """Rows have nothing to do with it."""
    names = "named lock 7", "named lock 8"
    found = remedy(step(names[1], names[0]), step(*names))
    assert found == (
        "Remedy: take them in one order, named lock 7 before named lock 8, "
        f"or as names of the units: {NAMES}."
    )
    assert ACROSS not in remedy(step(*names, in_unit=False), step(*names[::-1]))


@pytest.mark.parametrize("name", ["named lock 7", "named locks"])
def test_names_come_before_tables(name: str) -> None:
    """Whatever was seen first: so it is in units."""
    for steps in ([("a", name), (name, "a")], [(name, "a"), ("a", name)]):
        found = remedy(*(step(*each) for each in steps))
        assert f"{name} before a, " in found
        assert NAMES in found


def test_the_order_of_units_is_the_one_to_keep() -> None:
    """Else the one that was seen before the circle was closed."""
    two = step("b", "a", in_order=True), step("a", "b", in_unit=False)
    assert "b before a;" in remedy(*two)
    assert "b before a;" in remedy(*two[::-1])
    ring = step("a", "b"), step("b", "c"), step("c", "a")
    assert "b before c before a," in remedy(*ring)
    assert "c before a before b," in remedy(step("a", "b", in_order=True), *ring[1:])


def test_who_is_no_unit_is_not_called_one() -> None:
    """In circles and in remarks."""
    text = told(Cycle((step("a", "b"), step("b", "a", in_unit=False))))
    assert "1. unit 'work'\n" in text
    assert "2. 'work', no unit\n" in text
    for in_unit, who in ((True, "unit 'work' "), (False, "'work', no unit, ")):
        one = Remark(Doubt.MANY, step("a", "b", in_unit=in_unit).taken)
        assert str(one).startswith(f"{who}locks several rows")

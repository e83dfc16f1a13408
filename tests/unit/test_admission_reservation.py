"""A reservation hands out what its tree was granted, and not a permit more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unitofwork.policies.admission import Reservation


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(-1, 6))))
def test_it_never_gives_more_than_it_has(granted: int, steps: list[tuple[bool, int]]) -> None:
    """A step that would leave 0..granted, or moves less than one permit, is refused and undone."""
    reservation, used = Reservation(granted), 0
    for take, permits in steps:
        after = used + permits if take else used - permits
        possible = permits >= 1 and 0 <= after <= granted
        step = reservation.take if take else reservation.give_back
        assert step(permits) is possible
        used = after if possible else used
        assert (reservation.granted, reservation.free) == (granted, granted - used)

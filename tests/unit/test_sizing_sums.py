"""The arithmetic of the startup validator."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sizing import ENGINE, sound

from unitofwork.policies.sizing import Facts, judge, recommend
from unitofwork.policies.sizing.sums import demand, fitting_size, room

counts = st.integers(1, 50)
few = st.integers(0, 50)


@st.composite
def fleets(draw: st.DrawFn) -> Facts:
    others = tuple(
        replace(ENGINE, pool_size=draw(counts), database="other")
        for _ in range(draw(st.integers(0, 2)))
    )
    return sound(
        engine={"pool_size": draw(counts), "max_overflow": draw(few)},
        process={
            "workers": draw(st.none() | counts),
            "replicas": draw(st.none() | counts),
            "generations": draw(st.integers(1, 3)),
            "other_engines": others,
        },
        server={
            "max_connections": draw(st.integers(1, 5000)),
            "reserved": draw(st.none() | few),
            "others": draw(st.none() | few),
            "role_limit": draw(st.none() | st.just(-1) | st.integers(0, 5000)),
            "role_others": draw(st.none() | few),
            "database_limit": draw(st.just(-1) | st.integers(0, 5000)),
        },
    )


def connections(facts: Facts) -> int:
    """What the fleet may open, counted one by one."""
    engines = (facts.engine, *facts.process.other_engines)
    each = sum((one.pool_size or 0) + (one.max_overflow or 0) for one in engines)
    return each * (facts.process.workers or 1) * (facts.process.replicas or 1)


def is_let_in(facts: Facts, number: int) -> bool:
    """Whether a server with these limits lets so many in, all rules applied one by one."""
    server = facts.server
    assert server is not None
    assert server.max_connections is not None
    free = server.max_connections - (server.reserved or 0) - (server.others or 0)
    limits = [
        limit - (others or 0)
        for limit, others in (
            (server.role_limit, server.role_others),
            (server.database_limit, server.database_others),
        )
        if limit is not None and limit != -1
    ]
    return all(number <= limit for limit in (free, *limits))


@given(fleets())
def test_a_fleet_fits_if_and_only_if_its_sum_does(facts: Facts) -> None:
    """Error: it doesn't fit. Warning: it does, but not twice. Never both."""
    wanted = connections(facts)
    codes = {one.code for one in judge(facts)}
    fits = is_let_in(facts, wanted)
    fits_twice = is_let_in(facts, facts.process.generations * wanted)
    assert ("fleet-too-large" in codes) is (not fits)
    assert ("rolling-deploy" in codes) is (fits and not fits_twice)


@given(fleets())
def test_the_sums_that_are_shown_are_true(facts: Facts) -> None:
    """Each side, calculated from its text, is the number at its end."""
    for side in (demand(facts), room(facts)):
        assert side is not None
        text = re.sub(r" \([a-z_ ]+\)$", "", side.text)  # the name of the limit
        shown, _, result = text.rpartition(" = ")
        figures = re.sub(r"[a-z]{2,}", "", (shown or result).replace(" x ", " * "))
        assert eval(figures) == int(result) == side.value


@given(fleets())
def test_what_is_recommended_fits_and_no_more_does(facts: Facts) -> None:
    """With the finding's number, no overflow, and every generation connected."""
    for finding in judge(facts):
        if finding.pool_size is None:
            continue
        size = finding.pool_size
        alone = "end the old generation" in finding.remedy
        generations = 1 if alone else facts.process.generations
        assert size >= 1
        changed = replace(facts, engine=replace(facts.engine, pool_size=size, max_overflow=0))
        assert is_let_in(facts, generations * connections(changed))
        if finding.code != "recommendation":
            more = replace(facts, engine=replace(changed.engine, pool_size=size + 1))
            assert not is_let_in(facts, generations * connections(more))


@given(fleets(), st.floats(0.1, 10_000), st.floats(0.0001, 60), st.none() | counts)
def test_the_recommendation_is_what_is_needed_as_far_as_it_fits(
    facts: Facts, throughput: float, seconds: float, each: int | None
) -> None:
    """Enough for the busy ones on average, never more than fits, and it says if it is too few."""
    process = replace(
        facts.process, throughput=throughput, transaction_time=seconds, connections=each
    )
    facts = replace(facts, process=process)
    fitting, found = fitting_size(facts), recommend(facts)
    assert fitting is not None
    if fitting.value < 1:
        assert found is None
        return
    assert found is not None
    assert 1 <= found.pool_size <= fitting.value
    busy = throughput * seconds / ((process.workers or 1) * (process.replicas or 1))
    if found.suffices:
        assert found.pool_size >= max(busy, each or 1)
    else:
        assert found.pool_size == fitting.value < math.ceil(busy + 2 * math.sqrt(busy)) or (
            each is not None and fitting.value < each
        )


def test_littles_law() -> None:
    """600 units/s of 20 ms are 12 busy connections; 2 in each of 6 processes, 3 more for bursts."""
    found = recommend(sound(process={"throughput": 600.0, "transaction_time": 0.02}))
    assert found is not None
    assert found.pool_size == 5
    assert "600 units/s x 0.02 s / (2 workers x 3 replicas) = 2 busy on average" in found.message
    assert found.suffices is True


def test_what_the_server_has_measured_counts_unless_told_otherwise() -> None:
    """The time of a transaction comes from the server where no other was passed."""
    measured = {"transaction_time": 0.02}
    same = recommend(sound(process={"throughput": 600.0}, server=measured))
    told = {"throughput": 600.0, "transaction_time": 0.001}
    other = recommend(sound(process=told, server=measured))
    assert same is not None
    assert other is not None
    assert (same.pool_size, other.pool_size) == (5, 1)


def test_without_a_throughput_the_present_size_is_kept_if_it_fits() -> None:
    """There is no reason to change it; what does not fit is cut down to what does."""
    small, large = recommend(sound()), recommend(sound(engine={"pool_size": 50}))
    assert small is not None
    assert large is not None
    assert (small.pool_size, large.pool_size) == (5, 7)


def test_too_few_are_said_to_be_too_few() -> None:
    """Where the server can't give what is needed, the finding says so."""
    facts = sound(process={"throughput": 6000.0, "transaction_time": 0.1})
    (finding,) = [one for one in judge(facts) if one.code == "recommendation"]
    assert finding.pool_size == 7
    assert "too few" in finding.message

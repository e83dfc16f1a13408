"""What the demo makes of its figures, and of a URL: decisions without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitofwork.demo.measure import Requests, Transfers, percentile
from unitofwork.demo.plan import EXPECTED, LATE, LOCK_MANY, PLAIN, SORTED, DemoError, plan_for
from unitofwork.demo.report import exit_code, findings, transfers_table
from unitofwork.demo.server import parse, place

PLAN = plan_for(quick=False, requests=100, pool=5, call=0.2, transfers=None)


def requests(served: int = 100, pool_timeouts: int = 0, written: int | None = None) -> Requests:
    return Requests(
        latencies=[0.1] * served,
        pool_timeouts=pool_timeouts,
        elapsed=2.0,
        written=served if written is None else written,
    )


def transfers(total: int = EXPECTED, done: int = 10) -> Transfers:
    return Transfers(done=done, elapsed=2.0, total=total)


def four(**other: Transfers) -> dict[str, Transfers]:
    """Transfers without trouble, but for the ways named otherwise."""
    ways = {"plain": PLAIN, "by_hand": SORTED, "lock_many": LOCK_MANY, "late": LATE}
    return {way: other.get(name, transfers()) for name, way in ways.items()}


def cells(ways: dict[str, Transfers], measure: str) -> list[object]:
    """The row of that name in the table of the transfers."""
    names, *columns = (list(column.cells) for column in transfers_table(ways).columns)
    return [column[names.index(measure)] for column in columns]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 99))
def test_percentile_is_within_what_was_measured(values: list[float], percent: int) -> None:
    """A percentile never leaves the range of the values; the 50th is in their middle."""
    found = percentile(values, percent)
    assert found is not None
    assert min(values) * 0.999999 <= found <= max(values) * 1.000001
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


def test_percentile_of_nothing() -> None:
    """Where no request was served there is no latency, not a zero."""
    assert percentile([], 99) is None


def test_exit_code() -> None:
    """Only lost money, a lost write, or a failed request in unitofwork make it 1."""
    good, sound = requests(), four()
    troubled = requests(served=70, pool_timeouts=30)
    assert exit_code((troubled, good), sound) == 0
    assert exit_code((good, requests(99, pool_timeouts=1)), sound) == 1
    for way in ("plain", "by_hand", "lock_many", "late"):
        assert exit_code((good, good), four(**{way: transfers(EXPECTED - 1)})) == 1
        assert exit_code((good, good), four(**{way: transfers(EXPECTED + 1)})) == 1
    assert exit_code((good, requests(written=99)), sound) == 1


def test_findings_follow_the_figures() -> None:
    """Three lines, computed: they say so if unitofwork was slower, or if a sum is wrong."""
    slow = transfers(EXPECTED - 1, done=5)
    lines = findings(PLAN, (requests(), requests(50)), four(lock_many=slow))
    assert len(lines) == 3
    assert "50.0 to 25.0 (0.5 times)" in lines[1]
    assert "5.0 to 2.5 (0.5 times)" in lines[2]
    assert "the sums are WRONG" in lines[2]


def test_findings_where_nothing_was_done() -> None:
    """A side that served nothing has no ratio."""
    nothing = four(plain=transfers(done=0))
    lines = findings(PLAN, (requests(0), requests()), nothing)
    assert "0.0 to 50.0." in lines[1]
    assert "0.0 to 5.0," in lines[2]
    assert cells(nothing, f"times {PLAIN}") == ["-"] * 4


def test_ways_are_compared() -> None:
    """Each way against plain SQLAlchemy and against rows sorted by hand, in this order."""
    ways = four(
        plain=transfers(done=1),
        by_hand=transfers(done=32),
        lock_many=transfers(done=30),
        late=transfers(done=8),
    )
    assert cells(ways, f"times {PLAIN}") == ["1.00", "32", "30", "8.00"]
    assert cells(ways, f"times {SORTED}") == ["0.03", "1.00", "0.94", "0.25"]


def test_url_is_made_asyncpgs() -> None:
    """Any PostgreSQL URL works, whatever its driver; libpq's sslmode is translated."""
    for scheme in ("postgresql", "postgresql+psycopg", "postgresql+asyncpg"):
        url = parse(f"{scheme}://bob:secret@db.example/shop?sslmode=require")
        assert url.get_dialect().driver == "asyncpg"
        assert dict(url.query) == {"ssl": "require"}
        assert place(url) == "db.example:5432/shop"


@pytest.mark.parametrize(
    "url",
    [
        "secret",
        "mysql://bob:secret@db/shop",
        "postgresql://bob:p@secret@db/shop",
        "postgresql://bob:pass@db:secret/shop",
    ],
)
def test_bad_url_is_not_shown(url: str) -> None:
    """A URL that can't be used is refused without a part of it: it may be the password."""
    with pytest.raises(DemoError) as caught:
        parse(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_transfers_go_in_opposite_orders() -> None:
    """The jobs are the same each time and contain pairs in both directions."""
    jobs = PLAN.transfer_jobs()
    assert jobs == PLAN.transfer_jobs()
    pairs = {(source, target) for source, target, _ in jobs}
    assert all((target, source) in pairs for source, target in pairs)
    assert all(source != target for source, target in pairs)

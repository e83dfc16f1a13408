"""The book: what it says may be waited for never closes a circle; savepoints give back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unitofwork.policies.locks.book import Book, Plan, Position, Strength, conflict, stronger
from unitofwork.policies.locks.order import Rank, Resource, row

KS, S, NKU, U = Strength
#: Which modes of two units exclude each other, as PostgreSQL documents it.
CONFLICTS = {KS: {U}, S: {NKU, U}, NKU: {S, NKU, U}, U: {KS, S, NKU, U}}
A, B = Rank(2, 0, "a"), Rank(2, 1, "b")
ROWS = [row(rank, (n,)) for rank in (A, B) for n in range(3)]
STEPS = st.dictionaries(st.sampled_from(ROWS), st.sampled_from(Strength), min_size=1, max_size=3)
PROGRAMS = st.lists(STEPS, min_size=1, max_size=4)


def test_a_stronger_lock_covers_a_weaker_one() -> None:
    """Whatever a weaker lock keeps out, the stronger one keeps out too; not the other way round."""
    for weak in Strength:
        for strong in Strength:
            assert (CONFLICTS[weak] <= CONFLICTS[strong]) is (weak <= strong)


def test_which_strengths_conflict() -> None:
    """As PostgreSQL documents it."""
    assert {one: {two for two in Strength if conflict(one, two)} for one in Strength} == CONFLICTS


@pytest.mark.parametrize(
    ("held", "wanted", "may_wait"),
    [
        ({}, (ROWS[0], U), True),
        ({ROWS[0]: U}, (ROWS[1], KS), True),
        ({ROWS[2]: KS}, (ROWS[3], U), True),  # a table of a higher rank
        ({ROWS[1]: KS}, (ROWS[0], KS), False),
        ({ROWS[3]: KS}, (ROWS[2], KS), False),  # a table of a lower rank
        ({ROWS[0]: KS}, (ROWS[0], NKU), True),  # the key, then the rest of the row
        ({ROWS[0]: KS, ROWS[1]: KS}, (ROWS[0], NKU), False),
        ({ROWS[0]: KS}, (ROWS[0], S), False),
        ({ROWS[0]: KS}, (ROWS[0], U), False),
        ({ROWS[0]: S}, (ROWS[0], NKU), False),
        ({ROWS[0]: NKU}, (ROWS[0], U), False),
    ],
)
def test_what_may_be_waited_for(
    held: dict[Resource, Strength], wanted: tuple[Resource, Strength], may_wait: bool
) -> None:
    """Only what is above everything held; an upgrade is not."""
    book = Book()
    for resource, strength in held.items():
        book.record(resource, strength)
    one = dict([wanted])
    assert book.plan(one) == (Plan(one, {}) if may_wait else Plan({}, one))


def test_a_floor_counts_as_held() -> None:
    """What the units around this one hold must not be waited below, also after a savepoint."""
    book = Book(lambda: Position(A, ROWS[1].order, 1))
    mark = book.mark()
    book.record(ROWS[3], U)
    book.back_to(mark)
    plan = book.plan({ROWS[0]: U, ROWS[1]: U, ROWS[2]: U})
    assert (list(plan.late), list(plan.in_order)) == ([ROWS[0], ROWS[1]], [ROWS[2]])
    assert not book.covers(ROWS[0], KS)


@given(PROGRAMS, STEPS)
def test_a_plan_leaves_nothing_out(taken: list[dict[Resource, Strength]], wants: dict) -> None:
    """Each request is covered, late or in order; both parts are sorted."""
    book = Book()
    for step in taken:
        for resource, strength in step.items():
            book.record(resource, strength)
    plan = book.plan(wants)
    covered = {one for one in wants if book.covers(one, wants[one])}
    assert covered | set(plan.late) | set(plan.in_order) == set(wants)
    assert not covered & (set(plan.late) | set(plan.in_order))
    for part in (plan.late, plan.in_order):
        assert list(part) == sorted(part)
        assert all(part[one] == wants[one] for one in part)
    for resource in plan.late:
        assert list(book.in_the_way(resource)), "late, and nothing says why"


@given(PROGRAMS)
def test_stronger_keeps_the_strongest(steps: list[dict[Resource, Strength]]) -> None:
    """A wanted set only grows."""
    into: dict[Resource, Strength] = {}
    for step in steps:
        stronger(into, step)
    for resource, strength in into.items():
        assert strength == max(step[resource] for step in steps if resource in step)


class Savepoints(RuleBasedStateMachine):
    """A book beside copies of what it was at each savepoint."""

    @initialize()
    def start(self) -> None:
        self.book = Book()
        self.now: tuple[dict[Resource, Strength], set[Resource], set[Resource]] = ({}, set(), set())
        self.marks: list[tuple[object, object]] = []

    @rule(resource=st.sampled_from(ROWS), strength=st.sampled_from(Strength))
    def lock(self, resource: Resource, strength: Strength) -> None:
        self.book.record(resource, strength)
        stronger(self.now[0], {resource: strength})

    @rule(resource=st.sampled_from(ROWS))
    def insert(self, resource: Resource) -> None:
        self.book.record_inserted(resource)
        self.now[1].add(resource)

    @rule(resource=st.sampled_from(ROWS))
    def write(self, resource: Resource) -> None:
        self.book.record_written(resource)
        self.now[2].add(resource)

    @rule()
    def savepoint(self) -> None:
        held, inserted, written = self.now
        self.marks.append((self.book.mark(), (dict(held), set(inserted), set(written))))

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def roll_back_to(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.marks) - 1))
        mark, (held, inserted, written) = self.marks[at]  # type: ignore[misc]
        del self.marks[at + 1 :]
        self.book.back_to(mark)  # type: ignore[arg-type]
        self.now = (dict(held), set(inserted), set(written))

    @invariant()
    def is_what_it_was(self) -> None:
        held, inserted, written = self.now
        assert self.book.strengths() == held
        assert self.book.inserted == inserted
        assert self.book.written == written
        tops = [Position(r.rank, r.order, 0 if s is KS else 1) for r, s in held.items()]
        # An INSERT has the table's own lock, which comes before all of its rows.
        tops += [Position(r.rank, (), 0) for r in inserted]
        assert self.book.top == max(tops, default=None)
        for resource in ROWS:
            for strength in Strength:
                covered = resource in inserted or held.get(resource, 0) >= strength
                assert self.book.covers(resource, strength) is covered


class TestSavepoints(Savepoints.TestCase):
    """Whatever happens between them, a rollback gives back exactly what was."""

    settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@dataclass
class Running:
    """A unit that runs its program by the protocol, one grant or refusal at a time."""

    program: list[dict[Resource, Strength]]
    #: Learned from refusals; taken first, as one request.
    wanted: dict[Resource, Strength] = field(default_factory=dict)
    book: Book = field(default_factory=Book)
    attempts: int = 1
    left: list[dict[Resource, Strength]] = field(default_factory=list)
    #: What the present request takes one after the other; the first is waited for.
    queue: list[tuple[Resource, Strength]] = field(default_factory=list)
    done: bool = False

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.book = Book()
        self.left = [step for step in (self.wanted, *self.program) if step]


class Server:
    """A lock table: it grants what conflicts with no holder and with nobody who waits already."""

    def __init__(self, programs: list[list[dict[Resource, Strength]]]) -> None:
        self.units = [Running(program) for program in programs]
        #: In the order in which they began to wait.
        self.waiting: list[Running] = []

    def refuses(self, unit: Running, resource: Resource, strength: Strength) -> bool:
        if any(
            other.book.held[resource].strength in CONFLICTS[strength]
            for other in self.units
            if other is not unit and resource in other.book.held
        ):
            return True
        # PostgreSQL lets one who has a lock on the row already pass the line before it.
        if resource in unit.book.held:
            return False
        line = self.waiting[: self.waiting.index(unit)] if unit in self.waiting else self.waiting
        return any(
            other.queue[0][0] == resource and other.queue[0][1] in CONFLICTS[strength]
            for other in line
        )

    def stuck(self, unit: Running) -> bool:
        return unit in self.waiting and self.refuses(unit, *unit.queue[0])

    def advance(self, unit: Running) -> None:
        """Let this unit do its next thing."""
        if unit.queue:
            resource, strength = unit.queue[0]
            if self.refuses(unit, resource, strength):
                self.waiting.append(unit)
                return
            if unit in self.waiting:
                self.waiting.remove(unit)
            del unit.queue[0]
            unit.book.record(resource, strength)
        elif unit.left:
            self.request(unit, unit.left.pop(0))
        else:
            unit.book = Book()
            unit.done = True

    def request(self, unit: Running, wants: dict[Resource, Strength]) -> None:
        plan = unit.book.plan(wants)
        for resource, strength in plan.late.items():
            if self.refuses(unit, resource, strength):
                stronger(unit.wanted, unit.book.strengths())
                stronger(unit.wanted, wants)
                unit.attempts += 1
                unit.begin()
                return
            unit.book.record(resource, strength)
        unit.queue = list(plan.in_order.items())


def run(programs: list[list[dict[Resource, Strength]]], choose: random.Random) -> Server:
    """Run them all, interleaved as `choose` says, and fail where none can go on."""
    server = Server(programs)
    for _ in range(100_000):
        left = [unit for unit in server.units if not unit.done]
        if not left:
            return server
        free = [unit for unit in left if not server.stuck(unit)]
        assert free, f"a circular wait: {[unit.queue[0] for unit in left]}"
        server.advance(choose.choice(free))
    raise AssertionError("they never end")


@settings(max_examples=300, deadline=None)
@given(st.lists(PROGRAMS, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_units_never_wait_in_a_circle(
    programs: list[list[dict[Resource, Strength]]], choose: random.Random
) -> None:
    """Whatever they ask for, in whatever interleaving: all end, after at most k attempts."""
    for unit in run(programs, choose).units:
        assert unit.attempts <= sum(len(step) for step in unit.program)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_who_declares_all_at_once_is_never_run_again(
    declared: list[dict[Resource, Strength]], choose: random.Random
) -> None:
    """One request takes its locks in order, so none of them is late."""
    assert {unit.attempts for unit in run([[step] for step in declared], choose).units} == {1}


def test_a_row_that_was_passed_by_counts_and_is_not_covered() -> None:
    """It may be held, so what comes before it is late; it may be not, so it is asked for again."""
    book = Book()
    mark = book.mark()
    book.pass_by(ROWS[2], U)
    assert not book.covers(ROWS[2], U)
    assert list(book.plan({ROWS[1]: U, ROWS[3]: U}).late) == [ROWS[1]]
    book.back_to(mark)
    assert not book.plan({ROWS[1]: U}).late


def test_a_table_that_was_touched_counts_without_a_row() -> None:
    """A lock query that found nothing holds the table's own lock, which a serial unit waits for."""
    book = Book()
    mark = book.mark()
    book.touch(B)
    assert list(book.plan({ROWS[2]: U, ROWS[3]: U}).late) == [ROWS[2]]
    book.back_to(mark)
    assert not book.plan({ROWS[2]: U}).late


def test_a_write_of_a_key_is_not_sure_to_have_locked_it() -> None:
    """A lock query makes sure of it, and ROLLBACK TO SAVEPOINT takes that back."""
    book = Book()
    book.record(ROWS[0], U, is_sure=False)
    assert book.held[ROWS[0]].strength is U  # as far as others may have to wait for it
    assert book.covers(ROWS[0], NKU)
    assert not book.covers(ROWS[0], U)
    assert book.plan({ROWS[0]: U}).late == {ROWS[0]: U}
    mark = book.mark()
    book.record(ROWS[0], U)
    assert book.covers(ROWS[0], U)
    book.record(ROWS[0], U, is_sure=False)
    assert book.covers(ROWS[0], U)
    book.back_to(mark)
    assert book.covers(ROWS[0], NKU)
    assert not book.covers(ROWS[0], U)

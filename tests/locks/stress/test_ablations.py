"""Each rule is needed: without it the stress deadlocks, or waits for what it did not foresee."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from unitofwork.core import transaction
from unitofwork.core.locks import acquire, again, bulk, lookups, ordered, survey, upserts
from unitofwork.core.locks.unique import Claims
from unitofwork.core.unit import Unit
from unitofwork.policies.locks import book as books
from unitofwork.policies.locks.book import Book, Plan, Wants
from unitofwork.testing.postgres import EmbeddedPostgres

from .programs import Program, Step
from .stress import Stress

Patch = pytest.MonkeyPatch
#: What is not there within so many seconds is taken for not coming.
SECONDS = 25.0


def _nothing(*_: Any, **__: Any) -> Any:
    return None


def all_is_held(patch: Patch) -> None:
    """Of R8: what was asked for counts as locked, whether there was a row or not."""
    take = acquire.take

    def wrong(unit: Unit, connection: Any, wants: Wants, *how: Any, **also: Any) -> None:
        take(unit, connection, wants, *how, **also)
        for resource, strength in wants.items():
            unit.book.record(resource, strength)

    patch.setattr(acquire, "take", wrong)
    patch.setattr(again, "take", wrong)


def no_second_check(patch: Patch) -> None:
    """Of R6, class 21."""
    patch.setattr(Book, "has_written", lambda *_: False)


def no_parents(patch: Patch) -> None:
    """Of R6: foreign keys lock nothing."""
    for module in (survey, lookups, ordered, upserts, bulk):
        patch.setattr(module, "check_parent", _nothing)
    no_second_check(patch)


def upgrades_wait(patch: Patch) -> None:
    """Of R2: a stronger lock on what is held may be waited for."""
    plan = Book.plan

    def wrong(self: Book, wants: Wants) -> Plan:
        made = plan(self, wants)
        for resource in [one for one in made.late if one in self.held]:
            made.in_order[resource] = made.late.pop(resource)
        made.in_order = dict(sorted(made.in_order.items()))
        return made

    patch.setattr(Book, "plan", wrong)


def late_ones_wait(patch: Patch) -> None:
    """Of R2."""
    plan = Book.plan

    def wrong(self: Book, wants: Wants) -> Plan:
        made = plan(self, wants)
        return Plan(in_order=dict(sorted({**made.in_order, **made.late}.items())))

    patch.setattr(Book, "plan", wrong)


def no_order(patch: Patch) -> None:
    """Of R1: rows are locked in the order of what was asked."""
    plan = Book.plan

    def wrong(self: Book, wants: Wants) -> Plan:
        made = plan(self, wants)
        unsorted = {one: wants[one] for one in wants if one in made.in_order}
        return Plan(in_order=unsorted, late=made.late)

    patch.setattr(Book, "plan", wrong)


def no_owner_check(patch: Patch) -> None:
    """Of R7: the row that has the value already may be under way."""
    patch.setattr(Claims, "claim", Claims.name)


def no_guard(patch: Patch) -> None:
    """Of R2, class 25: NOWAIT is taken at its word."""
    patch.setattr(acquire, "GUARD", None)


def savepoints_forget_nothing(patch: Patch) -> None:
    """Of R9: what a savepoint has released still counts as held."""
    patch.setattr(books.Book, "back_to", _nothing)


def no_closure(patch: Patch) -> None:
    """Of R10: what the database deletes by itself is not locked."""

    def nothing(*_: Any) -> Iterator[Any]:
        return iter(())

    patch.setattr(ordered, "closure", nothing)


def no_footprint(patch: Patch) -> None:
    """Of R4: flushes take their locks as they come to them."""
    patch.setattr(transaction, "lock_before", _nothing)
    patch.setattr(transaction, "note_after", _nothing)


@dataclass(frozen=True)
class Ablation:
    switch: Callable[[Patch], None]
    #: In which the case is frequent.
    steps: dict[Step, int]
    options: dict[str, Any] = field(default_factory=lambda: {"unique_names": True})


NOTES_AND_ITEMS = {Program.end_item: 2, Program.make_item: 4, Program.touch_items: 1}
ABLATIONS = {
    "absent rows": Ablation(
        all_is_held,
        {Program.end_item: 3, Program.make_item: 4, Program.items_come_and_go: 6},
    ),
    "class 21": Ablation(no_second_check, {**NOTES_AND_ITEMS, Program.note_twice: 6}),
    "parents": Ablation(no_parents, {**NOTES_AND_ITEMS, Program.note: 6}),
    "upgrades": Ablation(upgrades_wait, {Program.share_accounts: 3, Program.transfer: 3}),
    "late": Ablation(late_ones_wait, {Program.transfer: 3, Program.touch_owners: 3}),
    "order": Ablation(no_order, {Program.lock_across: 3, Program.transfer: 3}),
    "names": Ablation(
        _nothing, {Program.rename: 3, Program.make_owner: 3, Program.end_owner: 2}, {}
    ),
    "owner check": Ablation(no_owner_check, {Program.rename: 3, Program.touch_owners: 3}),
    "guard": Ablation(no_guard, {Program.lock_stronger: 3, Program.share_late: 3}),
    "savepoints": Ablation(savepoints_forget_nothing, {Program.savepoint: 4, Program.transfer: 4}),
    "cascades": Ablation(
        no_closure,
        {Program.end_owner: 3, Program.make_owner: 4, Program.touch_items: 4, Program.make_item: 4},
    ),
    "flushes": Ablation(no_footprint, {Program.transfer: 3, Program.touch_owners: 3}),
}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("name", ABLATIONS)
async def test_the_stress_fails_without(
    name: str, stress_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of that name is switched off: it shows, as a deadlock or a trip."""
    ablation = ABLATIONS[name]
    ablation.switch(monkeypatch)
    stress = Stress(stress_server, **ablation.options)
    report = await stress.run(100_000, seconds=SECONDS, steps=ablation.steps, until_failure=True)
    print(report)
    assert report.deadlocks > report.about_one_row or report.trips > report.twice, report

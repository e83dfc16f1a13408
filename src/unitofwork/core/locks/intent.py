"""Which objects a flush saves and deletes, by SQLAlchemy's own first pass where it matters."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.unitofwork import UOWTransaction

from .shapes import shape_of

State = InstanceState[Any]


class Intent(NamedTuple):
    """The objects that a flush writes."""

    saved: list[State]
    deleted: list[State]
    #: None where no relationship has a part in it.
    plan: UOWTransaction | None


def intent_of(session: Session) -> Intent:
    """What the next flush of a session will do."""
    changed = [instance_state(one) for one in session.dirty]
    if not session.new and not session.deleted and all(map(has_plain_changes, changed)):
        return Intent(changed, [], None)
    plan = _rehearse(session)
    saved: list[State] = []
    deleted: list[State] = []
    for state, (is_delete, only_listed) in plan.states.items():
        if not only_listed:
            (deleted if is_delete else saved).append(state)
    return Intent(saved, deleted, plan)


def has_plain_changes(state: State) -> bool:
    """Whether all that was set are columns that no other object's row follows."""
    mapper = state.mapper
    return (
        state.committed_state.keys() <= shape_of(mapper).plain
        and "_pending_mutations" not in state.__dict__
        and not mapper._is_orphan(state)
    )


def _rehearse(session: Session) -> UOWTransaction:
    """A flush's plan that is never executed: which objects it saves and deletes.

    Cascades, orphans and children that lose their parent are found by the very code that will
    find them again in the flush; it loads what that would load. There is no public way to ask.
    """
    plan = UOWTransaction(session)
    deleted = {instance_state(one) for one in session.deleted}
    changed = {instance_state(one) for one in (*session.new, *session.dirty)}
    for state in changed - deleted:
        is_orphan = state.mapper._is_orphan(state)
        if is_orphan and not state.has_identity and state._orphaned_outside_of_session:
            continue  # the flush lets go of it
        plan.register_object(state, isdelete=is_orphan and state.has_identity)
    for state in deleted - plan.states.keys():
        plan.register_object(state, isdelete=True)
    # Each may bring in objects that concern those before it, so all have to come to rest.
    while sum(action.execute(plan) for action in list(plan.presort_actions.values())):
        pass
    return plan

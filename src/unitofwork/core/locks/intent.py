"""What a flush is going to do with which object, by SQLAlchemy's own first pass."""

from __future__ import annotations

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.unitofwork import UOWTransaction


def rehearse(session: Session) -> UOWTransaction:
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

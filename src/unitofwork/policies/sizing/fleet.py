"""Rules about the fleet: do all its connections fit the server, also while it is deployed?"""

from __future__ import annotations

from .facts import Facts
from .recommending import recommend
from .rule import Problem, rule
from .sums import demand, engines_on_server, fitting_size, processes, room


@rule("error")
def fleet_too_large(facts: Facts) -> Problem | None:
    """The fleet may open more connections than there can be."""
    wanted, limit = demand(facts), room(facts)
    if wanted is None or limit is None or wanted.value <= limit.value:
        return None
    return Problem(f"{wanted.text} > {limit.text}.", *_smaller(facts))


@rule("warning")
def rolling_deploy(facts: Facts) -> Problem | None:
    """While it is deployed, two generations of the fleet are connected."""
    wanted, limit = demand(facts), room(facts)
    generations = facts.process.generations
    if wanted is None or limit is None or wanted.value > limit.value:
        return None
    together = generations * wanted.value
    if together <= limit.value:
        return None
    factors = wanted.text.rpartition(" = ")[0]
    return Problem(
        f"during a deployment {generations} generations x {factors} = {together} > {limit.text}.",
        *_smaller(facts),
    )


def _smaller(facts: Facts) -> tuple[str, int | None]:
    told = recommend(facts)
    if told is not None:
        return f"create_engine(..., pool_size={told.pool_size}, max_overflow=0).", told.pool_size
    alone = fitting_size(facts, generations=1)
    if alone is not None and alone.value >= 1:
        return (
            f"create_engine(..., pool_size={alone.value}, max_overflow=0), and end the old "
            "generation before the new one starts; or run fewer workers or replicas, raise the "
            "limit, or put a pooler in front.",
            alone.value,
        )
    return (
        f"no pool size fits {processes(facts.process).text}: run fewer, give other engines fewer "
        "connections, raise the limit, or put a pooler in front.",
        None,
    )


@rule("error")
def unlimited_pool(facts: Facts) -> Problem | None:
    """A pool without a limit lets the load decide how many connections there are."""
    engine = facts.engine
    unlimited = engine.pool_size == 0 or (engine.max_overflow or 0) < 0
    if not unlimited or engine.is_sqlite:
        return None
    told = recommend(facts)
    size = None if told is None else told.pool_size
    return Problem(
        f"pool_size={engine.pool_size}, max_overflow={engine.max_overflow}: no limit, so no "
        "server is large enough.",
        f"create_engine(..., pool_size={size or 5}, max_overflow=0).",
        size,
    )


@rule("warning")
def several_engines(facts: Facts) -> Problem | None:
    """Two engines of one process on one database split what one pool could share."""
    same = [one for one in engines_on_server(facts) if one.database == facts.engine.database]
    if len(same) < 2 or facts.engine.is_sqlite:
        return None
    sizes = " + ".join("no limit" if one.capacity is None else str(one.capacity) for one in same)
    return Problem(
        f"{len(same)} engines of this process lead to {facts.engine.server}/"
        f"{facts.engine.database}: {sizes} connections.",
        "make one engine and use it everywhere; a unit of each would hold two connections.",
    )


@rule("info")
def unknown_facts(facts: Facts) -> Problem | None:
    """What was not known is named: it was not judged."""
    server, process = facts.server, facts.process
    if server is None or facts.engine.is_sqlite:
        return None
    unknown = [name for name in ("workers", "replicas") if getattr(process, name) is None]
    unknown += [
        name
        for name in ("max_connections", "reserved", "others", "role_limit", "database_limit")
        if getattr(server, name) is None
    ]
    if facts.pooler is not None:
        unknown += [
            f"{name} of {facts.pooler.name}"
            for name in ("max_client_conn", "default_pool_size")
            if getattr(facts.pooler, name) is None
        ]
    if not unknown:
        return None
    return Problem(
        f"not known, so not judged: {', '.join(unknown)}. Unknown workers and replicas count as 1.",
        "pass workers= and replicas= (--workers, --replicas), or set WEB_CONCURRENCY and "
        "UNITOFWORK_REPLICAS; for the others see what the role may read.",
    )

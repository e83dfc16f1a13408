"""The arithmetic of a fleet, each number with the sum that it came from."""

from __future__ import annotations

from typing import NamedTuple

from .facts import EngineFacts, Facts, ProcessFacts


class Sum(NamedTuple):
    """A number, and how it was reached."""

    value: int
    text: str


def processes(process: ProcessFacts) -> Sum:
    """Processes of the fleet; what is unknown counts as one, which is the least there can be."""
    factors = [
        (count, f"{count} {name}{'' if count == 1 else 's'}")
        for count, name in ((process.workers, "worker"), (process.replicas, "replica"))
        if count is not None
    ]
    value = 1
    for count, _ in factors:
        value *= count
    return Sum(value, " x ".join(text for _, text in factors) or "1 process")


def engines_on_server(facts: Facts) -> list[EngineFacts]:
    """This engine first, and the others of this process that lead to the same server."""
    mine = facts.engine
    others = facts.process.other_engines
    return [
        mine,
        *(one for one in others if (one.backend, one.server) == (mine.backend, mine.server)),
    ]


def per_process(facts: Facts) -> Sum | None:
    """Connections that one process may open to the server; None where no limit is known."""
    value, texts = 0, []
    for engine in engines_on_server(facts):
        if engine.capacity is None:
            return None
        value += engine.capacity
        overflow = engine.max_overflow or 0
        texts.append(f"({engine.pool_size} + {overflow})" if overflow else str(engine.capacity))
    return Sum(value, texts[0] if len(texts) == 1 else f"({' + '.join(texts)})")


def demand(facts: Facts) -> Sum | None:
    """Connections that the whole fleet may open."""
    each, fleet = per_process(facts), processes(facts.process)
    if each is None:
        return None
    value = fleet.value * each.value
    return Sum(value, f"{fleet.text} x {each.text} = {value}")


def room(facts: Facts) -> Sum | None:
    """Connections that the fleet may have at most: the tightest limit; None where none is known.

    Behind a pooler that is the pooler's.
    """
    found = [_pooler_room(facts)] if facts.pooler else server_rooms(facts)
    return min((one for one in found if one is not None), default=None, key=lambda one: one.value)


def server_rooms(facts: Facts) -> list[Sum]:
    """What the server, this role and this database each leave for the fleet."""
    server, rooms = facts.server, []
    if server is None:
        return []
    if server.max_connections is not None:
        rooms.append(
            _difference(
                server.max_connections,
                (server.reserved, "reserved"),
                (server.others, "in use"),
                name="max_connections",
            )
        )
    if server.role_limit is not None and server.role_limit >= 0:
        rooms.append(
            _difference(
                server.role_limit, (server.role_others, "in use"), name="the limit of this role"
            )
        )
    if server.database_limit is not None and server.database_limit >= 0:
        rooms.append(
            _difference(
                server.database_limit,
                (server.database_others, "in use"),
                name="the limit of this database",
            )
        )
    return rooms


def _pooler_room(facts: Facts) -> Sum | None:
    pooler = facts.pooler
    if pooler is None or pooler.max_client_conn is None:
        return None
    taken = (pooler.clients_of_others, "in use")
    return _difference(pooler.max_client_conn, taken, name=f"max_client_conn of {pooler.name}")


def _difference(total: int, *taken: tuple[int | None, str], name: str) -> Sum:
    parts = [(count, what) for count, what in taken if count]
    value = total - sum(count for count, _ in parts)
    text = "".join(f" - {count} {what}" for count, what in parts)
    return Sum(value, f"{total}{text}{f' = {value}' if parts else ''} ({name})")


def fitting_size(facts: Facts, generations: int | None = None) -> Sum | None:
    """The largest `pool_size` of this engine with which all generations fit; may be below 1."""
    limit = room(facts)
    if limit is None:
        return None
    others = sum(engine.capacity or 0 for engine in engines_on_server(facts)[1:])
    fleet = processes(facts.process)
    generations = generations or facts.process.generations
    value = limit.value // (generations * fleet.value) - others
    overlap = "1 generation" if generations == 1 else f"{generations} generations"
    besides = f" - {others} of other engines" if others else ""
    return Sum(value, f"{limit.text} / ({overlap} x {fleet.text}){besides}: {value} each")

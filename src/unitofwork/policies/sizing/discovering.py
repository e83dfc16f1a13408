"""What environment and command line tell about the fleet: pure, so that it can be tested."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from ...types import Fleet
from .facts import EngineFacts, ProcessFacts

#: By server: the options that say how many workers, threads and requests at once there are.
_OPTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gunicorn": {"workers": ("-w", "--workers"), "threads": ("--threads",)},
    "uvicorn": {"workers": ("--workers",), "concurrency": ("--limit-concurrency",)},
}


def process_facts(
    fleet: Fleet,
    environ: Mapping[str, str],
    argv: Sequence[str],
    *,
    threads: int | None = None,
    in_event_loop: bool | None = None,
    other_engines: tuple[EngineFacts, ...] = (),
) -> ProcessFacts:
    """What was given wins; then the command line, then the environment; else it is unknown."""
    server, line = _server(argv)
    gunicorn = shlex.split(environ.get("GUNICORN_CMD_ARGS", "")) if server == "gunicorn" else []
    told = {
        name: next((n for n in (_option(line, f), _option(gunicorn, f)) if n is not None), None)
        for name, f in _OPTIONS.get(server, {}).items()
    }
    workers, workers_from = _first(
        (fleet.get("workers"), "argument"),
        (told.get("workers"), server),
        (_count(environ.get("WEB_CONCURRENCY")), "WEB_CONCURRENCY"),
    )
    replicas, replicas_from = _first(
        (fleet.get("replicas"), "argument"),
        (_count(environ.get("UNITOFWORK_REPLICAS")), "UNITOFWORK_REPLICAS"),
    )
    concurrency, _ = _first(
        (fleet.get("concurrency"), "argument"), (told.get("concurrency"), server)
    )
    generations = fleet.get("generations")
    return ProcessFacts(
        workers=workers,
        workers_from=workers_from,
        replicas=replicas,
        replicas_from=replicas_from,
        generations=2 if generations is None else generations,
        threads=told.get("threads") or threads,
        concurrency=concurrency,
        in_event_loop=in_event_loop,
        connections=fleet.get("connections"),
        request_timeout=fleet.get("request_timeout"),
        idle_limit=fleet.get("idle_limit"),
        throughput=fleet.get("throughput"),
        transaction_time=fleet.get("transaction_time"),
        other_engines=other_engines,
    )


def _server(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    # `python -m uvicorn` has the path of uvicorn's __main__.py there.
    if not argv:
        return "", ()
    program = PurePath(argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return name, argv[1:]


def _option(line: Sequence[str], names: tuple[str, ...]) -> int | None:
    for position, word in enumerate(line):
        name, separator, value = word.partition("=")
        if name in names:
            following = line[position + 1] if position + 1 < len(line) else ""
            return _count(value if separator else following)
        if any(len(n) == 2 and word.startswith(n) and len(word) > 2 for n in names):
            return _count(word[2:])  # -w4
    return None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and int(text) > 0 else None


def _first(*candidates: tuple[int | None, str]) -> tuple[int | None, str | None]:
    return next((pair for pair in candidates if pair[0] is not None), (None, None))

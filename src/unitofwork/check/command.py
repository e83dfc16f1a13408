"""`unitofwork check`: its options."""

from __future__ import annotations

import asyncio
import enum
import time
from dataclasses import replace
from typing import Annotated

import typer

from unitofwork import AsyncUnitOfWork, ConfigurationError
from unitofwork.types import Finding, Fleet

from .report import Report, show
from .target import AnyUnitOfWork, CheckError, place, redacted, resolve

#: Seconds between two looks whether a server is there.
PAUSE = 0.5


class Format(enum.StrEnum):
    """How the findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def check(
    target: Annotated[
        str, typer.Argument(metavar="URL|MODULE:ATTRIBUTE", help="The database, or the engine.")
    ],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of a replica; else WEB_CONCURRENCY.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Replicas; else UNITOFWORK_REPLICAS.")
    ] = None,
    generations: Annotated[
        int | None, typer.Option(min=1, help="Connected at once during a deployment; else 2.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Units that run at once in a process.")
    ] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, help="The most connections that one tree of units holds.")
    ] = None,
    request_timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that a client waits for its answer.")
    ] = None,
    idle_limit: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that the network lets a session idle.")
    ] = None,
    throughput: Annotated[
        float | None, typer.Option(min=0.001, help="Units per second of the whole fleet.")
    ] = None,
    transaction_ms: Annotated[
        float | None, typer.Option(min=0.001, help="How long a unit takes, in milliseconds.")
    ] = None,
    pool_size: Annotated[
        int | None, typer.Option(min=1, help="For a URL: the pool, if not that of from_url.")
    ] = None,
    max_overflow: Annotated[int | None, typer.Option(min=0, help="For a URL: likewise.")] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a server that is not there yet.")
    ] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 for warnings.")] = False,
    format: Annotated[Format, typer.Option(help="How to write the findings.")] = Format.TEXT,
) -> None:
    """Hold the pools of a fleet against what the server really allows.

    Needs no superuser and changes nothing. Exit code 0: the fleet may start. 1: there are
    warnings, with --strict. 2: there are errors, or the check could not run.
    """
    fleet: Fleet = {
        "workers": workers,
        "replicas": replicas,
        "generations": generations,
        "concurrency": concurrency,
        "connections": connections,
        "request_timeout": request_timeout,
        "idle_limit": idle_limit,
        "throughput": throughput,
        "transaction_time": None if transaction_ms is None else transaction_ms / 1000,
    }
    report = Report(target=redacted(target), strict=strict)
    try:
        uow = resolve(target, pool_size, max_overflow)
        report = replace(report, target=place(uow.engine.url))
        report = replace(report, findings=findings_of(uow, fleet, wait))
    except (CheckError, ConfigurationError) as error:
        report = replace(report, error=redacted(str(error)))
    show(report, format)
    raise typer.Exit(report.exit_code)


def findings_of(uow: AnyUnitOfWork, fleet: Fleet, wait: float) -> list[Finding]:
    """What the validator finds; a server that stays away for `wait` seconds is a finding too."""
    deadline = time.monotonic() + wait
    while True:
        findings = _ask(uow, fleet)
        away = any(finding.code == "unreachable" for finding in findings)
        if not away or time.monotonic() >= deadline:
            return findings
        time.sleep(PAUSE)


def _ask(uow: AnyUnitOfWork, fleet: Fleet) -> list[Finding]:
    if isinstance(uow, AsyncUnitOfWork):
        return asyncio.run(_ask_async(uow, fleet))
    try:
        return uow.validate(**fleet)
    finally:
        uow.engine.dispose()


async def _ask_async(uow: AsyncUnitOfWork, fleet: Fleet) -> list[Finding]:
    try:
        return await uow.validate(**fleet)
    finally:
        await uow.engine.dispose()

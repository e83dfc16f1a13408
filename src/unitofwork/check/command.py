"""`unitofwork check`: its options."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import replace
from typing import Annotated

import typer

from unitofwork import AsyncUnitOfWork, ConfigurationError
from unitofwork.types import Finding, Fleet

from .report import Report, show
from .target import AnyUnitOfWork, CheckError, place, redacted, resolve


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
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Units that run at once in a process.")
    ] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, help="The most connections that one tree of units holds.")
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
        "concurrency": concurrency,
        "connections": connections,
        "throughput": throughput,
        "transaction_time": None if transaction_ms is None else transaction_ms / 1000,
    }
    report = Report(target=redacted(target), strict=strict)
    try:
        uow = resolve(target, pool_size, max_overflow)
        report = replace(report, target=place(uow.engine.url), findings=findings_of(uow, fleet))
    except (CheckError, ConfigurationError) as error:
        report = replace(report, error=redacted(str(error)))
    show(report, format)
    raise typer.Exit(report.exit_code)


def findings_of(uow: AnyUnitOfWork, fleet: Fleet) -> list[Finding]:
    """What the validator finds; a server that does not answer is a finding too."""
    if isinstance(uow, AsyncUnitOfWork):
        return asyncio.run(_findings_of(uow, fleet))
    try:
        return uow.validate(**fleet)
    finally:
        uow.engine.dispose()


async def _findings_of(uow: AsyncUnitOfWork, fleet: Fleet) -> list[Finding]:
    try:
        return await uow.validate(**fleet)
    finally:
        await uow.engine.dispose()

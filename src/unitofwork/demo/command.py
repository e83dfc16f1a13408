"""`unitofwork demo`: its options."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .plan import DemoError, plan_for
from .run import run_demo


def demo(
    url: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL to run on instead of an embedded one: postgresql://..."),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, max=400, help="Requests at once.")] = 100,
    pool: Annotated[int, typer.Option(min=1, max=50, help="Connections in the pool.")] = 5,
    call_ms: Annotated[
        int, typer.Option(min=1, max=10_000, help="How long the service takes, in milliseconds.")
    ] = 200,
    transfers: Annotated[
        int | None, typer.Option(min=1, help="Transfers in each way; 2000, or 400 if quick.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fifteen seconds instead of forty.")
    ] = False,
) -> None:
    """Run the same work in plain SQLAlchemy and in units, and compare.

    Works in a schema `unitofwork_demo` of its own, which it drops at the end.
    Exit code 1: money was lost, or a request failed in unitofwork. 2: it could not run.
    """
    plan = plan_for(
        quick=quick, requests=requests, pool=pool, call=call_ms / 1000, transfers=transfers
    )
    try:
        code = run_demo(url, plan, Console())
    except DemoError as error:
        typer.echo(f"unitofwork demo: {error}", err=True)
        code = 2
    raise typer.Exit(code)

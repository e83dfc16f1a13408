"""The command line: `unitofwork check`, `unitofwork locks`, `unitofwork demo`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command is defined, and the extra of this package that holds what it imports."""

    module: str
    extra: str
    needs: tuple[str, ...]


COMMANDS = {
    "check": Command("unitofwork.check.command", "cli", ("typer", "rich")),
    "locks": Command("unitofwork.locks_command", "cli", ("typer",)),
    "demo": Command("unitofwork.demo.command", "demo", ("typer", "rich", "aiohttp", "asyncpg")),
}


def main() -> None:
    """Run the command line; exits with 2 if an extra is missing."""
    # Only the module of the command that was asked for: to import them all takes longer than a
    # check does, and each has extras of its own.
    asked = [name for name in COMMANDS if name in sys.argv[1:2]]
    functions = {name: _function(name, required=bool(asked)) for name in asked or COMMANDS}
    import typer

    # A traceback with local variables would print the password of a URL.
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False
    )
    app.callback()(about)
    for name, function in functions.items():
        app.command(name)(function)
    app()


def _function(name: str, required: bool) -> Callable[..., Any]:
    """The function of a command; where it is only listed, a word on what it lacks will do."""
    command = COMMANDS[name]
    try:
        function: Callable[..., Any] = getattr(import_module(command.module), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in command.needs:
            raise
        remedy = f"pip install 'sqlalchemy-unitofwork[{command.extra}]'"
        if required or missing in ("typer", "rich"):
            print(f"unitofwork {name} needs {missing}: {remedy}", file=sys.stderr)
            raise SystemExit(2) from None

        def function() -> None: ...

        # What stands in brackets is markup in a help text.
        function.__doc__ = f"Needs {missing}: {remedy}".replace("[", r"\[")
    return function


def about() -> None:
    """Short scoped transactions for SQLAlchemy that never exhaust the pool."""


if __name__ == "__main__":
    main()

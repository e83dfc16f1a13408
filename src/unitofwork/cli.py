"""The command line: `unitofwork demo`."""

from __future__ import annotations

import sys

#: What the commands import beyond the library's own dependencies.
EXTRAS = ("typer", "rich", "aiohttp", "asyncpg")
REMEDY = "pip install 'sqlalchemy-unitofwork[demo]'"


def main() -> None:
    """Run the command line; exits with 2 if an extra is missing."""
    try:
        import typer

        from .demo.command import demo
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        print(f"unitofwork demo needs {missing}: {REMEDY}", file=sys.stderr)
        raise SystemExit(2) from None

    # A traceback with local variables would print the password of a URL.
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False
    )
    app.callback()(about)
    app.command()(demo)
    app()


def about() -> None:
    """Short scoped transactions for SQLAlchemy that never exhaust the pool."""


if __name__ == "__main__":
    main()

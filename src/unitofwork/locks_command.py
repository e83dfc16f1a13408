"""`unitofwork locks`: writes and checks the pinned lock-order file."""

from __future__ import annotations

import importlib
import operator
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import MetaData

from .core.locks.order_file import missing, moved, parse, read, write
from .errors import ConfigurationError


def locks(
    models: Annotated[
        str, typer.Argument(metavar="MODULE:BASE", help="A declarative base, or its MetaData.")
    ],
    write_file: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Append new tables.")
    ] = None,
    check_file: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Is any table missing?")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="With --check: the deployed version; - is stdin."),
    ] = None,
) -> None:
    """Pin the order in which units lock tables, so that two deployed versions agree.

    Exit code 0: the file is right. 1: tables are missing in it, or were moved. 2: it could not run.
    """
    try:
        metadata = metadata_of(models)
        if write_file is not None and check_file is None and against is None:
            appended = write(write_file, metadata)
            print("\n".join(f"appended {name}" for name in appended) or "nothing new")
        elif check_file is not None and write_file is None:
            if problems := check(check_file, metadata, against):
                print("\n".join(problems))
                raise typer.Exit(1)
            print("the lock order is complete")
        else:
            raise ConfigurationError("Give --write FILE, or --check FILE [--against FILE].")
    except (ConfigurationError, OSError) as error:
        print(f"unitofwork locks: {getattr(error, 'what', error)}", file=sys.stderr)
        if remedy := getattr(error, "remedy", ""):
            print(f"What to do: {remedy}", file=sys.stderr)
        raise typer.Exit(2) from None


def check(path: Path, metadata: MetaData, against: str | None = None) -> list[str]:
    """What is wrong with the file, one line each. Raises `ConfigurationError`."""
    pinned = read(path)
    problems = [
        f"{path}: {name} is missing; append it: unitofwork locks --write"
        for name in missing(pinned, metadata)
    ]
    if against is not None:
        earlier = parse(sys.stdin.read(), "stdin") if against == "-" else read(against)
        problems += [
            f"{path}: {name} was moved; put it back, new tables go below all others"
            for name in moved(pinned, earlier)
        ]
    return problems


def metadata_of(models: str) -> MetaData:
    """The MetaData that `module:attribute` names. Raises `ConfigurationError`."""
    name, _, attribute = models.partition(":")
    # As `python -m` has it: the project is where the command is started.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = operator.attrgetter(attribute)(importlib.import_module(name))
    except Exception as error:
        raise ConfigurationError(
            f"{models} can't be imported: {type(error).__name__}: {error}",
            "name it as module:attribute, such as shop.models:Base.",
        ) from error
    found = getattr(found, "metadata", found)
    if not isinstance(found, MetaData):
        raise ConfigurationError(
            f"{models} is a {type(found).__name__}.", "name a declarative base or a MetaData."
        )
    return found

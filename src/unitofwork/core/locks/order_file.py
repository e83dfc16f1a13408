"""The pinned lock-order file: a table a line, the first is locked first; only appended to."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import MetaData

from ...errors import ConfigurationError
from .tables import Tables

HEADER = """\
# The order in which units lock tables: the first line is locked first.
# Only append, below the last line: a version that runs beside this one has the same order so far.
# `unitofwork locks --write` appends new tables, `unitofwork locks --check` compares.
"""
#: A name in quotes, which are doubled in it; or from a # at the start of a word to the end of the
#: line a comment, for a table's name may have one inside.
_LINE = re.compile(
    r'\s*"(?P<quoted>(?:[^"]|"")*)"\s*(?:#.*)?$|(?P<plain>.*?)\s*(?:(?:^|(?<=\s))#.*)?$'
)


def read(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The tables that the file lists. Raises `ConfigurationError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The lock-order file can't be read: {error}.",
            f"write it: unitofwork locks --write {os.fspath(path)} module:Base",
        ) from error
    return parse(text, os.fspath(path))


def parse(text: str, source: str) -> tuple[str, ...]:
    """The tables of a file with this text. Raises `ConfigurationError` for one listed twice."""
    lines: dict[str, int] = {}
    # Some editors begin a file with a byte order mark.
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        name = _name(line)
        if name in lines:
            raise ConfigurationError(
                f"{source} lists {name} on line {lines[name]} and again on line {number}.",
                "keep the upper line, which versions that are deployed go by.",
            )
        if name:
            lines[name] = number
    return tuple(lines)


def _name(line: str) -> str:
    match = _LINE.match(line)
    assert match is not None  # the second half of it matches everything
    quoted: str | None = match["quoted"]
    return match["plain"].strip() if quoted is None else quoted.replace('""', '"')


def _line(name: str) -> str:
    """The line for a table; in quotes where it would be read as something else."""
    quoted = name.replace('"', '""')
    return name if _name(name) == name else f'"{quoted}"'


def write(path: str | os.PathLike[str], metadata: MetaData) -> list[str]:
    """Append the tables that the file lacks, parents first; makes the file if there is none.

    Returns what was appended. Raises `ConfigurationError`.
    """
    file = Path(path)
    exists = file.exists()
    new = missing(read(path) if exists else (), metadata)
    if new or not exists:
        text = file.read_text(encoding="utf-8") if exists else HEADER
        if text and not text.endswith("\n"):
            text += "\n"
        file.write_text(text + "".join(f"{_line(name)}\n" for name in new), encoding="utf-8")
    return new


def missing(pinned: Sequence[str], metadata: MetaData) -> list[str]:
    """The tables of the models that are not in the file, in the order that they have without it."""
    tables = Tables(pinned)
    known = set(pinned)
    ranked = sorted(metadata.tables.values(), key=tables.rank)
    return [table.fullname for table in ranked if table.fullname not in known]


def moved(pinned: Sequence[str], earlier: Sequence[str]) -> list[str]:
    """The tables on whose place two versions of the file disagree.

    An earlier version has a new table below all that it pins, so one that was put among these is
    out of place too. A table may be taken out of the file once no running version has it.
    """
    known = set(earlier)
    kept = [name for name in earlier if name in set(pinned)]
    new = [name for name in pinned if name not in known]
    matches = difflib.SequenceMatcher(None, kept + new, pinned, autojunk=False)
    return [
        name
        for tag, _, _, start, end in matches.get_opcodes()
        if tag != "equal"
        for name in pinned[start:end]
    ]

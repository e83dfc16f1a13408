"""A text of SQL taken apart: its statements without comments, with one kind of placeholder."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple


class Piece(NamedTuple):
    """One statement of a text."""

    #: Placeholders are called `:uow_0`, `:uow_1`, ... over the whole text.
    sql: str
    #: The same with nothing between its quotes.
    bare: str


class Pieces(NamedTuple):
    """A text."""

    statements: list[Piece]
    #: By the number of a placeholder, the name of the parameter, or its place from 0.
    keys: list[str | int]


#: The semicolons in the body of a trigger or function do not end the statement that makes it.
_BODY = re.compile(r"\s*create\b.*\bbegin\b", re.IGNORECASE | re.DOTALL)
_STRINGS = r"(?<!\w)[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'"
_COMMENTS = r"--[^\n]*|/\*(?>[^*/]|\*(?!/)|/(?!\*)|/\*.*?\*/)*+\*/"
#: On MySQL a string may have a backslash before its quote.
_MYSQL_STRINGS = r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\""
_MYSQL_COMMENTS = r"--(?=\s|$)[^\n]*|\#[^\n]*|/\*.*?\*/"


@functools.cache
def _tokens(dialect: str) -> re.Pattern[str]:
    is_mysql = dialect == "mysql"
    return re.compile(
        rf"(?P<comment>{_MYSQL_COMMENTS if is_mysql else _COMMENTS})"
        rf"|(?P<string>{_MYSQL_STRINGS if is_mysql else _STRINGS}"
        r"|(?<!\w)(?P<dollar>\$(?:[a-zA-Z_]\w*)?\$).*?(?P=dollar))"
        r"|(?P<name>\"(?:[^\"]|\"\")*\"|`[^`]*`)"
        r"|(?P<end>;)|(?P<percent>%%)"
        r"|\$(?P<number>\d+)|%\((?P<key>[^)]*)\)s"
        # On PostgreSQL it is an operator of jsonb, and no driver's placeholder.
        + (r"|(?P<next>%s)" if dialect == "postgres" else r"|(?P<next>%s|\?)"),
        re.DOTALL,
    )


def take_apart(text: str, dialect: str) -> Pieces:
    """The statements of a text; `dialect` as sqlglot calls it."""
    found: list[Piece] = []
    keys: list[str | int] = []
    sql: list[str] = []
    bare: list[str] = []
    at = places = 0

    def put(piece: str, hidden: str | None = None) -> None:
        sql.append(piece)
        bare.append(piece if hidden is None else hidden)

    def end() -> None:
        if (whole := "".join(sql).strip()) != "":
            found.append(Piece(whole, "".join(bare).strip()))
        sql.clear()
        bare.clear()

    for token in _tokens(dialect).finditer(text):
        put(text[at : token.start()])
        at = token.end()
        match token.lastgroup:
            case "comment":
                put(" ")
            case "string" | "dollar":
                put(token[0], "''")
            case "name":
                put(token[0], '""')
            case "percent":
                put("%")
            case "end":
                if _BODY.match("".join(bare)):
                    put(";")
                else:
                    end()
            case kind:
                key: str | int = token["key"]
                if kind != "key":
                    key = places if kind == "next" else int(token["number"]) - 1
                    places += 1
                put(f":uow_{len(keys)}")
                keys.append(key)
    put(text[at:])
    end()
    return Pieces(found, keys)

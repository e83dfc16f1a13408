"""What was read from a statement: the locks it asks for, and what else changes what is held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, NamedTuple

from ..policies.lock_graph import LockClass

#: So many keys of one statement are kept: each costs time whenever the statement is sent.
MANY_KEYS = 16


class Literal(NamedTuple):
    """A value in the text."""

    value: object


class Parameter(NamedTuple):
    """A value that is sent with it: by name, or by place from 0."""

    key: str | int


#: What names a row: all of it must have a value. Where it is one parameter, that may be a list.
Key = tuple[Literal | Parameter, ...]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What the text does not say about a table."""

    primary_key: frozenset[str]
    #: Columns whose change locks the row FOR UPDATE.
    keys: frozenset[str]
    #: By the columns of a foreign key, the table that it refers to, and its columns there.
    parents: Mapping[tuple[str, ...], tuple[str, tuple[str, ...]]]
    columns: tuple[str, ...] = ()


class Name(NamedTuple):
    """The name of an advisory lock, made of the text and of parameters."""

    text: str
    parameters: tuple[tuple[str, str | int], ...] = ()

    def told(self, parameters: Any) -> str | None:
        """The name with the values of one execution; None where they can't be told."""
        text = self.text
        for placeholder, key in reversed(self.parameters):  # :uow_10 before :uow_1
            try:
                text = text.replace(placeholder, repr(parameters[key]))
            except (KeyError, IndexError, TypeError):
                return None
        return text


@dataclass(frozen=True, slots=True)
class LockRequest:
    """One lock that a statement takes."""

    lock: LockClass
    #: False: it is refused, or passed over, instead of waiting.
    waits: bool = True
    #: Several rows, in the order that the server happens to find them.
    many: bool = False
    #: What names the rows, and the columns whose values it is; none where the text does not tell.
    keys: tuple[Key, ...] = ()
    by: tuple[str, ...] = ()
    #: There are more keys than are kept.
    more: bool = False
    #: Held until it is given back, beyond the end of the transaction.
    session: bool = False
    #: One lock, not rows of which each is another: a whole table, or a name.
    exact: bool = False
    #: Where parameters tell which.
    name: Name | None = None
    #: The one parameter that names the row, the plain case.
    only: str | int | None = field(init=False, default=None)
    #: Takes the values of the parameters, where each names a row.
    values: Callable[[Any], tuple[Any, ...]] | None = field(init=False, default=None, compare=False)

    def __post_init__(self) -> None:
        parts = [key[0] for key in self.keys if len(key) == 1]
        given = [part.key for part in parts if isinstance(part, Parameter)]
        if not given or len(given) < len(self.keys):
            return
        if len(given) == 1:
            object.__setattr__(self, "only", given[0])
        else:
            object.__setattr__(self, "values", itemgetter(*given))


class Inserted(NamedTuple):
    """Rows that a statement makes."""

    table: str
    #: As if they were locked; None: the text does not tell which they are.
    rows: LockRequest | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """What is known of one statement."""

    locks: tuple[LockRequest, ...] = ()
    inserted: Inserted | None = None
    #: A savepoint that it sets, gives up, or goes back to, by which locks are given back.
    sets: str | None = None
    releases: str | None = None
    back_to: str | None = None
    #: The named lock of the session that it gives back; without a text, all of them.
    gives_back: Name | None = None
    #: It ends the transaction.
    ends: bool = False
    readable: bool = True
    #: The locks that stay when the transaction ends.
    sessions: frozenset[LockClass] = field(init=False, default=frozenset())
    #: Whether the parameters tell which locks they are.
    by_value: bool = field(init=False, default=False)
    #: The one lock, where it does nothing else.
    plain: LockRequest | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        sessions = frozenset(each.lock for each in self.locks if each.session)
        object.__setattr__(self, "sessions", sessions)
        object.__setattr__(self, "by_value", any(each.name is not None for each in self.locks))
        if len(self.locks) == 1 and not (self.inserted or sessions or self.by_value):
            object.__setattr__(self, "plain", self.locks[0])

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to do when it is sent."""
        savepoint = self.sets or self.releases or self.back_to
        does = self.locks or self.inserted or savepoint or self.gives_back or self.ends
        return not does

    def with_names(self, parameters: Any) -> Statement:
        """With the names that the parameters of one execution make."""
        return replace(self, locks=tuple(_named(each, parameters) for each in self.locks))

    def without_names(self) -> Statement:
        """Without the locks that the parameters name."""
        return replace(self, locks=tuple(each for each in self.locks if each.name is None))


def _named(request: LockRequest, parameters: Any) -> LockRequest:
    told = None if request.name is None else request.name.told(parameters)
    if told is None:
        return replace(request, name=None)
    return LockRequest(
        LockClass(f"named lock {told}", request.lock.strength),
        request.waits,
        session=request.session,
        exact=True,
    )

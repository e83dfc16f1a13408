"""Values of keys, each in one form however it was spelled."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Integer, Table
from sqlalchemy.orm import Mapper

from ...errors import ConfigurationError
from ...sql.key_types import Form, form_of, key_columns

if TYPE_CHECKING:
    from .schema import Link

Key = tuple[Any, ...]


def are_integers(key: Key) -> bool:
    """Whether each part is a plain int, as in nearly all keys."""
    return type(key[0]) is int and (len(key) == 1 or set(map(type, key)) == _INT)


_INT = {int}


class KeyForms:
    """The forms of the values of some columns.

    One row has one place in the order, and is one entry in the book, however its key is spelled:
    each value comes to one form here. Whole numbers, which nearly all keys are, have only one.
    """

    __slots__ = ("_columns", "_owner", "are_integers", "forms")

    def __init__(self, owner: str, columns: Sequence[Any]) -> None:
        self._owner = owner
        self._columns = tuple(columns)
        self.forms = tuple(form_of(column.type) for column in columns)
        self.are_integers = bool(self.forms) and all(map(_is_integer, self.forms))

    def is_read(self, key: Key) -> bool:
        """Whether nothing is to be done."""
        return self.are_integers and are_integers(key)

    def read(self, key: Key) -> tuple[Key, Key]:
        """The values that sort, and the values as a loaded object has them.

        Raises `ConfigurationError` for what can't be a value of the column.
        """
        read = list(map(self._read, self._columns, self.forms, key))
        return tuple([plain for plain, _ in read]), tuple([own for _, own in read])

    def back(self, plain: Key, key: Key) -> Key:
        """What these columns have where others, joined to them by a foreign key, have `key`."""
        return tuple(map(self._back, self._columns, self.forms, plain, key))

    def _read(self, column: Any, form: Form, value: Any) -> tuple[Any, Any]:
        if value is None:
            return None, None
        try:
            plain = form.read(value)
            return plain, value if form.own is None else form.own(plain)
        except Exception as error:  # the application's own types raise what they like
            raise self._refusal(column, value, error) from error

    def _back(self, column: Any, form: Form, plain: Any, value: Any) -> Any:
        if plain is None or form.own is None:
            return value
        try:
            return form.own(form.plain(plain))
        except Exception as error:
            raise self._refusal(column, value, error) from error

    def _refusal(self, column: Any, value: Any, error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"{value!r} can't be the {column.key!r} of {self._owner}: its type is "
            f"{column.type!r} ({error}).",
            "pass a value as the attribute of a loaded object has it.",
        )


@functools.lru_cache(maxsize=4096)
def keys_of_table(table: Table) -> KeyForms:
    """The forms of a table's keys."""
    return KeyForms(table.fullname, key_columns(table))


@functools.lru_cache(maxsize=4096)
def keys_of_class(mapper: Mapper[Any]) -> KeyForms:
    """The forms of the keys of a mapped class, as tx.get() takes them."""
    return KeyForms(mapper.class_.__name__, mapper.primary_key)


@functools.lru_cache(maxsize=4096)
def forms_of_columns(columns: tuple[Column[Any], ...]) -> KeyForms:
    """The forms of the values of some columns of one table."""
    return KeyForms(columns[0].table.fullname, columns)


def to_parent(link: Link, values: Key) -> Key:
    """What a parent has in the columns that a child refers to by `values`.

    The two may be of different types to Python, of which the server sees the same values.
    """
    child, parent = _ends(link)
    return _translated(values, child, parent)


def to_child(link: Link, values: Key) -> Key:
    """What children have by which they refer to a parent with `values`."""
    child, parent = _ends(link)
    return _translated(values, parent, child)


@functools.lru_cache(maxsize=4096)
def _ends(link: Link) -> tuple[KeyForms, KeyForms]:
    return forms_of_columns(link.columns), forms_of_columns(link.referred)


def _translated(values: Key, here: KeyForms, there: KeyForms) -> Key:
    if there.are_integers and here.is_read(values):
        return values
    plain, _ = here.read(values)
    return there.back(plain, values)


def _is_integer(form: Form) -> bool:
    return form[:3] == form_of(_INTEGER)[:3]


_INTEGER = Integer()

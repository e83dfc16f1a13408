"""The names of a flush: of what others must not insert meanwhile under the same value."""

from __future__ import annotations

from .flushes import Flushes
from .model import Article, City, Country, Employee, Order, Tag, Ticket


def names(tx: Flushes) -> set[object]:
    return {resource.key for resource in tx.foresee(names=True).names}


def test_new_rows(tx: Flushes) -> None:
    """A new row has names for its key, if the client gives it, and for each unique value."""
    tx.add(Country(id=9, code="z", nickname="n"))
    tx.add(Ticket(serial="s"))
    tx.add(Employee(id=9))
    assert names(tx) == {
        ("fp_country", "id", 9),
        ("fp_country", "code", "z"),
        ("fp_country", "nickname", "n"),
        ("fp_ticket", "serial", "s"),
        ("fp_person", "id", 9),
    }


def test_changed_values(tx: Flushes) -> None:
    """A unique value is given up and another one taken: both have names, others have none."""
    tx.get_one(Country, 1).code = "z"
    tx.get_one(Country, 2).name = "z"
    tx.get_one(Country, 3).nickname = "n"
    assert names(tx) == {
        ("fp_country", "code", "a"),
        ("fp_country", "code", "z"),
        ("fp_country", "nickname", "n"),
    }


def test_deleted_rows(tx: Flushes) -> None:
    """All that a deleted row gives up."""
    tx.delete(tx.get_one(Country, 3))
    assert names(tx) == {("fp_country", "id", 3), ("fp_country", "code", "c")}


def test_association_rows(tx: Flushes) -> None:
    """A pair that comes or goes."""
    tx.get_one(Article, 2).tags = [tx.get_one(Tag, 3)]
    assert names(tx) == {
        ("fp_article_tag", "article_id", "tag_id", 2, 1),
        ("fp_article_tag", "article_id", "tag_id", 2, 3),
    }


def test_no_names_unless_asked_for(tx: Flushes) -> None:
    """Names cost a lock query in each flush that inserts: they are there on request only."""
    tx.add(City(id=20))
    assert not tx.foresee().names
    assert tx.foresee().in_own_order
    assert not tx.foresee(names=True).in_own_order


def test_from_both_sides_the_same_name(tx: Flushes) -> None:
    """Whichever side of the relationship a pair is added from, its name is the same."""
    tx.get_one(Tag, 3).articles.append(tx.get_one(Article, 2))
    tx.add(Order(id=7))
    assert names(tx) == {
        ("fp_article_tag", "article_id", "tag_id", 2, 3),
        ("fp_order", "id", 7),
    }

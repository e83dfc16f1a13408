"""What a flush will lock is known before it: the footprint is what the server then shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unitofwork.policies.locks.book import Strength

from .flushes import Flushes, wanted
from .model import (
    Album,
    Article,
    BackOfCard,
    Boss,
    Card,
    City,
    Country,
    Currency,
    Employee,
    Entry,
    Gauge,
    Line,
    Node,
    Order,
    Person,
    Photo,
    Plate,
    Price,
    Remark,
    Ring,
    Seat,
    Shelf,
    Tag,
    Ticket,
    Widget,
)

Flush = Callable[[Flushes], object]


def update(tx: Flushes) -> None:
    tx.get_one(Country, 1).name = "x"


def nothing_changed(tx: Flushes) -> None:
    """Dirty, and yet no statement is sent."""
    country = tx.get_one(Country, 1)
    country.name = "x"
    country.name = "A"


def expression(tx: Flushes) -> None:
    """What the database computes is a change, also of a unique column."""
    tx.get_one(Country, 1).name = Country.name + "x"
    tx.get_one(Country, 2).code = Country.code + "x"


def unique_columns(tx: Flushes) -> None:
    """Only unique columns that foreign keys may refer to take the stronger lock; the children
    with the old value change with it."""
    tx.get_one(Country, 1).code = "x"
    tx.get_one(Country, 2).nickname = "z, in a partial index"
    tx.get_one(Country, 3).motto = "in an index of expressions"


def unique_in_part(tx: Flushes) -> None:
    """No foreign key can refer to it, but whoever claims the value waits."""
    tx.get_one(Country, 2).nickname = "z, in a partial index"


def onupdate(tx: Flushes) -> None:
    """A unique column with `onupdate` changes along with any other one."""
    tx.get_one(Seat, ("A", 1)).guest = "ann"
    tx.get_one(Ticket, 1).number = None


def new_child(tx: Flushes) -> None:
    """The parent, by its key or by a unique column, that an INSERT refers to."""
    tx.add(City(id=20, country_id=1, country_code="b"))


def new_family(tx: Flushes) -> None:
    """A new parent is nobody else's to lock."""
    tx.add(Country(id=9, code="z", cities=[City(id=20), City(id=21)]))
    tx.add(Node(id=9, parent=Node(id=8, parent=tx.get_one(Node, 5))))


def deferred_and_composite(tx: Flushes) -> None:
    """The columns of a foreign key in another order than those of the key; checked at the end."""
    tx.add(Ticket(id=9, number=2, row="A"))
    tx.add(Line(order_id=2, number=9))


def move_by_many_to_one(tx: Flushes) -> None:
    tx.get_one(City, 13).country = tx.get_one(Country, 3)


def move_by_collection(tx: Flushes) -> None:
    """Children that are not dirty themselves get another parent, or none."""
    country = tx.get_one(Country, 1)
    country.cities.remove(tx.get_one(City, 12))
    tx.get_one(Country, 3).cities.append(tx.get_one(City, 11))


def append_unloaded(tx: Flushes) -> None:
    """A collection that was never loaded has a child added to it by the other side."""
    tx.get_one(City, 13).country = tx.get_one(Country, 2)
    tx.get_one(City, 14).country = None


def tree(tx: Flushes) -> None:
    """Rows of one table that refer to each other."""
    tx.get_one(Node, 4).parent = tx.get_one(Node, 5)
    tx.get_one(Node, 5).name = "x"
    tx.get_one(Node, 1).children.remove(tx.get_one(Node, 3))


def tree_deleted(tx: Flushes) -> None:
    """The children of a deleted row lose their parent: SQLAlchemy loads and changes them."""
    tx.delete(tx.get_one(Node, 2))


def joined_inheritance(tx: Flushes) -> None:
    """A change of the sub-table's row moves the version counter in the base's row."""
    tx.get_one(Employee, 1).salary = 11
    tx.get_one(Person, 2).name = "x"


def joined_inheritance_parent(tx: Flushes) -> None:
    tx.get_one(Employee, 3).city_id = 12
    tx.add(Employee(id=9, city_id=13))
    tx.add(Boss(id=10))


def joined_inheritance_deleted(tx: Flushes) -> None:
    tx.delete(tx.get_one(Employee, 1))
    tx.delete(tx.get_one(Person, 2))


def joined_inheritance_not_loaded(tx: Flushes) -> None:
    """The key in the sub-table has a name of its own; it is known from the identity."""
    employee = tx.get_one(Employee, 1)
    tx.expire(employee)
    tx.delete(employee)


def delete_and_update(tx: Flushes) -> None:
    tx.delete(tx.get_one(City, 12))
    tx.get_one(City, 13).name = "x"


def delete_cascades(tx: Flushes) -> None:
    tx.delete(tx.get_one(Order, 1))


def orphan_of_collection(tx: Flushes) -> None:
    """Found at the flush only: it has been taken out of its parent's collection."""
    order = tx.get_one(Order, 1)
    order.lines.remove(order.lines[0])


def orphan_of_replaced_collection(tx: Flushes) -> None:
    tx.get_one(Order, 1).lines = [Line(number=7)]


def orphan_of_a_parent_not_in_the_flush(tx: Flushes) -> None:
    """The parent has forgotten that its collection was changed."""
    order = tx.get_one(Order, 1)
    order.lines.remove(order.lines[0])
    tx.expire(order)


def children_nulled(tx: Flushes) -> None:
    """The children of a deleted parent get NULL."""
    tx.get_one(City, 14).country_code = None
    tx.checked_flush()
    tx.get_one(Widget, 2).country_id = None
    tx.delete(tx.get_one(Country, 2))


def database_cascades(tx: Flushes) -> None:
    """The database deletes the children, their children, and those who answer them; another
    one only loses what it refers to, in a unique column."""
    tx.delete(tx.get_one(Album, 1))


def database_cascade_half_loaded(tx: Flushes) -> None:
    album = tx.get_one(Album, 1)
    tx.get_one(Photo, 11)
    assert len(album.photos) == 2
    tx.delete(album)


def cascade_onto_a_row_of_its_own(tx: Flushes) -> None:
    """A row that the transaction has written has its foreign keys checked again when the
    database takes one of them away."""
    tx.get_one(Remark, 4).answers_id = 5
    tx.checked_flush()
    tx.delete(tx.get_one(Album, 1))


def twice_the_same_row(tx: Flushes) -> None:
    """The second UPDATE of a row checks its foreign keys, also the unchanged ones."""
    city = tx.get_one(City, 11)
    city.name = "x"
    tx.checked_flush()
    city.name = "y"


def twice_a_new_row(tx: Flushes) -> None:
    city = City(id=20)
    tx.add(city)
    tx.checked_flush()
    city.country_id = 3


def twice_with_a_column_not_loaded(tx: Flushes) -> None:
    city = tx.get_one(City, 11)
    city.name = "x"
    tx.checked_flush()
    tx.expire(city)
    city.name = "y"


def twice_after_a_rekeyed_parent(tx: Flushes) -> None:
    employee = tx.get_one(Employee, 1)
    employee.salary = 12
    tx.checked_flush()
    employee.salary = 13


def many_to_many(tx: Flushes) -> None:
    """Rows come and go in the table between; both ends are checked."""
    first, second = tx.get_one(Article, 1), tx.get_one(Article, 2)
    first.tags.remove(tx.get_one(Tag, 2))
    second.tags.append(tx.get_one(Tag, 3))
    second.tags.append(Tag(id=9))


def many_to_many_from_both_sides(tx: Flushes) -> None:
    tag = tx.get_one(Tag, 1)
    tag.articles.remove(tx.get_one(Article, 2))
    tx.get_one(Article, 3).tags.append(tag)


def many_to_many_with_a_key_of_its_own(tx: Flushes) -> None:
    article = tx.get_one(Article, 1)
    article.topics = [tx.get_one(Tag, 3)]


def many_to_many_of_one_table(tx: Flushes) -> None:
    first, second = tx.get_one(Article, 1), tx.get_one(Article, 2)
    first.related.remove(second)
    tx.get_one(Article, 3).related.append(first)


def many_to_many_deleted(tx: Flushes) -> None:
    tx.get_one(Article, 2).related.clear()
    tx.checked_flush()
    tx.delete(tx.get_one(Article, 3))
    tx.delete(tx.get_one(Tag, 3))


def post_update(tx: Flushes) -> None:
    """Two rows that refer to each other: the one is updated after the other is there."""
    tx.get_one(Widget, 2).favourite = tx.get_one(Entry, 3)
    widget = Widget(id=9)
    widget.favourite = Entry(id=9)
    widget.entries.append(widget.favourite)
    tx.add(widget)


def post_update_of_a_changed_row(tx: Flushes) -> None:
    """Its second UPDATE in the one flush checks its other foreign keys, too."""
    widget = tx.get_one(Widget, 2)
    widget.name = "x"
    widget.favourite = tx.get_one(Entry, 3)


def post_update_of_a_deleted_row(tx: Flushes) -> None:
    widget = tx.get_one(Widget, 1)
    for entry in list(widget.entries):
        tx.delete(entry)
    tx.delete(widget)


def post_update_of_a_deleted_row_of_its_own(tx: Flushes) -> None:
    """The UPDATE before the DELETE checks the foreign keys of a row that was written before."""
    widget = tx.get_one(Widget, 1)
    widget.name = "x"
    tx.checked_flush()
    for entry in list(widget.entries):
        tx.delete(entry)
    tx.delete(widget)


def key_changed(tx: Flushes) -> None:
    """The database carries a new key on to the children, loaded or not."""
    tx.get_one(Currency, "EUR").code = "EEE"


def key_changed_with_children_loaded(tx: Flushes) -> None:
    currency = tx.get_one(Currency, "EUR")
    currency.prices[0].amount = 9
    currency.code = "EEE"


def key_changed_many_to_one(tx: Flushes) -> None:
    price = tx.get_one(Price, 1)
    assert price.currency is not None
    price.amount = 9
    price.currency.code = "EEE"


def many_at_once(tx: Flushes) -> None:
    """Whatever else is in the flush, each row has its lock."""
    for program in (update, tree, joined_inheritance, many_to_many, post_update, delete_cascades):
        program(tx)


def generated_column(tx: Flushes) -> None:
    """Children that refer to it change with it, and the row is locked as for a new key."""
    tx.get_one(Gauge, 1).email = "QQ"


def unique_columns_in_other_words(tx: Flushes) -> None:
    """Those in the text of an index are columns to PostgreSQL, those in a function are none."""
    tx.get_one(Plate, 1).front = "x"
    tx.get_one(Plate, 2).back = "x"
    tx.get_one(Plate, 3).side = "x"
    tx.get_one(Plate, 4).shout = "y"


def one_row_by_two_mappers(tx: Flushes) -> None:
    """Its second UPDATE checks all foreign keys."""
    tx.get_one(Card, 1).front = "x"
    tx.get_one(BackOfCard, 1).back = "y"


def set_to_null_twice(tx: Flushes) -> None:
    """The second time all other foreign keys are checked."""
    tx.delete(tx.get_one(Shelf, 4))


def set_to_null_and_updated(tx: Flushes) -> None:
    """The same."""
    tx.delete(tx.get_one(Shelf, 5))
    tx.get_one(Ring, 2).size = 7


FLUSHES: list[Flush] = [
    generated_column,
    unique_columns_in_other_words,
    one_row_by_two_mappers,
    set_to_null_twice,
    set_to_null_and_updated,
    update,
    nothing_changed,
    expression,
    unique_columns,
    unique_in_part,
    onupdate,
    new_child,
    new_family,
    deferred_and_composite,
    move_by_many_to_one,
    move_by_collection,
    append_unloaded,
    tree,
    tree_deleted,
    joined_inheritance,
    joined_inheritance_parent,
    joined_inheritance_deleted,
    joined_inheritance_not_loaded,
    delete_and_update,
    delete_cascades,
    orphan_of_collection,
    orphan_of_replaced_collection,
    orphan_of_a_parent_not_in_the_flush,
    children_nulled,
    database_cascades,
    database_cascade_half_loaded,
    cascade_onto_a_row_of_its_own,
    twice_the_same_row,
    twice_a_new_row,
    twice_with_a_column_not_loaded,
    twice_after_a_rekeyed_parent,
    many_to_many,
    many_to_many_from_both_sides,
    many_to_many_with_a_key_of_its_own,
    many_to_many_of_one_table,
    many_to_many_deleted,
    post_update,
    post_update_of_a_changed_row,
    post_update_of_a_deleted_row,
    post_update_of_a_deleted_row_of_its_own,
    key_changed,
    key_changed_with_children_loaded,
    key_changed_many_to_one,
    many_at_once,
]


def test_a_row_that_is_replaced(tx: Flushes) -> None:
    """A new object with the key of a deleted one updates its row; it is locked for the worst."""
    tx.delete(tx.get_one(City, 12))
    tx.add(City(id=12, name="new", country_id=3))
    found = tx.foresee()
    tx.flush()
    assert wanted(found) == {
        ("fp_city", 12): Strength.UPDATE,
        ("fp_country", 3): Strength.KEY_SHARE,
    }
    assert wanted(found).keys() == tx.locks().keys()
    assert not found.inserts


@pytest.mark.parametrize("program", FLUSHES, ids=lambda program: program.__name__)
def test_the_footprint_is_what_the_server_shows(tx: Flushes, program: Flush) -> None:
    """Each row that the flush locks is in the footprint, as strongly as it is locked, and no
    other one is."""
    program(tx)
    tx.checked_flush()


SHORT = [update, nothing_changed, joined_inheritance]


@pytest.mark.parametrize("program", FLUSHES, ids=lambda program: program.__name__)
def test_flushes_of_locked_rows_are_seen_to_be_covered(tx: Flushes, program: Flush) -> None:
    """Those of plain columns at once; whatever concerns another row is looked at more closely."""
    program(tx)
    tx.short_ways = 0
    tx.foresee()
    assert (tx.short_ways > 0) == (program in SHORT)

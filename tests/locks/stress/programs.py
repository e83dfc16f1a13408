"""Random programs: what one unit does, the same in each attempt as far as the data allows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from .model import (
    ACCOUNTS,
    ITEMS,
    NODES,
    NOTES,
    OWNERS,
    TAGS,
    WORDS,
    Account,
    Firm,
    Item,
    Node,
    Note,
    Owner,
    Purse,
    Tag,
    Word,
)

Step = Callable[["Program"], None]


class Undo(Exception):
    """The program changes its mind."""


class Program:
    """The steps of one unit."""

    def __init__(self, tx: Any, seed: int, steps: dict[Step, int] | None = None) -> None:
        self.session: Session = tx
        self.random = random.Random(seed)
        self.steps = steps or STEPS
        #: What the data must show if the unit commits.
        self.done: Counter[str] = Counter()
        self._in_savepoint = False

    @property
    def tx(self) -> Any:
        """To take locks with, which is refused over changes that are not sent."""
        self.session.flush()
        return self.session

    def run(self) -> Counter[str]:
        for _ in range(self.random.randint(1, 5)):
            self.step()
        return self.done

    def step(self) -> None:
        (step,) = self.random.choices(list(self.steps), weights=list(self.steps.values()))
        step(self)
        if self.random.random() < 0.4:
            self.session.flush()

    def some(self, most: int) -> int:
        return self.random.randint(1, most)

    def sample(self, most: int, count: int) -> list[int]:
        return self.random.sample(range(1, most + 1), min(count, most))

    # --- accounts

    def transfer(self) -> None:
        """Two rows, asked for one after the other."""
        one, other = self.sample(ACCOUNTS, 2)
        amount = self.some(9)
        match self.random.choice(("lock", "lock_many", "flush", "one flush")):
            case "lock":
                source, target = self.tx.lock(Account, one), self.tx.lock(Account, other)
            case "lock_many":
                source, target = self.tx.lock_many(Account, [one, other])
            case how:
                source = self.session.get_one(Account, one)
                # Its copy may be one from before the lock of this very transaction, changed since.
                source.balance = Account.balance - amount
                if how == "flush":
                    self.session.flush()
                target = self.session.get_one(Account, other)
                target.balance = Account.balance + amount
                self.session.flush()
                return
        source.balance -= amount
        target.balance += amount
        self.session.flush()

    def transfer_in_bulk(self) -> None:
        """One statement for all, in whatever order the server comes to them."""
        ids = self.sample(ACCOUNTS, 4)
        self.session.flush()
        self.session.execute(
            update(Account)
            .where(Account.id.in_(ids[:2]), Account.balance > -1_000_000)
            .values(balance=Account.balance - 1)
        )
        self.session.execute(
            update(Account)
            .where(Account.id.in_(ids[2:]), Account.balance > -1_000_000)
            .values(balance=Account.balance + 1)
        )

    def pay(self) -> None:
        purse = self.session.get_one(Purse, self.some(3))
        purse.n += 1
        self.done["purse"] += 1

    # --- owners and items

    def rename(self) -> None:
        owner = self.session.get(Owner, self.some(OWNERS))
        if owner is not None:
            owner.slug = self.random.choice([None, *"uvwxyz"])

    def touch_owners(self) -> None:
        for one in self.sample(OWNERS, 2):
            owner = self.session.get(Owner, one)
            if isinstance(owner, Firm) and self.random.random() < 0.5:
                owner.profit = Firm.profit + 1
            elif owner is not None:
                owner.v = Owner.v + 1

    def end_owner(self) -> None:
        """Its items go with it, by the database."""
        owner = self.session.get(Owner, self.some(OWNERS))
        if owner is not None:
            self.session.flush()
            self.session.delete(owner)
            self.session.flush()
            self.session.expire_all()

    def make_owner(self) -> None:
        one = self.some(OWNERS)
        if self.session.get(Owner, one) is None:
            kind = Firm if one % 3 == 0 else Owner
            self.session.add(kind(id=one))
            self.session.flush()

    def make_item(self) -> None:
        one = self.some(ITEMS)
        owner = self.session.get(Owner, self.some(OWNERS))
        if owner is not None and self.session.get(Item, one) is None:
            self.session.add(Item(id=one, owner_id=owner.id))
            owner.size = Owner.size + 1
            self.session.flush()

    def end_item(self) -> None:
        found = self.tx.lock_where(select(Item).where(Item.id == self.some(ITEMS)))
        for item in found:
            owner = self.session.get(Owner, item.owner_id)
            if owner is None:
                continue
            self.session.delete(item)
            owner.size = Owner.size - 1
            self.session.flush()

    def move_item(self) -> None:
        found = self.tx.lock_where(select(Item).where(Item.id == self.some(ITEMS)))
        owner = self.session.get(Owner, self.some(OWNERS))
        for item in found:
            before = self.session.get(Owner, item.owner_id)
            if owner is None or before is None or before is owner:
                continue
            before.size = Owner.size - 1
            owner.size = Owner.size + 1
            item.owner_id = owner.id
            self.session.flush()

    def touch_items(self) -> None:
        for one in self.sample(ITEMS, 3):
            item = self.session.get(Item, one)
            if item is not None:
                item.v = Item.v + 1

    def items_come_and_go(self) -> None:
        """Rows that are not there are asked for, and written when they are there after all."""
        keys = self.sample(ITEMS, 4)
        self.session.execute(update(Item).where(Item.id.in_(keys)).values(v=Item.v + 1))
        for one in keys:
            item = self.session.get(Item, one, populate_existing=True)
            if item is not None:
                item.v = Item.v + 1
                self.session.flush()

    def items_in_bulk(self) -> None:
        self.session.execute(
            update(Item)
            .where(Item.owner_id.in_(self.sample(OWNERS, 2)))
            .values(v=Item.v + 1)
            .execution_options(synchronize_session=False)
        )

    def end_items_in_bulk(self) -> None:
        """As many as the rowcount says."""
        one = self.some(OWNERS)
        owner = self.session.get(Owner, one)
        if owner is None:
            return
        self.session.flush()
        gone = self.session.execute(
            delete(Item).where(Item.owner_id == one, Item.v % 3 == self.random.randrange(3))
        )
        owner.size = Owner.size - gone.rowcount
        self.session.flush()

    def tag(self) -> None:
        item = self.session.get(Item, self.some(ITEMS))
        if item is None:
            return
        for one in self.sample(TAGS, 2):
            tag = self.session.get_one(Tag, one)
            if tag in item.tags:
                item.tags.remove(tag)
            else:
                item.tags.append(tag)
        if self.random.random() < 0.5:
            self.session.get_one(Tag, self.some(TAGS)).v += 1

    def note(self) -> None:
        note = self.session.get_one(Note, self.some(NOTES))
        item = self.session.get(Item, self.some(ITEMS))
        note.item_id = None if item is None else item.id
        if self.random.random() < 0.5:
            self.session.flush()
            note.v = Note.v + 1

    def note_twice(self) -> None:
        """The second UPDATE has the foreign key checked again, although it does not change."""
        note = self.session.get_one(Note, self.some(NOTES))
        for _ in range(2):
            note.v = Note.v + 1
            self.session.flush()

    def notes_in_bulk(self) -> None:
        self.session.execute(
            update(Note)
            .where(Note.item_id.in_(self.sample(ITEMS, 5)))
            .values(v=Note.v + 1)
            .execution_options(synchronize_session=False)
        )

    def grow(self) -> None:
        child, parent = self.sample(NODES, 2)
        one = self.session.get_one(Node, child)
        one.parent = self.session.get_one(Node, parent) if self.random.random() < 0.7 else None
        self.session.get_one(Node, self.some(NODES)).v = Node.v + 1
        # A circle in the tree is one that SQLAlchemy can't sort.
        node, seen = one, {one}
        while node.parent is not None:
            node = node.parent
            if node in seen:
                one.parent = None
                break
            seen.add(node)

    # --- words

    def count_words(self) -> None:
        words = self.random.sample(WORDS, 3)
        upsert = insert(Word).values([{"text": word, "count": 1} for word in words])
        self.session.execute(
            upsert.on_conflict_do_update(
                index_elements=[Word.text], set_={"count": Word.count + upsert.excluded.count}
            )
        )
        self.done["word"] += len(words)

    def count_words_by_list(self) -> None:
        words = self.random.sample(WORDS, 2)
        upsert = insert(Word)
        self.session.execute(
            upsert.on_conflict_do_update(
                index_elements=[Word.text], set_={"count": Word.count + upsert.excluded.count}
            ),
            [{"text": word, "count": 1} for word in words],
        )
        self.done["word"] += len(words)

    # --- locks as such

    def share(self) -> None:
        strength = self.random.choice(("share", "key_share"))
        keys = self.sample(OWNERS, 2)
        self.tx.lock_where(select(Owner).where(Owner.id.in_(keys)), strength=strength)

    def share_accounts(self) -> None:
        self.tx.lock_many(Account, self.sample(ACCOUNTS, 2), strength="share")

    def lock_late(self) -> None:
        for one in self.sample(NOTES, 2):
            self.tx.lock(Note, one)

    def lock_across(self) -> None:
        self.tx.lock_across({Tag: self.sample(TAGS, 2), Account: self.sample(ACCOUNTS, 2)})

    def lock_stronger(self) -> None:
        """Written, then locked more strongly: on such a row NOWAIT may wait."""
        owner = self.session.get(Owner, self.some(2))
        if owner is not None:
            owner.v = Owner.v + 1
            self.session.flush()
            self.tx.lock_where(select(Owner).where(Owner.id == owner.id), strength="update")
            self.tx.lock(Note, self.some(2))

    def share_late(self) -> None:
        self.tx.lock(Note, self.some(2))
        keys = select(Owner).where(Owner.id == self.some(2))
        self.tx.lock_where(keys, strength="key_share")

    def queue(self) -> None:
        found = self.tx.lock_where(
            select(Note).order_by(Note.v, Note.id).limit(2), skip_locked=True
        )
        for note in found:
            note.v = Note.v + 1

    def name(self) -> None:
        self.tx.lock_name("stress", self.some(3))

    def savepoint(self) -> None:
        if self._in_savepoint:
            return
        before = self.done.copy()
        self._in_savepoint = True
        try:
            with self.tx.savepoint():
                for _ in range(self.some(3)):
                    self.step()
                self.session.flush()
                if self.random.random() < 0.5:
                    raise Undo
        except Undo:
            self.done = before
        finally:
            self._in_savepoint = False


STEPS: dict[Step, int] = {
    Program.transfer: 6,
    Program.transfer_in_bulk: 2,
    Program.pay: 1,
    Program.rename: 2,
    Program.touch_owners: 3,
    Program.end_owner: 1,
    Program.make_owner: 3,
    Program.make_item: 4,
    Program.end_item: 1,
    Program.move_item: 2,
    Program.touch_items: 3,
    Program.items_come_and_go: 1,
    Program.items_in_bulk: 2,
    Program.end_items_in_bulk: 1,
    Program.tag: 3,
    Program.note: 3,
    Program.note_twice: 1,
    Program.notes_in_bulk: 2,
    Program.grow: 2,
    Program.count_words: 2,
    Program.count_words_by_list: 1,
    Program.share: 2,
    Program.share_accounts: 1,
    Program.lock_late: 1,
    Program.lock_across: 2,
    Program.lock_stronger: 1,
    Program.share_late: 1,
    Program.queue: 1,
    Program.name: 1,
    Program.savepoint: 3,
}

"""Units without asyncio: the same names, no await. Run: python examples/quickstart_sync.py"""

from __future__ import annotations

import sys

from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from unitofwork import CURRENT, Transaction, UnitOfWork, transactional


class Base(DeclarativeBase):
    pass


class Task(Base):
    __tablename__ = "quickstart_task"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)
    done: Mapped[bool] = mapped_column(default=False)


# Bare, it uses the unit of work that is in its lifespan.
@transactional
def finish(title: str, *, tx: Transaction = CURRENT) -> None:
    tx.scalars(select(Task).where(Task.title == title)).one().done = True


def main(url: str) -> None:
    uow = UnitOfWork.from_url(url)
    with uow.lifespan():
        with uow() as tx:
            Base.metadata.create_all(tx.connection())
            tx.add_all([Task(title="write"), Task(title="test")])

        finish("write")

        with uow() as tx:
            # A savepoint undoes a part; the rest of the unit goes on.
            try:
                with tx.savepoint():
                    finish("write a book")
            except NoResultFound:
                print("there is no such task")
            tx.add(Task(title="publish"))

        with uow(read_only=True) as tx:
            for task in tx.scalars(select(Task).order_by(Task.id)):
                print("x" if task.done else "-", task.title)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sqlite://")

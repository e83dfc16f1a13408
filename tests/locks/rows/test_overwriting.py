"""Loading under a lock never overwrites changes that are not flushed, however it reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import CHAR, ForeignKey, create_engine, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    joinedload,
    mapped_column,
    raiseload,
    relationship,
)
from tests.contract.face import Face, both, result

from unitofwork import UnsavedWorkError


class Base(DeclarativeBase):
    pass


class Far(Base):
    __tablename__ = "over_far"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(default=0)


class Near(Base):
    __tablename__ = "over_near"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    far_id: Mapped[int] = mapped_column(ForeignKey(Far.id))
    far: Mapped[Far] = relationship(lazy="joined")


class Here(Base):
    __tablename__ = "over_here"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    near_id: Mapped[int] = mapped_column(ForeignKey(Near.id))
    n: Mapped[int] = mapped_column(default=0)
    near: Mapped[Near] = relationship(lazy="selectin")


class Lazy(Base):
    __tablename__ = "over_lazy"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    far_id: Mapped[int] = mapped_column(ForeignKey(Far.id))
    n: Mapped[int] = mapped_column(default=0)
    far: Mapped[Far] = relationship()


class Padded(Base):
    __tablename__ = "over_padded"

    key: Mapped[str] = mapped_column(CHAR(4), primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


@pytest.fixture
async def rows(face: Face) -> AsyncIterator[Face]:
    assert face.probe is not None
    engine = create_engine(face.url.replace("asyncpg", "psycopg"))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    face.probe.execute(
        "INSERT INTO over_far VALUES (1, 0); INSERT INTO over_near VALUES (1, 1);"
        "INSERT INTO over_here VALUES (1, 1, 0), (2, 1, 0);"
        "INSERT INTO over_lazy VALUES (1, 1, 0), (2, 1, 0);"
        "INSERT INTO over_padded VALUES ('ab', 0)"
    )
    yield face
    Base.metadata.drop_all(engine)
    engine.dispose()


async def check_refused(rows: Face, tx: Any, changed: Any, lock: Any) -> None:
    changed.n = 42
    with pytest.raises(UnsavedWorkError, match=type(changed).__name__):
        await result(lock())
    assert changed.n == 42
    await result(tx.flush())
    await result(lock())
    assert changed.n == 42


async def test_what_is_loaded_along_from_afar(rows: Face) -> None:
    """An object two eager relationships away would be loaded anew with the row."""
    async with both(rows.uow()) as tx:
        here = await result(tx.get(Here, 1))
        await check_refused(rows, tx, here.near.far, lambda: tx.lock(Here, 1))


async def test_what_the_query_itself_loads_along(rows: Face) -> None:
    """By an option of the select; without the option, the lock goes through."""
    async with both(rows.uow()) as tx:
        far = await result(tx.get(Far, 1))
        far.n = 1
        await result(tx.lock_where(select(Lazy)))
        await result(tx.flush())
        query = select(Lazy).options(joinedload(Lazy.far))
        for how in ({}, {"nowait": True}):
            await check_refused(rows, tx, far, lambda how=how: tx.lock_where(query, **how))
            far.n = 0
            await result(tx.flush())


async def test_a_row_whose_key_is_spelt_otherwise(rows: Face) -> None:
    """`char(n)` pads: the row is the one that was changed."""
    async with both(rows.uow()) as tx:
        (padded,) = (await result(tx.scalars(select(Padded)))).all()
        await check_refused(rows, tx, padded, lambda: tx.lock(Padded, "ab"))


async def test_another_row_of_the_class_may_have_changes(rows: Face) -> None:
    """`lock_where` refuses for the rows that it finds, not for others."""
    async with both(rows.uow()) as tx:
        lazy = await result(tx.get(Lazy, 1))
        lazy.n = 42
        (other,) = await result(tx.lock_where(select(Lazy).where(Lazy.id == 2)))
        assert (other.id, lazy.n) == (2, 42)
        with pytest.raises(UnsavedWorkError, match="Lazy"):
            await result(tx.lock_where(select(Lazy)))


async def test_an_option_that_loads_nothing(rows: Face) -> None:
    """`raiseload` and the like reach no other object."""
    async with both(rows.uow()) as tx:
        far = await result(tx.get(Far, 1))
        far.n = 42
        await result(tx.lock_where(select(Lazy).options(raiseload("*")), skip_locked=True))
        assert far.n == 42

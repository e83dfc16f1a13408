"""A foreign key that another transaction has changed after it was read."""

from __future__ import annotations

from tests.locks.writes.conftest import face, holder, write_tables
from tests.locks.writes.model import Room
from tests.pool.pool_face import PoolFace, both, result

from unitofwork.policies.locks.book import Strength

__all__ = ["face", "holder", "write_tables"]


async def test_the_parent_is_the_one_that_the_row_has_now(face: PoolFace) -> None:
    """A second write has the server check the foreign key anew, whatever the copy here says."""
    assert face.probe is not None
    async with both(face.uow()) as tx:
        room = await result(tx.get_one(Room, 1))
        now = 3 if room.house_id != 3 else 2
        face.probe.execute(f"UPDATE write_room SET house_id = {now} WHERE id = 1")
        for _ in range(2):
            room.size = Room.size + 1
            await result(tx.flush())
        held = {(one.rank.name, one.key): lock.strength for one, lock in tx.unit.book.held.items()}
        assert held[("write_house", (now,))] is Strength.KEY_SHARE

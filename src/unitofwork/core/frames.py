"""Where all threads are now, without the deadlock that Python itself had before 3.11.9."""

from __future__ import annotations

import gc
import os
import sys
import threading
from types import FrameType

#: Reentrant, because what a garbage collection finalises may come here while it is being taken.
_looking = threading.RLock()
# A child that was forked in the middle would have it locked, and no garbage collection.
os.register_at_fork(
    before=_looking.acquire, after_in_parent=_looking.release, after_in_child=_looking.release
)


def current_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread, by its identifier.

    Python holds a lock of its own meanwhile. Where a garbage collection in the middle lets another
    thread go on that starts or ends a thread, this one waits for the interpreter and that one for
    the lock, and the whole process stops: https://github.com/python/cpython/issues/106883.
    """
    if sys.version_info >= (3, 11, 9):
        return sys._current_frames()
    with _looking:
        collects = gc.isenabled()
        try:
            gc.disable()
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()

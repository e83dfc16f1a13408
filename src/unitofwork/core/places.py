"""Where in the user's code: the frame that called, the line that raised, the await a task is in."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

import greenlet

from ..types import Place
from .frames import current_frames

Actor = asyncio.Task[Any] | threading.Thread


_DATABASE = frozenset(
    {"sqlalchemy", "asyncpg", "psycopg", "psycopg_pool", "psycopg_binary", "aiosqlite"}
    | {"asyncmy", "aiomysql", "pymysql"}
)
_PACKAGES = _DATABASE | {"anyio", "greenlet", "tenacity"}
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = tuple(f"{os.sep}{folder}{os.sep}" for folder in ("site-packages", "dist-packages"))
_POOL_QUEUE = os.path.join("sqlalchemy", "util", "queue.py")
#: Has asyncio.wait_for under another name on Python 3.11.
_WAIT_FOR = os.path.join("sqlalchemy", "util", "compat.py")
_EVENT_LOOP = asyncio.events.__file__
_is_library: dict[str, bool] = {}


def caller() -> Place:
    """The innermost frame of the user's that led here, also from inside SQLAlchemy's greenlet."""
    frame: FrameType | None = sys._getframe(1)
    here: Any = greenlet.getcurrent()
    last = frame
    while True:
        while frame is not None:
            # One look-up for each frame on the way: this runs at every checkout.
            if not _is_library.get(frame.f_code.co_filename) and not _library(frame):
                return place_of(frame)
            if frame.f_code.co_filename == _EVENT_LOOP:  # above it is only what runs the loop
                return place_of(last or frame)
            last, frame = frame, frame.f_back
        # A greenlet's frames end at its entry; the task's own go on in the parent.
        here = here.parent
        if here is None:
            return place_of(last) if last is not None else Place("?", 0, "?")
        frame = here.gr_frame


def raised_at(error: BaseException) -> Place | None:
    """The deepest line of the user's that `error` passed through."""
    found: Place | None = None
    step: TracebackType | None = error.__traceback__
    while step is not None:
        if not _library(step.tb_frame):
            code = step.tb_frame.f_code
            found = Place(code.co_filename, step.tb_lineno, code.co_qualname)
        step = step.tb_next
    return found


def place_of(frame: FrameType) -> Place:
    """The line that `frame` is at."""
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def actor() -> Actor:
    """Who runs this code: the task where an event loop runs, else the thread."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        task = asyncio.current_task(loop)
        if task is not None:
            return task
    return threading.current_thread()


def actor_name(who: Actor | None) -> str:
    """A short name for messages."""
    if who is None:
        return "nobody"
    kind = "task" if isinstance(who, asyncio.Task) else "thread"
    return f"{kind} {who.get_name() if isinstance(who, asyncio.Task) else who.name!r}"


def position_of(who: Actor) -> Place | None:
    """The user's line at which another task or thread is now; None when it has ended."""
    return position_in(stack_of(who))


def position_in(frames: list[FrameType], like: Place | None = None) -> Place | None:
    """The innermost line of the user's in a stack; see `user_frame`."""
    at = user_frame(frames, like)
    return None if at is None else place_of(frames[at])


def user_frame(frames: list[FrameType], like: Place | None = None) -> int | None:
    """Which frame is the user's innermost: outside of installed packages, if there is one.

    `like`: a line known as the user's; if it is in an installed package, that one is the user's.
    """
    own = None if like is None else _package(like.file)
    candidates = [at for at, frame in enumerate(frames) if not _library(frame)]
    sure = [at for at in candidates if _package(frames[at].f_code.co_filename) in (None, own)]
    found = sure or candidates or ([0] if frames else [])
    return found[-1] if found else None


def stack_of(who: Actor, thread_id: int | None = None) -> list[FrameType]:
    """The frames of a task or thread, outermost first, through the awaits that it is stuck in.

    `thread_id`: of the task's event loop, to look into a task that is running at this moment.
    """
    if isinstance(who, threading.Thread):
        return _frames_of_thread(who.ident or 0)
    if thread_id is not None and asyncio.current_task(who.get_loop()) is who:
        frames = _frames_of_thread(thread_id)
        loops = [at for at, frame in enumerate(frames) if _is_event_loop(frame)]
        return frames[loops[-1] + 1 :] if loops else frames
    # Task.get_stack() ends at the task's own coroutine; the chain of awaits goes on from there.
    frames = []
    step: Any = who.get_coro()
    while step is not None:
        inner = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        inner = inner or getattr(step, "ag_frame", None)
        if inner is not None:
            frames.append(inner)
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
        if type(step).__name__ == "coroutine_wrapper":
            # What `__await__` of a coroutine gives; it shows the coroutine in it to the collector
            # only (aiohttp's `await session.get(url)` is such a one).
            step = next(iter(gc.get_referents(step)), None)
    return frames


def _frames_of_thread(ident: int) -> list[FrameType]:
    frame = current_frames().get(ident)
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _is_event_loop(frame: FrameType) -> bool:
    return frame.f_code.co_filename == _EVENT_LOOP


def in_database_call(frames: list[FrameType]) -> bool:
    """Whether the innermost code is the database's: SQLAlchemy, a driver, or ours."""
    for frame in reversed(frames):
        name = frame.f_code.co_filename
        if name.startswith(_OURS) and _library(frame):
            return True
        package = _package(name)
        if package is not None:
            return package in _DATABASE
        if not _library(frame):
            return False
        # The standard library: asked for by what is further out.
    return False


def in_pool_wait(frames: list[FrameType]) -> bool:
    """Whether the innermost code waits in SQLAlchemy's pool for a connection to come back."""
    for frame in reversed(frames):
        name = frame.f_code.co_filename
        if name.endswith(_POOL_QUEUE):
            return True
        if name.endswith(_WAIT_FOR):
            continue
        if _package(name) is not None or not name.startswith(_STANDARD_LIBRARY):
            # Below greenlet_spawn an await of the pool's queue is asyncio's own, a driver's isn't.
            return frame.f_code.co_name == "greenlet_spawn" and frame is not frames[-1]
    return False


def _library(frame: FrameType) -> bool:
    """Whether the code is never "the user's": ours, SQLAlchemy's, a driver's, Python's."""
    name = frame.f_code.co_filename
    if name.startswith("<"):
        # Made at run time: SQLAlchemy's wrappers have no module, a prompt's and `python -c` have.
        return frame.f_globals.get("__name__") not in ("__main__", "__console__")
    known = _is_library.get(name)
    if known is None:
        known = _is_library[name] = _is_library_file(name)
    return known


def _is_library_file(name: str) -> bool:
    if name.startswith(_OURS):
        return not name.startswith(tuple(_OURS + part for part in ("demo", "testing")))
    package = _package(name)
    if package is not None:
        # The user's application may be an installed package too: only known libraries are not it.
        return package in _PACKAGES
    return name.startswith(_STANDARD_LIBRARY)


def _package(file: str) -> str | None:
    """The installed package that a file belongs to."""
    for folder in _INSTALLED:
        if folder in file:
            return file.split(folder, 1)[1].split(os.sep, 1)[0]
    return None

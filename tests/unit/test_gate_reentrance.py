"""A release in the middle of another step of the gate, by the finaliser of an abandoned unit."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from unitofwork.faces.gate_async import AsyncGate
from unitofwork.faces.gate_sync import SyncGate


def release_at(number: int, release: Callable[[], None], *, during: Callable[[], None]) -> bool:
    """Call `during`, and `release` before its bytecode of that number; False if it has fewer.

    A garbage collection at that point, which finalises an abandoned unit, does the same.
    """
    codes = itertools.count()
    reached = False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal reached
        frame.f_trace_opcodes = True
        if event == "opcode" and next(codes) == number:
            reached = True
            release()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        during()
    finally:
        sys.settrace(before)
    return reached


def wait_until(gate: SyncGate, *, waiting: int) -> None:
    until = time.monotonic() + 30
    while gate.stats().waiting != waiting:
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.0005)


async def test_tasks() -> None:
    """Both releases count, each wakes the next in line, and nobody else."""
    for code in itertools.count():
        gate = AsyncGate(2)
        await gate.acquire(2)
        tasks = [asyncio.create_task(gate.acquire(n)) for n in (1, 1, 2)]
        await asyncio.sleep(0)
        reached = release_at(code, gate.release, during=gate.release)
        if not reached:
            gate.release()
        await asyncio.wait_for(asyncio.gather(*tasks[:2]), 5)
        assert (gate.stats().in_use, gate.stats().waiting) == (2, 1)
        tasks[2].cancel()
        await asyncio.sleep(0)
        if not reached:
            break
    assert code > 100


def test_threads() -> None:
    """The same, without a deadlock on the lock that this very thread has."""
    for code in itertools.count():
        gate = SyncGate(2)
        gate.acquire(2)
        threads = []
        for waiting, permits in enumerate((1, 1, 2), start=1):
            threads.append(threading.Thread(target=gate.acquire, args=(permits,), daemon=True))
            threads[-1].start()
            wait_until(gate, waiting=waiting)
        reached = release_at(code, gate.release, during=gate.release)
        if not reached:
            gate.release()
        for thread in threads[:2]:
            thread.join(30)
        assert (gate.stats().in_use, gate.stats().waiting) == (2, 1)
        gate.release(2)
        threads[2].join(30)
        assert gate.stats().in_use == 2
        if not reached:
            break
    assert code > 100

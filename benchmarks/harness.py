"""How the benchmarks measure: small blocks of all ways in turn, and ratios within a round."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

#: Does so many units, however it runs them.
Block = Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class Series:
    """Seconds per unit of one way, one figure for each block."""

    elapsed: list[float] = field(default_factory=list)
    #: Of this process, all threads; the server's is not in it, nor is what other programs took.
    cpu: list[float] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        """The median time per unit."""
        return statistics.median(self.elapsed) * 1e6

    @property
    def quiet_cpu(self) -> float:
        """The lowest decile of the client's CPU time: what is left of it when nobody disturbs."""
        return statistics.quantiles(self.cpu, n=10, method="inclusive")[0]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of ratios within a round, and the quartiles around it."""

    median: float
    low: float
    high: float
    #: Half the width of a 95 % interval of the median.
    margin: float

    def __float__(self) -> float:
        return self.median

    def __str__(self) -> str:
        return f"**{self.median:.2f}** ({self.low:.2f} to {self.high:.2f})"


def ratio(these: Sequence[float], those: Sequence[float]) -> Ratio:
    """Each block of `these` against that of `those` in the same round: both had the same noise."""
    ratios = [this / that for this, that in zip(these, those, strict=True)]
    if len(ratios) == 1:
        return Ratio(ratios[0], ratios[0], ratios[0], 0.0)
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    # McGill's notch: 1.57 interquartile ranges by the root of n.
    return Ratio(median, low, high, 1.57 * (high - low) / len(ratios) ** 0.5)


async def interleave(
    ways: Mapping[str, Block],
    rounds: int,
    concurrency: int = 1,
    seconds: float = 0.03,
    warm_up: int = 8,
) -> dict[str, Series]:
    """One small block of each way, in random order, again and again.

    All blocks do the same number of units, a multiple of `concurrency`, so many that the slowest
    way takes about `seconds` for them. Before, `warm_up` units of each task, twice.
    """
    for block in ways.values():
        await block(warm_up * concurrency)  # connects, and fills caches
    slowest = max([(await _timed(block, warm_up * concurrency))[0] for block in ways.values()])
    units = concurrency * max(1, round(seconds / slowest / concurrency))
    series = {name: Series() for name in ways}
    order = list(ways)
    chance = random.Random()
    gc.collect()
    gc.freeze()  # what the imports made need not be looked through again by each collection
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            gc.collect()
            elapsed, cpu = await _timed(ways[name], units)
            series[name].elapsed.append(elapsed)
            series[name].cpu.append(cpu)
    return series


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of 100 don't exceed, between two neighbours interpolated."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


async def _timed(block: Block, units: int) -> tuple[float, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    await block(units)
    cpu, elapsed = time.process_time() - cpu_began, time.perf_counter() - began
    return elapsed / units, cpu / units


def in_tasks(work: Callable[[], Awaitable[object]], concurrency: int) -> Block:
    """A block that does its units in so many tasks at once; each takes the next one."""

    async def block(units: int) -> None:
        left = itertools.repeat(None, units)

        async def worker() -> None:
            for _ in left:
                await work()

        await asyncio.gather(*(asyncio.create_task(worker()) for _ in range(concurrency)))

    return block


def in_threads(work: Callable[[], object], concurrency: int, pool: ThreadPoolExecutor) -> Block:
    """The same in threads of `pool`, which are there already; each does its share."""

    async def block(units: int) -> None:
        def worker() -> None:
            for _ in range(units // concurrency):
                work()

        for job in [pool.submit(worker) for _ in range(concurrency)]:
            job.result()  # the event loop has nothing else to do

    return block

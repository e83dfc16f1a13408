"""The tests' proxy in a process of its own, that delays what it passes on; for `distance`.

`python -m benchmarks.delaying HOST PORT SECONDS` prints its own port and ends with its input.
"""

from __future__ import annotations

import asyncio
import selectors
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support.proxy import Proxy


@contextmanager
def delayed(host: str, port: int, seconds: float) -> Generator[int]:
    """The port at which everything arrives `seconds` later, in each direction."""
    command = [sys.executable, "-m", __name__, host, str(port), str(seconds)]
    pipe, root = subprocess.PIPE, Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


class _Precise(asyncio.DefaultEventLoopPolicy):
    """epoll rounds each wait up to a millisecond, select does not."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """The command line."""
    host, port, seconds = sys.argv[1:]
    asyncio.set_event_loop_policy(_Precise())
    with Proxy(host, int(port)) as proxy:
        proxy.delay(float(seconds))
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

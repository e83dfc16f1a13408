"""What is done to the server and to the network: each fault as often as the others."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import psycopg
from tests.support.proxy import Proxy

from unitofwork.testing.postgres import EmbeddedPostgres


class Faults:
    """Makes faults in random order; `counts` has how many of each."""

    def __init__(self, server: EmbeddedPostgres, proxy: Proxy, seed: int) -> None:
        self._server = server
        self._proxy = proxy
        self._random = random.Random(seed)
        self._left: list[Callable[[], None]] = []
        self.counts: Counter[str] = Counter()

    def next(self) -> None:
        """The next fault, to its end: the server and the network are well when it returns."""
        if not self._left:
            self._left = [
                *(
                    self.terminate,
                    self.cut,
                    self.cut_commits,
                    self.black_hole,
                    self.half_black_hole,
                ),
                *(self.refuse, self.restart, self.kill),
            ]
            self._random.shuffle(self._left)
        fault = self._left.pop()
        fault()
        self.counts[fault.__name__.replace("_", " ")] += 1

    def terminate(self) -> None:
        with psycopg.connect(self._server.url(None), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    def cut(self) -> None:
        self._proxy.cut()

    def cut_commits(self) -> None:
        self._proxy.when(b"COMMIT", action="cut_before", times=4)
        self._proxy.when(b"COMMIT", action="cut_after", times=4)

    def black_hole(self) -> None:
        self._proxy.blackhole()
        time.sleep(2.5)
        self._proxy.heal()

    def half_black_hole(self) -> None:
        self._proxy.blackhole("to_client")
        time.sleep(1.0)
        self._proxy.heal()

    def refuse(self) -> None:
        self._proxy.refuse()
        self._proxy.cut()
        time.sleep(0.5)
        self._proxy.refuse(False)

    def restart(self) -> None:
        self._server.restart()

    def kill(self) -> None:
        self._server.kill()
        time.sleep(0.2)
        self._server.start()

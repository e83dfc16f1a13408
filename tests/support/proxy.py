"""A proxy before a PostgreSQL server that breaks connections in the ways a network can.

It runs in a thread with an event loop of its own: tests of either kind can use it, and one that
blocks its own loop doesn't stop it. The controls may be called from any thread.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Self, TypeVar

from .link import Action, Controls, Direction, Link, Rule, reset

Directions = Literal["to_server", "to_client", "both"]
T = TypeVar("T")


class Proxy(Controls):
    """A TCP proxy that knows where a message of PostgreSQL's protocol begins and ends.

    Attributes:
        port: where it listens, on 127.0.0.1.
        connections: how many it has accepted; `live` of them are open now.
        messages, bytes: what it has passed on, per direction.
        round_trips: how often the traffic turned from `to_server` to `to_client`.
        cancels: how many requests to cancel a query it has passed on; each has a connection.
    """

    host = "127.0.0.1"

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        super().__init__()
        self.upstream = (upstream_host, upstream_port)
        self.port = 0
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self.errors:
            raise self.errors[0]

    @property
    def live(self) -> int:
        return len(self._links)

    def delay(self, seconds: float, direction: Directions = "both") -> None:
        """From now on everything arrives this much later; what follows closely isn't slowed."""
        for one in _expand(direction):
            self.delays[one] = seconds

    def cut(self) -> None:
        """Reset all live connections, on both sides; new ones work."""
        self._call(self._cut())

    def refuse(self, refusing: bool = True) -> None:
        """Refuse new connections, or accept them again; the live ones stay."""
        self._call(self._refuse(refusing))

    def blackhole(self, direction: Directions = "both") -> None:
        """Swallow what comes, on old and new connections: no answer, no reset, no end."""
        self._call(self._set_holes({*self.holes, *_expand(direction)}))

    def heal(self) -> None:
        """End `blackhole`.

        A connection that has lost a message stays dead, as one does behind a firewall that has
        forgotten it. Where either end has given up, the other is reset now.
        """
        self._call(self._set_holes(set()))

    def when(
        self,
        match: bytes | Callable[[bytes], bool],
        direction: Direction = "to_server",
        action: Action = "cut_before",
        times: int = 1,
    ) -> Rule:
        """Do something at the next messages that contain `match`, or for which it is true.

        - `cut_before`: the message doesn't arrive; both sides are reset.
        - `cut_after`: it arrives. One to the server is acted on, and when the server has said
          so, by its ReadyForQuery, both sides are reset; nothing of the answer comes through.
          (asyncpg prepares a statement without asking for that one: match a value, not the
          text, or any COMMIT, which isn't prepared.)
        - `drop`: the message doesn't arrive; what follows does.
        - `blackhole`: from this message on nothing arrives on this connection, either way.
        """
        matches = match if callable(match) else lambda message: match in message
        rule = Rule(matches, direction, action, times)
        self.rules.append(rule)
        return rule

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            upstream = await asyncio.open_connection(*self.upstream)
        except OSError:
            reset(writer)
            return
        link = Link(self, (reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def _cut(self) -> None:
        links = set(self._links)
        for link in links:
            link.cut()
        while links & self._links:
            await asyncio.sleep(0.001)

    async def _refuse(self, refusing: bool) -> None:
        if refusing and self._server is not None:
            self._server.close()
            self._server = None
            # Bound but not listening: connections are refused, and the port stays ours.
            self._placeholder = socket.socket()
            self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._placeholder.bind((self.host, self.port))
        elif not refusing and self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
            await self._listen()

    async def _set_holes(self, holes: set[Direction]) -> None:
        self.holes = holes
        for link in self._links:
            if not holes and link.abandoned:
                link.cut()

    async def _shut_down(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._placeholder is not None:
            self._placeholder.close()
        # Delivers what is in flight, such as a Terminate, before the rest is cut.
        await asyncio.sleep(0)
        await self._cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _expand(direction: Directions) -> tuple[Direction, ...]:
    return ("to_server", "to_client") if direction == "both" else (direction,)

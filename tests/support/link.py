"""One client's connection through the proxy, and the controls that all of them obey."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from .wire import ClientFrames, Message, ServerFrames

Direction = Literal["to_server", "to_client"]
Action = Literal["cut_before", "cut_after", "drop", "blackhole"]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
# A message and the time that it is due; None for the end of the stream, or its reset.
Arrival = tuple[float, Message | None, bool]

# To each of these from the client the server answers with one ReadyForQuery, "Z".
ASKS_FOR_READY = ("startup", "Q", "S", "F")


@dataclass(eq=False)
class Rule:
    """Something to do at certain messages.

    Attributes:
        fired: how often it was done.
        happened: set when it was done first.
    """

    matches: Callable[[bytes], bool]
    direction: Direction
    action: Action
    times: int
    fired: int = 0
    happened: threading.Event = field(default_factory=threading.Event)


class Controls:
    """What the proxy was told to do, and what it has counted; see `Proxy`."""

    def __init__(self) -> None:
        self.delays: dict[Direction, float] = {"to_server": 0.0, "to_client": 0.0}
        self.holes: set[Direction] = set()
        self.rules: list[Rule] = []
        self.errors: list[BaseException] = []
        self.reset_counts()

    def reset_counts(self) -> None:
        """Set every counter to zero."""
        self.connections = self.cancels = self.round_trips = 0
        self.messages: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self.bytes: dict[Direction, int] = {"to_server": 0, "to_client": 0}

    def action_at(self, direction: Direction, message: Message) -> Action | None:
        """The action of the first rule that the message meets, which is used up by one."""
        for rule in self.rules:
            if rule.direction != direction or rule.fired == rule.times:
                continue
            if rule.matches(message.data):
                rule.fired += 1
                rule.happened.set()
                return rule.action
        return None


class Link:
    """A pair of connections, client to proxy and proxy to server."""

    def __init__(self, controls: Controls, client: Stream, server: Stream) -> None:
        self.controls = controls
        self.readers: dict[Direction, asyncio.StreamReader]
        self.writers: dict[Direction, asyncio.StreamWriter]
        self.readers = {"to_server": client[0], "to_client": server[0]}
        self.writers = {"to_server": server[1], "to_client": client[1]}
        self.client_frames = ClientFrames()
        self.server_frames = ServerFrames()
        # Directions in which a message was swallowed, so that nothing after it may arrive.
        self.dead: set[Direction] = set()
        # One end has gone, and the other was not told.
        self.abandoned = False
        self.last: Direction = "to_client"
        # How many "Z" the client has asked for, and how many the server has sent.
        self.asked = self.ready = 0
        # The answer that ends in this "Z" is held back, by cut_after.
        self.withhold: int | None = None

    async def run(self) -> None:
        """Pass messages on until both directions have ended."""
        pumps = {asyncio.ensure_future(self._pump(one)) for one in self.readers}
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            self.controls.errors += [error for pump in done if (error := pump.exception())]
        finally:
            self.cut()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in self.writers.values():
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def cut(self) -> None:
        """Reset both connections."""
        for writer in self.writers.values():
            reset(writer)

    async def _pump(self, direction: Direction) -> None:
        """Read messages, and have each delivered when it is due."""
        loop = asyncio.get_running_loop()
        frames = self.client_frames if direction == "to_server" else self.server_frames
        arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(direction, arrivals))
            data, was_reset = b"", False
            while True:
                try:
                    data = await self.readers[direction].read(65536)
                except OSError:
                    data, was_reset = b"", True
                due = loop.time() + self.controls.delays[direction]
                if not data:
                    arrivals.put_nowait((due, None, was_reset))
                    return
                for message in frames.feed(data):
                    if message.kind == "encrypt?":
                        self.server_frames.answers += 1
                    arrivals.put_nowait((due, message, False))

    async def _deliver(self, direction: Direction, arrivals: asyncio.Queue[Arrival]) -> None:
        loop = asyncio.get_running_loop()
        writer = self.writers[direction]
        while True:
            due, message, was_reset = await arrivals.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if message is None:
                self._end(direction, was_reset)
                return
            if self._passes(direction, message) and not writer.is_closing():
                writer.write(message.data)
                with contextlib.suppress(OSError):
                    await writer.drain()

    def _end(self, direction: Direction, was_reset: bool) -> None:
        if direction in self.dead or direction in self.controls.holes:
            self.abandoned = True
        elif was_reset:
            self.cut()
        else:
            self.writers[direction].close()

    def _passes(self, direction: Direction, message: Message) -> bool:
        """Whether to pass a message on; breaks the link where a rule says so."""
        if direction in self.dead or direction in self.controls.holes:
            self.dead.add(direction)
            return False
        action = self.controls.action_at(direction, message)
        if action == "drop":
            return False
        if action == "blackhole":
            self.dead = {"to_server", "to_client"}
            return False
        if action == "cut_before":
            self.cut()
            return False
        if action == "cut_after" and direction == "to_client":
            # An end, not a reset, which would overtake the message.
            asyncio.get_running_loop().call_soon(self.writers["to_client"].close)
        elif action == "cut_after":
            self.withhold = self.asked + 1
        if direction == "to_server":
            self.asked += message.kind in ASKS_FOR_READY
        elif self._is_withheld(message):
            return False
        self._count(direction, message)
        return True

    def _is_withheld(self, message: Message) -> bool:
        """Whether this is part of the answer to hold back; at its end, cut."""
        self.ready += message.kind == "Z"
        if self.withhold is None:
            return False
        if message.kind == "Z" and self.ready == self.withhold:
            self.cut()
        # Answers to what was asked before may still be on their way: those do pass.
        return self.ready >= self.withhold - (message.kind != "Z")

    def _count(self, direction: Direction, message: Message) -> None:
        controls = self.controls
        controls.messages[direction] += 1
        controls.bytes[direction] += len(message.data)
        controls.cancels += message.kind == "cancel"
        controls.round_trips += (self.last, direction) == ("to_server", "to_client")
        self.last = direction


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, so that the peer sees a reset and not an orderly end."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()

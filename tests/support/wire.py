"""The framing of PostgreSQL's protocol, unencrypted: splits a direction's bytes into messages."""

from __future__ import annotations

import struct
from typing import NamedTuple

_UNTYPED = {80877102: "cancel", 80877103: "encrypt?", 80877104: "encrypt?"}


class Message(NamedTuple):
    """One whole message.

    `kind` is its type byte ("Q", "Z"), or for what has none: "startup", "cancel", "encrypt?" (a
    request for TLS or GSSAPI) and "answer" (the server's one byte to that).
    """

    kind: str
    data: bytes


class ClientFrames:
    """What a client sends: untyped messages up to its startup or cancel request, then typed."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._typed = False

    def feed(self, data: bytes) -> list[Message]:
        self._buffer += data
        messages = []
        while message := _take(self._buffer, self._typed):
            if not self._typed:
                (code,) = struct.unpack_from("!I", message, 4)
                messages.append(Message(_UNTYPED.get(code, "startup"), message))
                self._typed = messages[-1].kind != "encrypt?"
            else:
                messages.append(Message(chr(message[0]), message))
            del self._buffer[: len(message)]
        return messages


class ServerFrames:
    """What a server sends: typed messages, after one bare byte per request for encryption."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.answers = 0

    def feed(self, data: bytes) -> list[Message]:
        self._buffer += data
        messages = []
        while self._buffer:
            if self.answers:
                self.answers -= 1
                messages.append(Message("answer", bytes(self._buffer[:1])))
            elif message := _take(self._buffer, typed=True):
                messages.append(Message(chr(message[0]), message))
            else:
                break
            del self._buffer[: len(messages[-1].data)]
        return messages


def _take(buffer: bytearray, typed: bool) -> bytes:
    """The message that the buffer begins with; empty where it isn't whole yet."""
    if len(buffer) < typed + 4:
        return b""
    (length,) = struct.unpack_from("!I", buffer, typed)
    return bytes(buffer[: typed + length]) if len(buffer) >= typed + length else b""

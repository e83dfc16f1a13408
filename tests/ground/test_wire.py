"""Messages are found however the stream is cut into pieces."""

from __future__ import annotations

import struct

import pytest
from tests.support.wire import ClientFrames, Message, ServerFrames


def untyped(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!II", 8 + len(body), code) + body


def typed(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!I", 4 + len(body)) + body


CLIENT = [
    Message("encrypt?", untyped(80877103)),
    Message("startup", untyped(196608, b"user\0me\0\0")),
    Message("Q", typed("Q", b"select 'Q'\0")),
    Message("S", typed("S")),
]
SERVER = [
    Message("answer", b"N"),
    Message("R", typed("R", struct.pack("!I", 0))),
    Message("Z", typed("Z", b"I")),
]


@pytest.mark.parametrize("size", range(1, 60))
def test_pieces_of_any_size(size: int) -> None:
    """The same messages come out of pieces of one byte and of everything at once."""
    for frames, expected in ((ClientFrames(), CLIENT), (ServerFrames(), SERVER)):
        if isinstance(frames, ServerFrames):
            frames.answers = 1
        stream = b"".join(message.data for message in expected)
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [message for piece in pieces for message in frames.feed(piece)] == expected


def test_cancel_request_is_a_message_of_its_own() -> None:
    """A request to cancel is the only thing that its connection carries."""
    request = untyped(80877102, struct.pack("!II", 1, 2))
    assert ClientFrames().feed(request) == [Message("cancel", request)]

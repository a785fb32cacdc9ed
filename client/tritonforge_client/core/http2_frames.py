"""Frames of HTTP/2 (RFC 9113): their types, flags and heads."""

from __future__ import annotations

import struct
from typing import Final

from tritonforge_client.core.request import ReplyFormatError

# Section 6.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32
# Section 6.5.2.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5

USUAL_WINDOW: Final = 65_535
USUAL_FRAME_BYTES: Final = 16_384
LARGEST: Final = (1 << 31) - 1
LARGEST_FRAME_BYTES: Final = (1 << 24) - 1

HEAD: Final = struct.Struct(">IBI")
"""What stands before a payload (section 4.1): three bytes of length and one of type, flags, stream."""

# Whoever sends us tensors need not wait for room, and heads can be read without those before them.
GREETING: Final = b"".join(
    (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x18\x04\x00\x00\x00\x00\x00",
        struct.pack(">HIHI", HEADER_TABLE_SIZE, 0, ENABLE_PUSH, 0),
        struct.pack(">HIHI", INITIAL_WINDOW_SIZE, LARGEST, MAX_FRAME_SIZE, LARGEST_FRAME_BYTES),
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x00",
        struct.pack(">I", LARGEST - USUAL_WINDOW),
    )
)


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes before the payload (section 4.1)."""
    return struct.pack(">IBBI", length, kind, flags, stream)[1:]


def frame_fields(received: memoryview, start: int) -> tuple[int, int, int, int]:
    """Length, type, flags and stream of the frame that begins there."""
    length_and_kind, flags, stream = HEAD.unpack_from(received, start)
    return length_and_kind >> 8, length_and_kind & 0xFF, flags, stream & LARGEST


def head_frames(block: bytes, stream: int, frame_bytes: int) -> list[bytes]:
    """A head in frames that are not larger (section 6.10)."""
    if len(block) <= frame_bytes:  # as nearly always
        return [frame_head(len(block), HEADERS, END_HEADERS, stream) + block]
    frames = []
    for at in range(0, len(block), frame_bytes):
        piece = block[at : at + frame_bytes]
        kind = HEADERS if at == 0 else CONTINUATION
        flags = END_HEADERS if at + frame_bytes >= len(block) else 0
        frames.append(frame_head(len(piece), kind, flags, stream) + piece)
    return frames


def window_update(stream: int, size: int) -> bytes:
    """Let the peer send so many bytes more (section 6.9)."""
    return frame_head(4, WINDOW_UPDATE, 0, stream) + struct.pack(">I", size)


def reset(stream: int, code: int) -> bytes:
    """End a stream at once (section 6.4)."""
    return frame_head(4, RST_STREAM, 0, stream) + struct.pack(">I", code)


def unpadded(payload: memoryview, flags: int) -> memoryview:
    """The payload without its padding (section 6.1)."""
    if not flags & PADDED:
        return payload
    if len(payload) == 0 or payload[0] >= len(payload):
        raise ReplyFormatError("a frame has more padding than bytes")
    return payload[1 : len(payload) - payload[0]]

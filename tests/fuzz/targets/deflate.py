"""permessage-deflate: what the deflater makes, any client inflates; and what clients make, against zlib.

Input: settings, which way; then messages, or the payload of one message in any frames.
"""

import zlib

from fuzz.inputs import Input
from support.deliveries import make_reader
from support.reference import BINARY, CONTINUATION, FAIL, RSV1, Event, frame

from crest.wire.deflate import Deflater

TAIL = b"\x00\x00\xff\xff"
WINDOWS = range(9, 16)
LIMITS = [1 << 20, 0, 1, 100, 5000]
MOST = 1 << 16
"""Bytes that zlib is asked for: a test of more would be slow."""


def deflate(given: Input) -> list[bytes]:
    """Compress messages; a client of zlib's with the same window, and the server's own inflater, must read them."""
    bits, level, memory_level = given.choose(WINDOWS), given.choose(range(1, 10)), given.choose(range(1, 10))
    takeover = bool(given.byte() & 1)
    messages = given.chunks()
    deflater = Deflater(bits, level, memory_level, takeover=takeover)
    reader, window, compressed = make_reader(takeover=takeover), zlib.decompressobj(-bits), []
    for message in [*messages, b""]:
        payload = deflater.deflate(message)
        if payload is None:
            assert len(message) < 1000 or not takeover or zlib.compress(message) != b"", "nothing to shorten"
            # What was not sent compressed is not in the client's window: nothing may refer to it.
            continue
        assert len(payload) <= max(len(message), 1) and not payload.endswith(TAIL)
        if not takeover:
            window = zlib.decompressobj(-bits)
        assert window.decompress(payload + TAIL) == message
        assert reader.feed(frame(RSV1 | BINARY, payload)) == [(BINARY, message)]
        compressed.append(payload)
    return compressed


def inflate_by_zlib(payload: bytes) -> bytes | None:
    """RFC 7692 section 7.2.2 in zlib's words; None if that is no compressed message, or is long."""
    data, out = payload + TAIL, b""
    while data:
        # Behind a block with BFINAL set others may follow, and refer to what was before.
        stream = zlib.decompressobj(-15, zdict=out[-(1 << 15) :])
        try:
            out += stream.decompress(data, MOST)
        except zlib.error:
            return None
        if stream.unconsumed_tail or len(out) >= MOST:
            return None
        if not stream.eof:
            return out
        data = stream.unused_data
        if data == TAIL:  # nothing was begun: they are no part of a block
            return out
    return out


def inflate(given: Input) -> list[Event]:
    """Inflate a message's payload, in one frame and in several: the same comes of both, and as zlib has it."""
    limit, takeover = given.choose(LIMITS), bool(given.byte() & 1)
    parts = given.chunks() or [b""]
    payload = b"".join(parts)
    [event] = make_reader(takeover=takeover, max_message_size=limit).feed(frame(RSV1 | BINARY, payload))
    reader = make_reader(takeover=takeover, max_message_size=limit)
    found = [each for part in fragmented_frames(parts) for each in reader.feed(part)]
    if any(each[0] == FAIL and "compressed data of" in str(each[2]) for each in (event, *found)):
        return [event]  # each frame may add some bytes to that limit: frames decide, and how the data is cut
    assert without_number(found) == without_number([event]), f"in frames: {found}\nas one: {event}"
    if event[0] == FAIL:
        assert event[1] in (1007, 1009), event
    else:
        expected = inflate_by_zlib(payload)
        assert expected is None or event == (BINARY, expected), f"found {event}\nexpected {expected!r}"
        assert len(event[1]) <= limit
    return [event]


def fragmented_frames(parts: list[bytes]) -> list[bytes]:
    """The frames of a compressed message: each by itself."""
    last = len(parts) - 1
    return [frame(CONTINUATION if i else RSV1 | BINARY, part, i == last) for i, part in enumerate(parts)]


def without_number(events: list[Event]) -> list[Event]:
    """A failure says in which frame it was."""
    return [(*event[:2], event[2].partition(": ")[2]) if event[0] == FAIL else event for event in events]  # type: ignore[misc]


def check(data: bytes) -> list[bytes] | list[Event]:
    given = Input(data)
    return deflate(given) if given.byte() & 1 else inflate(given)

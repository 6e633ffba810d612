"""How a stream of frames reaches a reader: cut in any way, and by either way of delivery, with the same result."""

from collections.abc import Callable, Iterator
from typing import Any

from crest.wire.deflate import Codec, Inflater
from crest.wire.frames import FrameReader
from support import reference
from support.reference import Event

DELIVERIES: dict[str, Callable[[FrameReader, bytes], list[Event]]] = {
    "feed": FrameReader.feed,
    "feed_direct": FrameReader.feed_direct,
    "feed_direct, three or more": lambda reader, chunk: reader.feed_direct(chunk, 3),
}


def make_reader(takeover: bool | None = None, **limits: Any) -> FrameReader:
    """A reader; `takeover` says that messages may be compressed, and whether with context takeover."""
    return FrameReader(inflater=None if takeover is None else Inflater(Codec(), 15, takeover=takeover), **limits)


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """In one piece, in two at every place, byte by byte, and with empty chunks in between."""
    yield [stream]
    for at in range(1, len(stream)):
        yield [stream[:at], stream[at:]]
    yield cut(stream, 1)
    yield [chunk for byte in cut(stream, 1) for chunk in (b"", byte)]


def without_details(events: list[Event]) -> list[Event]:
    """As the oracle says it, who does not know zlib's words for what is wrong with compressed data."""
    known = "compressed data is not valid"
    return [
        (event[0], event[1], event[2].partition(known)[0] + known) if len(event) == 3 and known in event[2] else event
        for event in events
    ]


def assert_reads(stream: str | bytes, expected: list[Event], **options: Any) -> None:
    """Whatever the cut: these events, each as soon as the bytes that make it are there. Options are `make_reader`'s."""
    stream = bytes.fromhex(stream) if isinstance(stream, str) else stream
    for name, feed in DELIVERIES.items():
        for chunks in cuts(stream):
            reader = make_reader(**options)
            events = [event for chunk in chunks for event in feed(reader, chunk)]
            assert events == expected, (name, [chunk.hex() for chunk in chunks])
        reader, events = make_reader(**options), []
        for at, byte in enumerate(cut(stream, 1), 1):
            events += feed(reader, byte)
            assert without_details(events) == reference.parse(stream[:at], **options), (name, stream[:at].hex())

"""The frame reader: however a stream is cut, and whichever way it is delivered, the same events come of it.

Input: limits, compression, delivery, cuts; then the stream.
"""

from fuzz.inputs import Input
from support.deliveries import make_reader
from support.reference import CLOSE, FAIL, Event

LIMITS = [1 << 20, 0, 1, 5, 125, 126, 1000, 65535, 65536, (1 << 63) - 1, (1 << 64) - 1]
FRAGMENT_LIMITS = [1 << 17, 1, 2, 3, (1 << 32) - 1]
TAKEOVER = [None, False, True]
LEAST = [None, 1, 3, 64]
"""Of feed_direct; None: feed."""


def check(data: bytes) -> list[Event]:
    given = Input(data)
    options = {
        "max_message_size": given.choose(LIMITS),
        "max_fragments": given.choose(FRAGMENT_LIMITS),
        "takeover": given.choose(TAKEOVER),
    }
    least = given.choose(LEAST)
    chunks = given.chunks()
    whole = make_reader(**options).feed(b"".join(chunks))
    reader, found = make_reader(**options), []
    for chunk in chunks:
        found += reader.feed(chunk) if least is None else reader.feed_direct(chunk, least)
    assert found == whole, f"in chunks: {found}\nas a whole: {whole}"
    if any(event[0] in (CLOSE, FAIL) for event in whole):
        assert whole[-1][0] in (CLOSE, FAIL) and reader.feed(b"\x81\x80\0\0\0\0") == [], "something came after the end"
    return whole

"""Records between processes: what three links give to the exchange, in any pieces, whether it is records or not.

Input: how much may wait for a link, how long the pieces are, and where the streams of the links begin; then those.
"""

from fuzz.inputs import Input

from crest.cluster.outgoing import Outgoing
from crest.cluster.record import RecordError, RecordKind, unpack
from crest.cluster.router import Router

LIMITS = [1 << 20, 300, 3000]
LINKS = 3
LONG = 64
"""Bytes by which pieces, and what comes before a stream, are counted."""


def read(data: bytes) -> list[str]:
    """Name the kinds of records; and the error, if a reader would find one."""
    try:
        found, rest = unpack(data)
    except RecordError as error:
        return [str(error)]
    assert rest == b"", "a part of a record waits for a link"
    return [RecordKind(each.kind).name for each in found]


def check(data: bytes) -> list[str]:
    """Route it. A link whose bytes are no records is cut off, as the exchange does; the others go on."""
    given = Input(data)
    limit, size = given.choose(LIMITS), (given.byte() + 1) * LONG // 4
    first, second = given.byte() * LONG, given.byte() * LONG
    rest = given.rest()
    streams = [rest[:first], rest[first : first + second], rest[first + second :]]
    router, seen = Router(), []
    ports = [router.join(number, Outgoing(None, limit, number)) for number in range(LINKS)]
    kept = [b""] * LINKS
    for at in range(0, max(map(len, streams)), size):
        for number, stream in enumerate(streams):
            kept[number] += stream[at : at + size]
            try:
                used = router.feed(ports[number], kept[number])
            except RecordError as error:
                seen.append(str(error))
                router.part(ports[number])
                ports[number], kept[number] = router.join(number, Outgoing(None, limit, number)), b""
            else:
                assert 0 <= used <= len(kept[number])
                kept[number] = kept[number][used:]
    for port in ports:
        seen += read(port.queue.take(1 << 30))
        router.part(port)
    return seen

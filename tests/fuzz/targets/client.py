"""A client's frame reader against `websockets`' client: the same messages, the same end.

As `differential` is for a server's reader: it has the deviations, which are the same on both sides, and the comparison.

Input: compression, cuts; then the stream.
"""

from fuzz.inputs import Input
from fuzz.targets.differential import LIMIT, WITHIN_A_BLOCK, NotComparable, Theirs, compare
from support.reference import Event

from crest.wire.deflate import Codec, Inflater
from crest.wire.frames import FrameReader
from crest.wire.role import Role


def check(data: bytes) -> tuple[list[Event], str | None]:
    """crest's events, and the sentence of the deviation, if there is one."""
    given = Input(data)
    takeover = given.choose([None, True])
    chunks = given.chunks()
    inflater = None if takeover is None else Inflater(Codec(), 15, takeover=takeover)
    reader = FrameReader(role=Role.CLIENT, max_message_size=LIMIT, inflater=inflater)
    theirs = Theirs(takeover, Role.CLIENT)
    mine: list[Event] = []
    try:
        for chunk in chunks:
            mine += reader.feed(chunk)
            theirs.read(chunk)
    except NotComparable:
        return mine, WITHIN_A_BLOCK
    return mine, compare(mine, theirs)

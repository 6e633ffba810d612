"""The frame reader against `websockets`' sans-I/O protocol: the same messages, the same end.

Where both differ is listed in DEVIATIONS, each with the sentence that crest goes by; whatever else differs is a fault.

Input: compression, cuts; then the stream.
"""

import logging
import re
import zlib
from typing import NamedTuple

from fuzz.inputs import Input
from support.deliveries import make_reader
from support.reference import BINARY, CLOSE, CONTINUATION, FAIL, PING, PONG, TEXT, Event
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import SERVER, Protocol, State
from websockets.uri import parse_uri

from crest.wire.role import Role

LIMIT = 5000
"""max_message_size of both: so small that inputs get over it, at least inflated."""

QUIET = logging.getLogger("fuzz.websockets")
QUIET.setLevel(logging.CRITICAL)

GOES_ON = 0
"""In place of a close code: `websockets` has not failed, and may have read what crest did not."""


class Deviation(NamedTuple):
    """How `websockets` differs.

    Attributes:
        error: What crest fails for, a pattern.
        theirs: Close codes with which `websockets` fails instead, or GOES_ON.
        why: Which sentence says so, or what is open.
    """

    error: str
    theirs: set[int]
    why: str


EARLY = "a header is judged as its bytes come; websockets judges the frame when it has the whole of it: "

DEVIATIONS = [
    Deviation(
        "reserved bit|RSV1 is set",
        {GOES_ON, 1009},
        EARLY + "RFC 6455 section 5.2, MUST be 0 unless an extension is negotiated that defines meanings for non-zero"
        " values. [...] the receiving endpoint MUST _Fail the WebSocket Connection_.",
    ),
    Deviation(
        "opcode 0x[0-9a-f] is reserved",
        {GOES_ON},
        EARLY
        + "RFC 6455 section 5.2, If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket"
        " Connection_.",
    ),
    Deviation(
        "control frame must not be fragmented",
        {GOES_ON, 1009},
        EARLY + "RFC 6455 section 5.5, All control frames [...] MUST NOT be fragmented.",
    ),
    Deviation(
        "payload of a control frame is over",
        {GOES_ON, 1002, 1007, 1009},
        "RFC 6455 section 5.5: All control frames MUST have a payload length of 125 bytes or less. One that has its"
        " length in an encoding for more is over 125 bytes or breaks section 5.2, see below; websockets takes that.",
    ),
    Deviation(
        "no message has begun|the fragmented one before is not finished",
        {GOES_ON, 1009},
        EARLY + "RFC 6455 section 5.4, The fragments of one message MUST NOT be interleaved between the fragments of"
        " another message unless an extension has been negotiated that can interpret the interleaving.",
    ),
    Deviation(
        "not in its shortest encoding",
        {GOES_ON, 1002, 1007, 1009},
        "RFC 6455 section 5.2: Note that in all cases, the minimal number of bytes MUST be used to encode the length.",
    ),
    Deviation(
        "most significant bit set",
        {1009},
        "RFC 6455 section 5.2: the following 8 bytes interpreted as a 64-bit unsigned integer (the most significant bit"
        " MUST be 0) are the payload length.",
    ),
    Deviation(
        "text message is not UTF-8",
        {GOES_ON, 1002, 1007, 1009},
        "RFC 6455 section 8.1: When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream"
        " is not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
        " crest finds that with"
        " the first such byte, others at the message's end.",
    ),
    Deviation(
        "close code [0-9]+ may not be sent",
        {1007},
        "RFC 6455 section 7.4.2, 0-999: Status codes in the range 0-999 are not used. Which is judged first, code or"
        " reason, is open.",
    ),
    Deviation(
        "compressed data is not valid|ends within a block",
        {GOES_ON, 1002, 1009},
        "RFC 6455 section 7.4.1: 1007 indicates that an endpoint is terminating the connection because it has received"
        " data within a message that was not consistent with the type of the message. A message that ends within a"
        " block is read by websockets; RFC 7692 section 7.2.1 has no sender that makes one.",
    ),
    Deviation(
        "over max_message_size",
        {GOES_ON, 1002, 1009},
        "RFC 6455 section 10.4: Implementations that have implementation- and/or platform-specific limitations"
        " regarding the frame size or total message size after reassembly from multiple frames MUST"
        " protect themselves against"
        " exceeding those limits. crest counts what it inflates as that comes, websockets when the frame is complete.",
    ),
]

CLOSE_WITHIN_A_MESSAGE = (
    "RFC 6455 section 5.4: Control frames (see Section 5.5) MAY be injected in the middle of a fragmented message."
    " websockets fails with 1002 for a close frame there."
)
WITHIN_A_BLOCK = (
    "RFC 7692 section 7.2.2: Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message."
    " Behind a block with BFINAL set, and where a message ends with a block of its own, websockets does not notice that"
    " these end none: not comparable from there on."
)
COUNTED_OTHERWISE = (
    "RFC 6455 section 10.4 leaves limits to each. websockets refuses a frame whose payload is over max_size while it is"
    " compressed, and counts control frames for the message that they come in the middle of."
)
PROBE = b"\x01\x01\x00\xfe\xffx"
"""A last block, with one byte that is not compressed."""


class NotComparable(Exception):
    """See WITHIN_A_BLOCK."""


class Inflation(PerMessageDeflate):
    """The extension as it is, but that it says when it is lost."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        decoded = super().decode(frame, max_size=max_size)
        if self.decoder.eof:
            raise NotComparable
        if frame.rsv1 or frame.opcode == CONTINUATION:
            self.check_place()
        return decoded

    def check_place(self) -> None:
        """Behind a message, the next bytes must begin a block."""
        if self.decode_cont_data:
            return
        probe = self.decoder.copy()
        try:
            at_block = (probe.decompress(PROBE), probe.eof) == (b"x", True)
        except zlib.error:
            at_block = False
        if not at_block:
            raise NotComparable


class Theirs:
    """What a server, or a client, made of `websockets` gets from a stream.

    Attributes:
        events: As crest's reader has them, without the end.
        close: Code and reason of the peer's close frame.
        code: With which it fails; GOES_ON if it does not.
    """

    def __init__(self, takeover: bool | None, role: Role = Role.SERVER) -> None:
        self.protocol: Protocol
        if role is Role.SERVER:
            self.protocol = Protocol(SERVER, state=State.OPEN, max_size=LIMIT, logger=QUIET)
        else:
            uri = parse_uri("ws://test/")
            self.protocol = ClientProtocol(uri, state=State.OPEN, max_size=LIMIT, logger=QUIET)
        if takeover is not None:
            self.protocol.extensions = [Inflation(not takeover, True, 15, 15)]
        self.events: list[Event] = []
        self.close: tuple[int, str] | None = None
        self.code = GOES_ON
        self.message: list[bytes] = []
        self.opcode = CONTINUATION

    def read(self, chunk: bytes) -> None:
        if self.code != GOES_ON or self.close is not None:
            return
        protocol = self.protocol
        protocol.receive_data(chunk)
        for frame in protocol.events_received():
            self.take(frame)
        if self.code == GOES_ON and protocol.parser_exc is not None:
            if protocol.close_sent is None or protocol.close_sent.code == 1011:
                raise protocol.parser_exc
            self.code = int(protocol.close_sent.code)

    def take(self, frame: Frame) -> None:
        opcode, data = int(frame.opcode), bytes(frame.data)
        if self.code != GOES_ON:
            return
        if opcode in (PING, PONG):
            self.events.append((opcode, data))
        elif opcode == CLOSE:
            assert self.protocol.close_rcvd is not None
            self.close = int(self.protocol.close_rcvd.code), self.protocol.close_rcvd.reason
        else:
            self.opcode = opcode or self.opcode
            self.message.append(data)
            if frame.fin:
                self.end_message()

    def end_message(self) -> None:
        """Its sans-I/O layer leaves text to the layer above, which does this."""
        data, self.message = b"".join(self.message), []
        try:
            self.events.append((BINARY, data) if self.opcode == BINARY else (TEXT, data.decode()))
        except UnicodeDecodeError:
            self.code = 1007


def starts_with(events: list[Event], start: list[Event]) -> bool:
    return events[: len(start)] == start


def compare(mine: list[Event], theirs: Theirs) -> str | None:
    """Raise AssertionError where both differ; the sentence of the deviation, if that is one."""
    end = mine[-1] if mine and mine[-1][0] in (CLOSE, FAIL) else None
    events = mine[:-1] if end else mine
    told = f"crest: {mine}\nwebsockets: {theirs.events}, close {theirs.close}, fails with {theirs.code}"
    if theirs.code == 1009 and (end is None or end[:2] != (FAIL, 1009)):
        counts_otherwise = theirs.protocol.extensions or theirs.protocol.current_size is not None
        if counts_otherwise and starts_with(events, theirs.events):
            return COUNTED_OTHERWISE
    if end is None:
        assert (events, theirs.close, theirs.code) == (theirs.events, None, GOES_ON), told
        return None
    if end[0] == CLOSE:
        assert events == theirs.events, told
        if theirs.code == 1002 and theirs.protocol.current_size is not None:
            return CLOSE_WITHIN_A_MESSAGE
        assert theirs.close == end[1:] and theirs.code == GOES_ON, told
        return None
    if events == theirs.events and end[1] == theirs.code:
        return None
    for deviation in DEVIATIONS:
        if re.search(deviation.error, str(end[2])):
            assert theirs.code in deviation.theirs and starts_with(theirs.events, events), told
            return deviation.why
    raise AssertionError(told)


def check(data: bytes, role: Role = Role.SERVER) -> tuple[list[Event], str | None]:
    """crest's events on one side, and the sentence of the deviation, if there is one."""
    given = Input(data)
    takeover = given.choose([None, True])
    chunks = given.chunks()
    reader, theirs = make_reader(takeover=takeover, role=role, max_message_size=LIMIT), Theirs(takeover, role)
    mine: list[Event] = []
    try:
        for chunk in chunks:
            mine += reader.feed(chunk)
            theirs.read(chunk)
    except NotComparable:
        return mine, WITHIN_A_BLOCK
    return mine, compare(mine, theirs)

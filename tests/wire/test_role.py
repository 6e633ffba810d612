"""crest.wire.role: what differs between both sides, in frames and compression; and both together, with any peer."""

import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.deliveries import DELIVERIES, cut, cuts
from support.reference import BINARY, CLOSE, CONTINUATION, FAIL, PING, PONG, RSV1, TEXT, Event, frame
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol

from crest import wire
from crest.wire.deflate import Codec
from crest.wire.extensions import Agreement
from crest.wire.frames import FrameReader, serialize
from crest.wire.masking import Masker
from crest.wire.meter import Meter, Rates
from crest.wire.role import Role

QUIET = logging.getLogger("test.websockets")
QUIET.setLevel(logging.CRITICAL)


def unmasked(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """A frame as a server sends it."""
    sent = serialize(opcode, payload)
    return bytes([sent[0] & 0x7F | fin << 7]) + sent[1:]


def client(**options: Any) -> FrameReader:
    return FrameReader(role=Role.CLIENT, **options)


def assert_reads(stream: bytes, expected: list[Event], **options: Any) -> None:
    """Whatever the cut: these events, of a client's reader."""
    for name, feed in DELIVERIES.items():
        for chunks in cuts(stream):
            reader = client(**options)
            events = [event for chunk in chunks for event in feed(reader, chunk)]
            assert events == expected, (name, [chunk.hex() for chunk in chunks])


# ---- Reading ---------------------------------------------------------------------------------------------------------

CONVERSATION: list[tuple[int, bytes, bool]] = [
    (TEXT, b"Hello", True),
    (TEXT, b"", True),
    (BINARY, b"", True),
    (BINARY, bytes(range(200)), True),
    (TEXT, "na\u00efve \U0001f600".encode(), True),
    (PING, b"", True),
    (TEXT, b"a\xf0\x9f", False),
    (PONG, b"x" * 125, True),
    (CONTINUATION, b"\x98", False),
    (CONTINUATION, b"", False),
    (CONTINUATION, b"\x80z", True),
    (BINARY, b"x" * 126, True),
]
EVENTS: list[Event] = [
    (TEXT, "Hello"),
    (TEXT, ""),
    (BINARY, b""),
    (BINARY, bytes(range(200))),
    (TEXT, "na\u00efve \U0001f600"),
    (PING, b""),
    (PONG, b"x" * 125),
    (TEXT, "a\U0001f600z"),
    (BINARY, b"x" * 126),
]


def test_a_client_reads_what_a_server_sends() -> None:
    assert_reads(b"".join(unmasked(*each) for each in CONVERSATION), EVENTS)


def test_a_server_reads_the_same_masked() -> None:
    reader = FrameReader(role=Role.SERVER)
    assert reader.feed(b"".join(frame(*each) for each in CONVERSATION)) == EVENTS


@pytest.mark.parametrize("size", [125, 126, 0xFFFF, 0x10000, 300_000])
def test_a_client_reads_messages_of_any_length(size: int) -> None:
    data = random.Random(size).randbytes(size)
    for feed in DELIVERIES.values():
        for piece in (size + 20, 1000, 4096):
            reader = client()
            sent = unmasked(BINARY, data) + unmasked(TEXT, b"x")
            events = [event for chunk in cut(sent, piece) for event in feed(reader, chunk)]
            assert events == [(BINARY, data), (TEXT, "x")]


@pytest.mark.parametrize("payload", [b"", b"x", b"x" * 126, b"x" * 0x10000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
def test_a_client_fails_for_a_masked_frame(opcode: int, payload: bytes) -> None:
    """Section 5.1: A client MUST close a connection if it detects a masked frame. It shows in the second byte."""
    failed: list[Event] = [(FAIL, 1002, "frame 2: masked, as no frame from a server may be")]
    stream = unmasked(TEXT, b"a") + frame(opcode, payload)
    for size in (1, 2, 5, 7, len(stream)):
        reader = client()
        assert [event for chunk in cut(stream, size) for event in reader.feed(chunk)] == [(TEXT, "a"), *failed]
    assert client().feed(frame(opcode, payload)[:2])[0][1] == 1002


def test_a_server_fails_for_a_frame_that_is_not_masked() -> None:
    for sent in (unmasked(TEXT, b"abcdefgh"), unmasked(BINARY, b"x" * 300), unmasked(PING, b"")):
        assert FrameReader().feed(sent) == [(FAIL, 1002, "frame 1: not masked, as every frame from a client must be")]


@pytest.mark.parametrize(
    ("stream", "close_code"),
    [
        (b"\x80\x00", 1002),
        (b"\x83\x00", 1002),
        (b"\x09\x00", 1002),
        (b"\xc1\x00", 1002),
        (b"\x89\x7e\x00\x80", 1002),
        (b"\x81\x7e\x00\x7d", 1002),
        (b"\x82\x7f\x80" + bytes(7), 1002),
        (b"\x82\x7e\x01\x00", 1009),
        (b"\x82\x0b", 1009),
        (b"\x81\x02\xc3\x28", 1007),
        (b"\x88\x01a", 1002),
        (b"\x88\x02\x03\xed", 1002),
        (b"\x01\x00" + b"\x00\x00" * 4, 1008),
    ],
)
def test_a_client_is_as_strict_as_a_server(stream: bytes, close_code: int) -> None:
    for feed in DELIVERIES.values():
        for size in (1, len(stream)):
            reader = client(max_message_size=10, max_fragments=4)
            events = [event for chunk in cut(stream, size) for event in feed(reader, chunk)]
            assert [event[:2] for event in events] == [(FAIL, close_code)]


def test_a_close_frame_ends_what_a_client_reads() -> None:
    assert_reads(unmasked(CLOSE, b"\x03\xe9away") + unmasked(TEXT, b"x"), [(CLOSE, 1001, "away")])


def test_a_role_is_a_role() -> None:
    for role in (None, "client"):
        with pytest.raises(TypeError):
            FrameReader(role=role)  # type: ignore[arg-type]


def test_a_role_is_the_number_that_compiled_modules_know() -> None:
    source = Path(wire.__file__).parent / "role.pxd"
    if not source.exists():
        pytest.skip("role.pxd is not installed: only a source tree has it")
    assert dict(re.findall(r"(\w+) = (\d+)", source.read_text("utf-8"))) == {
        role.name: str(role.value) for role in Role
    }


def test_the_reader_has_not_grown() -> None:
    """One byte more would cost each of many idle connections sixteen (docs/internals/idle.md)."""
    assert FrameReader.__basicsize__ == 160


# ---- Both sides ------------------------------------------------------------------------------------------------------

AGREEMENTS = {
    "no takeover": Agreement(True, True, 15, 15, ""),
    "takeover": Agreement(False, False, 15, 15, ""),
    "the server's takeover, small windows": Agreement(False, True, 9, 10, ""),
    "the client's takeover, the least windows": Agreement(True, False, 8, 8, ""),
    "takeover, the least windows": Agreement(False, False, 8, 8, ""),
}
NOISE = random.Random(6455).randbytes(3000)
MESSAGES = [b"", b"a", b"hello " * 300, NOISE, NOISE[:2000] * 2, b"hello " * 300, b"tail " + NOISE[1000:1100] * 9]


class Side:
    """One side of a connection, on crest's wire floor."""

    def __init__(self, role: Role, agreed: Agreement | None) -> None:
        codec = Codec()
        self.frame: Callable[[int, bytes], bytes] = Masker().serialize if role is Role.CLIENT else serialize
        self.deflater = None if agreed is None else codec.deflater(agreed, role)
        self.reader = FrameReader(role=role, inflater=None if agreed is None else codec.inflater(agreed, role))
        self.compressed = 0

    def send(self, opcode: int, payload: bytes) -> bytes:
        deflated = None if self.deflater is None else self.deflater.deflate(payload)
        if deflated is None:
            return self.frame(opcode, payload)
        self.compressed += 1
        return self.frame(opcode | RSV1, deflated)


@pytest.mark.parametrize("agreed", [None, *AGREEMENTS.values()], ids=["none", *AGREEMENTS])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_both_sides_understand_each_other(agreed: Agreement | None, size: int) -> None:
    sides = {role: Side(role, agreed) for role in Role}
    for role, other in ((Role.CLIENT, Role.SERVER), (Role.SERVER, Role.CLIENT)):
        sent = b"".join(sides[role].send(BINARY, message) for message in MESSAGES)
        events = [event for chunk in cut(sent, size) for event in sides[other].reader.feed(chunk)]
        assert events == [(BINARY, message) for message in MESSAGES]
        assert bool(sides[role].compressed) is (agreed is not None)


@pytest.mark.parametrize("agreed", [None, *AGREEMENTS.values()], ids=["none", *AGREEMENTS])
def test_a_server_of_websockets_understands(agreed: Agreement | None) -> None:
    """In both directions, messages of one frame and of several, and the closing handshake."""
    mine = Side(Role.CLIENT, agreed)
    theirs = ServerProtocol(state=State.OPEN, logger=QUIET)
    if agreed is not None:
        # zlib in Python has no window of 8 bits to compress with; a larger one to read with does no harm.
        bits = agreed.server_max_window_bits
        theirs.extensions = [
            PerMessageDeflate(
                agreed.client_no_context_takeover,
                agreed.server_no_context_takeover or bits == 8,
                agreed.client_max_window_bits,
                max(bits, 9),
            )
        ]
    for message in MESSAGES:
        theirs.receive_data(mine.send(BINARY, message))
        assert [bytes(each.data) for each in theirs.events_received() if isinstance(each, Frame)] == [message]
        if agreed is None or agreed.server_max_window_bits > 8:
            theirs.send_binary(message[:100], fin=False)
            theirs.send_continuation(message[100:], fin=True)
            theirs.send_text(b"text")
            sent = b"".join(theirs.data_to_send())
            assert mine.reader.feed(sent) == [(BINARY, message), (TEXT, "text")]
    theirs.receive_data(mine.frame(CLOSE, b"\x03\xe8bye"))
    assert (theirs.close_rcvd and theirs.close_rcvd.code, theirs.parser_exc) == (1000, None)
    assert mine.reader.feed(b"".join(theirs.data_to_send())) == [(CLOSE, 1000, "bye")]


@pytest.mark.parametrize("agreed", ["the client's takeover, the least windows", "takeover, the least windows"])
def test_in_a_window_of_8_bits_nothing_is_referred_to(agreed: str) -> None:
    """zlib has no such window. Without references each byte takes a bit or more, and any window is wide enough."""
    deflater = Codec().deflater(AGREEMENTS[agreed], Role.CLIENT)
    reader = FrameReader(inflater=Codec().inflater(AGREEMENTS[agreed]))
    for _ in range(3):
        payload = deflater.deflate(b"a" * 8000)
        assert payload is not None
        assert 1000 <= len(payload) < 2000
        assert reader.feed(frame(BINARY | RSV1, payload)) == [(BINARY, b"a" * 8000)]


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (Role.SERVER, "; does the client ignore client_no_context_takeover?"),
        (Role.CLIENT, "; does the server ignore server_no_context_takeover?"),
    ],
)
def test_a_peer_that_takes_over_its_context_against_the_agreement(role: Role, words: str) -> None:
    deflater = Codec().deflater(AGREEMENTS["takeover"])
    reader = FrameReader(role=role, inflater=Codec().inflater(AGREEMENTS["no takeover"], role))
    write = frame if role is Role.SERVER else serialize
    sent = b""
    for _ in range(2):
        payload = deflater.deflate(b"hello, hello, this is the same again")
        assert payload is not None
        sent += write(TEXT | RSV1, payload)
    *_, failed = reader.feed(sent)
    assert failed[:2] == (FAIL, 1007)
    assert str(failed[-1]).endswith(words)


def test_a_meter_holds_a_client_to_its_rates_too() -> None:
    reader = client(meter=Meter(Rates(max_message_rate=(1, 2)), 0))
    assert reader.feed(serialize(TEXT, b"a") * 3)[-1][:2] == (FAIL, 1008)

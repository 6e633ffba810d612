"""crest.wire.deflate: RFC 7692 section 7.2, by itself and in a frame reader.

Against the RFC's own examples, Python's zlib, and another implementation, `websockets`, as the peer.
"""

import itertools
import zlib
from collections.abc import Callable

import pytest
from support.compressor import CHAT, KINDS, NOISE, TAIL, Compressor, agreement, compressed, fail, fragments, inflated
from support.deliveries import assert_reads, cut, make_reader
from support.reference import BINARY, CLOSE, CONTINUATION, FAIL, PING, RSV1, TEXT, Event, frame
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from crest.wire.deflate import Codec, Deflater, Inflater
from crest.wire.frames import FrameReader, serialize

TOO_FAR = "invalid distance too far back"
FORGETFUL = "; does the client ignore client_no_context_takeover?"
"""What is said beside it where each message must stand for itself: the likely cause."""
INCOMPLETE = fail(1007, "a compressed message ends within a block")


# ---- What a client may send ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        pytest.param("f2 48 cd c9 c9 07 00", "Hello", id="section 7.2.3.1: one block"),
        pytest.param("00 05 00 fa ff 48 65 6c 6c 6f 00", "Hello", id="7.2.3.3: a block without compression"),
        pytest.param("f3 48 cd c9 c9 07 00 00", "Hello", id="7.2.3.4: a block with BFINAL set"),
        pytest.param("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", "Hello", id="7.2.3.5: two blocks"),
        pytest.param("00", "", id="7.2.3.6: an empty block"),
        pytest.param("02 00", "", id="an empty block with compression"),
        pytest.param("f3 48 cd c9 c9 07 00 f3 48 cd c9 c9 07 00 00", "HelloHello", id="BFINAL twice"),
        pytest.param("03 00 03 00 f2 48 cd c9 c9 07 00", "Hello", id="empty blocks with BFINAL set"),
        # What a sender should not leave out or in, and what is clear all the same.
        pytest.param("", "", id="nothing"),
        pytest.param("f3 48 cd c9 c9 07 00", "Hello", id="BFINAL and nothing behind it"),
        pytest.param("f2 48 cd c9 c9 07 00 00 00 ff ff", "Hello", id="with the tail"),
        pytest.param("00 05 00 fa ff 48 65 6c 6c 6f", "Hello", id="no empty block"),
    ],
)
@pytest.mark.parametrize("takeover", [False, True])
def test_payload(payload: str, text: str, takeover: bool) -> None:
    stream = frame(RSV1 | TEXT, bytes.fromhex(payload)) + frame(RSV1 | BINARY, bytes.fromhex(payload))
    assert_reads(stream * 2, [(TEXT, text), (BINARY, text.encode())] * 2, takeover=takeover)


def test_the_window_stays() -> None:
    """Section 7.2.3.2: "Hello" again, as a reference to the one before."""
    stream = frame(RSV1 | TEXT, bytes.fromhex("f2 48 cd c9 c9 07 00")) + frame(
        RSV1 | TEXT, bytes.fromhex("f2 00 11 00 00")
    )
    assert_reads(stream, [(TEXT, "Hello")] * 2, takeover=True)
    error = f"compressed data is not valid: {TOO_FAR}{FORGETFUL}"
    assert_reads(stream, [(TEXT, "Hello"), *fail(1007, error, 2)], takeover=False)


def test_the_window_stays_behind_bfinal() -> None:
    stream = frame(RSV1 | TEXT, bytes.fromhex("f3 48 cd c9 c9 07 00 f2 00 11 00 00"))
    for takeover in (False, True):
        assert_reads(stream, [(TEXT, "HelloHello")], takeover=takeover)


def test_fragments() -> None:
    payload = compressed("aé€😀".encode() * 3)
    for ends in ([0], [1], [len(payload)], [0, 0, 3, 3, 9], range(len(payload))):
        stream = fragments(TEXT, payload, *ends) + frame(PING, b"next")
        assert_reads(stream, [(TEXT, "aé€😀" * 3), (PING, b"next")], takeover=False)


def test_control_frames_between_fragments() -> None:
    payload = compressed(b"Hello")
    first, rest = fragments(BINARY, payload, 3)[:9], fragments(BINARY, payload, 3)[9:]
    stream = first + frame(PING, b"ping") + rest
    assert_reads(stream, [(PING, b"ping"), (BINARY, b"Hello")], takeover=True)


def test_messages_that_are_not_compressed() -> None:
    """In between, whole and fragmented: they leave the window alone (section 6)."""
    compress = Compressor()
    stream = b"".join(
        [
            frame(RSV1 | TEXT, compress(b"Hello, Hello")),
            frame(TEXT, b"plain"),
            frame(RSV1 | BINARY, compress(b"Hello, Hello, Hello")),
            frame(BINARY, b"pl", fin=False),
            frame(CONTINUATION, b"ain"),
            frame(TEXT, b"x" * 130),
            frame(RSV1 | TEXT, compress(b"Hello, Hello, Hello!")),
        ]
    )
    expected: list[Event] = [(TEXT, "Hello, Hello"), (TEXT, "plain"), (BINARY, b"Hello, Hello, Hello")]
    expected += [(BINARY, b"plain"), (TEXT, "x" * 130), (TEXT, "Hello, Hello, Hello!")]
    assert_reads(stream, expected, takeover=True)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_message_of_any_size(opcode: int, kind: str, level: int) -> None:
    if opcode == TEXT and kind == "noise":
        kind = "JSON"
    for size in (1, 2, 4095, 4096, 4097, 65535, 65537, 300_000):
        message = KINDS[kind](size)
        event: Event = (opcode, message.decode() if opcode == TEXT else message)
        payload = compressed(message, level=level)
        for stream in (frame(RSV1 | opcode, payload), fragments(opcode, payload, *range(0, len(payload), 1999))):
            for chunk_size in (len(stream), 1460, 16384, 16399, *([1] if len(stream) < 3000 else [])):
                for deliver in (FrameReader.feed, FrameReader.feed_direct):
                    reader = make_reader(takeover=False, max_message_size=size)
                    assert [event for chunk in cut(stream, chunk_size) for event in deliver(reader, chunk)] == [event]


@pytest.mark.parametrize("size", [4096, 16384, 65536, 1 << 17])
def test_message_that_fills_its_room(size: int) -> None:
    """When the room is full, whether there is more to come has to be asked; the answer must not change the question."""
    for kind in KINDS.values():
        payload = compressed(kind(size))
        for tail in (b"", TAIL):
            for limit in (size, 1 << 20):
                reader = make_reader(takeover=False, max_message_size=limit)
                assert reader.feed(frame(RSV1 | BINARY, payload + tail)) == [(BINARY, kind(size))]


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_BLOCK])
def test_flush_points_within_a_message(flush: int) -> None:
    stream = zlib.compressobj(wbits=-15)
    payload = b"".join(stream.compress(part.encode()) + stream.flush(flush) for part in CHAT)
    payload += stream.flush(zlib.Z_SYNC_FLUSH)[:-4]
    for chunk_size in (len(payload), 100, 1):
        reader = make_reader(takeover=False)
        events = [event for chunk in cut(frame(RSV1 | TEXT, payload), chunk_size) for event in reader.feed(chunk)]
        assert events == [(TEXT, "".join(CHAT))]


# ---- What a client may not send --------------------------------------------------------------------------------------


def test_rsv1_is_for_the_first_frame_of_a_message() -> None:
    misplaced = fail(1002, "RSV1 is set, but not on the first frame of a message", 2)
    begun = frame(RSV1 | TEXT, compressed(b"Hello"), fin=False)
    for opcode in (CONTINUATION, CLOSE, PING, 0xA, 0x3, 0xF):
        assert_reads(begun + frame(RSV1 | opcode, b""), misplaced, takeover=False)
        assert_reads(frame(PING, b"") + frame(RSV1 | opcode, b""), [(PING, b""), *misplaced], takeover=False)


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x30, 0x50, 0x60, 0x70])
def test_other_reserved_bits(bits: int) -> None:
    error = fail(1002, "a reserved bit is set, and no extension that defines it was negotiated")
    for opcode in (TEXT, BINARY, PING):
        assert_reads(frame(bits | opcode, b"\x00"), error, takeover=True)


def test_rsv1_was_not_negotiated() -> None:
    error = fail(1002, "a reserved bit is set, and no extension that defines it was negotiated")
    assert_reads(frame(RSV1 | TEXT, b"\x00"), error)


def test_a_new_message_within_another() -> None:
    error = fail(1002, "a new message, but the fragmented one before is not finished", 2)
    for first, second in itertools.product([TEXT, RSV1 | BINARY], repeat=2):
        if (first | second) & RSV1:
            assert_reads(frame(first, b"", fin=False) + frame(second, b"\x00"), error, takeover=False)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("06", "invalid block type"),
        ("00 05 00 fa fe 48", "invalid stored block lengths"),
        ("f2 00 11 00", "invalid distance too far back"),
        ("f2 48 cd c9 c9 07 00 00 00 ff 00", "invalid stored block lengths"),
        ("fc 00 00", "too many length or distance symbols"),
    ],
)
def test_invalid_data(payload: str, error: str) -> None:
    data = bytes.fromhex(payload)
    for takeover in (False, True):
        stream = frame(RSV1 | BINARY, data, fin=False) + frame(PING, b"")
        told = error + FORGETFUL * (error == TOO_FAR and not takeover)
        assert_reads(stream, fail(1007, f"compressed data is not valid: {told}"), takeover=takeover)


@pytest.mark.parametrize("kind", KINDS)
def test_message_that_ends_within_a_block(kind: str) -> None:
    """Wherever one block is cut, nothing is delivered. But the first byte of a stored one is an empty message."""
    payload = compressed(KINDS[kind](600))
    for size in range(2 if kind == "noise" else 1, len(payload) - 1):
        (event,) = make_reader(takeover=False).feed(frame(RSV1 | BINARY, payload[:size]))
        assert event[:2] == (FAIL, 1007), size
    assert_reads(frame(RSV1 | BINARY, bytes.fromhex("f2 48 cd")), INCOMPLETE, takeover=True)


@pytest.mark.parametrize("payload", ["9a 30 71 d2 64 00", "9a 30 71 d2 e4 29 00"])
def test_message_that_ends_within_the_header_of_a_block(payload: str) -> None:
    """A block ends two bits, or one, before the end of its byte: the next one's three first bits do not fit."""
    data = bytes.fromhex(payload)
    for takeover in (False, True):
        whole = bytes(range(0x90, 0x90 + len(data) - 2))
        assert_reads(frame(RSV1 | BINARY, data + b"\0"), [(BINARY, whole)], takeover=takeover)
        assert_reads(frame(RSV1 | BINARY, data), INCOMPLETE, takeover=takeover)


@pytest.mark.parametrize("ascii_before", [0, 1, 3000, 50_000])
def test_text_fails_where_it_stops_being_utf8(ascii_before: int) -> None:
    """As soon as the bytes are there, not at the message's end."""
    compress = zlib.compressobj(wbits=-15)
    text = "x" * ascii_before + "é" * 2000
    error = fail(1007, f"a text message is not UTF-8 at byte {len(text.encode()) + 1}")
    bad = compress.compress(text.encode() + b"a\xed\xa0") + compress.flush(zlib.Z_SYNC_FLUSH)
    rest = compress.compress(b"x" * 100_000) + compress.flush(zlib.Z_SYNC_FLUSH)
    for chunk_size in (len(bad), 1, 7):
        reader = make_reader(takeover=False)
        stream = frame(RSV1 | TEXT, bad + rest)[: -len(rest)]
        assert [event for chunk in cut(stream, chunk_size) for event in reader.feed(chunk)] == error
    (event,) = make_reader(takeover=False).feed(frame(RSV1 | BINARY, bad[:-4]))
    assert event == (BINARY, text.encode() + b"a\xed\xa0")


def test_text_that_ends_within_a_character() -> None:
    stream = frame(RSV1 | TEXT, compressed("x€".encode()[:-1]))
    assert_reads(stream, fail(1007, "a text message is not UTF-8 at byte 1"), takeover=False)


@pytest.mark.parametrize("bits", range(9, 15))
def test_client_that_exceeds_its_window(bits: int) -> None:
    """It fails, or is understood: nothing else."""
    compress = Compressor(level=9)
    noise = NOISE[: 1 << 14]
    first, second = frame(RSV1 | BINARY, compress(noise)), frame(RSV1 | BINARY, compress(noise[:400]))
    promised, kept = FrameReader(inflater=Inflater(Codec(), bits, takeover=True)), make_reader(takeover=True)
    assert promised.feed(first) == kept.feed(first) == [(BINARY, noise)]
    assert kept.feed(second) == [(BINARY, noise[:400])]
    expected = fail(1007, "compressed data is not valid: invalid distance too far back", 2)
    assert promised.feed(second) == (expected if bits < 14 else [(BINARY, noise[:400])])


# ---- What a server sends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize(("bits", "level", "memory_level"), [*itertools.product((9, 12, 15), (1, 3, 9), (1, 5, 9))])
def test_deflater(bits: int, level: int, memory_level: int, takeover: bool) -> None:
    """Python's zlib reads what each makes, message after message."""
    deflater = Deflater(bits, level, memory_level, takeover=takeover)
    stream = zlib.decompressobj(-bits)
    for text in [*CHAT, "".join(CHAT) * 20, *CHAT[:5]]:
        payload = deflater.deflate(text.encode())
        assert payload is not None and len(payload) < len(text.encode())
        if not takeover:
            stream = zlib.decompressobj(-bits)
        assert stream.decompress(payload + TAIL) == text.encode()
        assert stream.unconsumed_tail == stream.unused_data == b""


def test_takeover_makes_messages_smaller() -> None:
    resetting, keeping = (Deflater(15, 6, 5, takeover=takeover) for takeover in (False, True))
    sizes = {each: [len(each.deflate(text.encode()) or text) for text in CHAT] for each in (resetting, keeping)}
    assert sizes[keeping][0] == sizes[resetting][0]
    assert sum(sizes[keeping]) < sum(sizes[resetting]) / 2
    assert sizes[resetting] == [len(resetting.deflate(text.encode()) or text) for text in CHAT]


@pytest.mark.parametrize("takeover", [False, True])
def test_empty_message(takeover: bool) -> None:
    """Section 7.2.3.6; zlib makes nothing of a second one."""
    deflater = Deflater(15, 3, 5, takeover=takeover)
    payloads = [deflater.deflate(data) for data in (b"", b"", b"Hello" * 9, b"", b"Hello" * 9)]
    assert payloads[0] == payloads[1] == payloads[3] == b"\x00"
    stream = zlib.decompressobj(-15)
    for payload, expected in zip(payloads, (b"", b"", b"Hello" * 9, b"", b"Hello" * 9), strict=True):
        assert payload is not None
        assert stream.decompress(payload + TAIL) == expected


@pytest.mark.parametrize("takeover", [False, True])
def test_what_would_not_be_shorter(takeover: bool) -> None:
    """None: it is to be sent as it is. What follows does not refer to it, for the peer's window will not have it."""
    deflater = Deflater(15, 6, 5, takeover=takeover)
    stream = zlib.decompressobj(-15)
    for data in (b"a", b"ab", NOISE[:100], NOISE, b"\xff" * 1000, NOISE[:5000], NOISE[100:200] * 3):
        payload = deflater.deflate(data)
        assert (payload is None) == (data in (b"a", b"ab") or data in NOISE)
        if payload is not None:
            assert len(payload) < len(data)
            if not takeover:
                stream = zlib.decompressobj(-15)
            assert stream.decompress(payload + TAIL) == data


def test_shortest_message_that_is_worth_it() -> None:
    """Exactly those are compressed that get shorter."""
    for size in range(1, 200):
        for data in (b"a" * size, (b"abcde" * size)[:size], NOISE[:3] * (size // 3)):
            best = compressed(data, level=3, memLevel=5)
            payload = Deflater(15, 3, 5, takeover=False).deflate(data)
            assert payload == (best if len(best) < len(data) or not data else None)


def test_message_that_is_compressed_without_the_gil() -> None:
    deflater = Deflater(15, 1, 9, takeover=False)
    for size in ((1 << 15) - 1, 1 << 15, (1 << 15) + 1, 1 << 20):
        message = KINDS["JSON"](size)
        assert inflated(deflater.deflate(message) or b"") == message


@pytest.mark.parametrize(
    ("bits", "level", "memory_level"), [(7, 3, 5), (16, 3, 5), (15, 10, 5), (15, 3, 0), (15, 3, 10)]
)
def test_what_zlib_refuses(bits: int, level: int, memory_level: int) -> None:
    with pytest.raises(ValueError, match="zlib refuses"):
        Deflater(bits, level, memory_level, takeover=False).deflate(b"Hello")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_be_any_bytes(kind: Callable[[bytes], bytes]) -> None:
    payload = Deflater(15, 3, 5, takeover=False).deflate(kind(b"Hello" * 9))
    assert payload is not None and inflated(payload) == b"Hello" * 9
    with pytest.raises(TypeError):
        Deflater(15, 3, 5, takeover=False).deflate("text")  # type: ignore[arg-type]


# ---- Another implementation as the peer ------------------------------------------------------------------------------

COMBINATIONS = [*itertools.product([False, True], [False, True], [9, 12, 15], [9, 12, 15])]


@pytest.mark.parametrize("parameters", COMBINATIONS)
def test_both_ways_with_websockets(parameters: tuple[bool, bool, int, int]) -> None:
    """Each combination of parameters, messages to and fro, all connections of one codec."""
    codec, agreed = Codec(level=6, memory_level=8), agreement(*parameters)
    peers = [PerMessageDeflate(*parameters) for _ in range(3)]
    readers = [FrameReader(inflater=codec.inflater(agreed)) for _ in peers]
    deflaters = [codec.deflater(agreed) for _ in peers]
    for text in [*CHAT, *CHAT, "", "x" * 70_000]:
        for peer, reader, deflater in zip(peers, readers, deflaters, strict=True):
            sent = peer.encode(Frame(Opcode.TEXT, text.encode()))
            assert reader.feed(frame(RSV1 | TEXT, bytes(sent.data))) == [(TEXT, text)]
            payload = deflater.deflate(text.encode())
            assert payload is not None
            received = serialize(RSV1 | TEXT, payload)
            assert received[0] == 0xC1
            got = peer.decode(Frame(Opcode.TEXT, payload, rsv1=True), max_size=100_000)
            assert bytes(got.data) == text.encode()


def test_fragments_of_websockets() -> None:
    peer = PerMessageDeflate(False, False, 15, 15)
    reader = make_reader(takeover=True)
    for _ in range(3):
        first = peer.encode(Frame(Opcode.TEXT, b"Hello, ", fin=False))
        second = peer.encode(Frame(Opcode.CONT, b"Hello", fin=False))
        third = peer.encode(Frame(Opcode.CONT, b"!"))
        stream = frame(RSV1 | TEXT, bytes(first.data), fin=False) + frame(CONTINUATION, bytes(second.data), fin=False)
        assert reader.feed(stream + frame(CONTINUATION, bytes(third.data))) == [(TEXT, "Hello, Hello!")]

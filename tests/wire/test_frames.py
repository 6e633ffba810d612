"""crest.wire.frames against byte literals: RFC 6455 sections 5, 7.1.7, 7.4 and 8.1, as a server reads and writes them.

A vector is hexadecimal, and most have a masking key of zeros so that their payload can be read. `assert_reads` takes
each through every cut of its bytes. Large messages are test_frames_memory.py's, compressed ones test_deflate.py's.
"""

import pytest
from support.deliveries import assert_reads, cut
from support.reference import BINARY, CLOSE, CONTINUATION, FAIL, PING, PONG, TEXT, Event, fragmented, frame

from crest.wire.frames import FrameReader, serialize

# ---- What a client may send (sections 5.4 to 5.7) --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param("81 85 37fa213d 7f9f4d5158", [(TEXT, "Hello")], id="text: the example of section 5.7"),
        pytest.param("82 85 37fa213d 7f9f4d5158", [(BINARY, b"Hello")], id="binary"),
        pytest.param("81 80 37fa213d", [(TEXT, "")], id="empty text"),
        pytest.param("82 80 37fa213d", [(BINARY, b"")], id="empty binary"),
        pytest.param("81 81 37fa213d 7f", [(TEXT, "H")], id="one byte of text"),
        pytest.param("82 81 37fa213d c8", [(BINARY, b"\xff")], id="one byte"),
        pytest.param("81 82 37fa213d f453", [(TEXT, "é")], id="two bytes of text, one character"),
        pytest.param("81 84 37fa213d c765b9bd", [(TEXT, "😀")], id="four bytes of text, one character"),
        pytest.param("81 84 00000000 f48fbfbf", [(TEXT, "\U0010ffff")], id="the last character"),
        pytest.param("81 83 00000000 ed9fbf", [(TEXT, "\ud7ff")], id="the last character before the surrogates"),
        pytest.param("81 81 00000000 00", [(TEXT, "\0")], id="text: a zero byte"),
        pytest.param("82 83 00000000 c328ff", [(BINARY, b"\xc3(\xff")], id="binary need not be UTF-8"),
        pytest.param("01 83 37fa213d 7f9f4d 80 82 37fa213d 5b95", [(TEXT, "Hello")], id="fragmented text"),
        pytest.param("02 83 37fa213d 7f9f4d 80 82 01020304 6d6d", [(BINARY, b"Hello")], id="fragmented binary"),
        pytest.param("01 80 00000000 00 80 00000000 80 80 00000000", [(TEXT, "")], id="nothing but empty fragments"),
        pytest.param("02 80 00000000 80 80 00000000", [(BINARY, b"")], id="empty binary fragments"),
        pytest.param("01 80 00000000 80 81 00000000 61", [(TEXT, "a")], id="an empty first fragment"),
        pytest.param("02 81 00000000 61 80 80 00000000", [(BINARY, b"a")], id="an empty last fragment"),
        pytest.param(
            "01 81 00000000 e2 00 80 00000000 00 81 00000000 82 80 82 00000000 ac21",
            [(TEXT, "€!")],
            id="a character over three fragments and an empty one",
        ),
        pytest.param("89 85 37fa213d 7f9f4d5158", [(PING, b"Hello")], id="ping: the example of section 5.7"),
        pytest.param("8a 85 37fa213d 7f9f4d5158", [(PONG, b"Hello")], id="pong"),
        pytest.param("89 80 37fa213d 8a 80 37fa213d", [(PING, b""), (PONG, b"")], id="empty ping and pong"),
        pytest.param("89 82 00000000 ff80", [(PING, b"\xff\x80")], id="ping need not be UTF-8"),
        pytest.param(
            "01 82 37fa213d 7f9f 89 82 01020304 716b 00 81 37fa213d 5b 8a 80 00000000 80 82 37fa213d 5b95",
            [(PING, b"pi"), (PONG, b""), (TEXT, "Hello")],
            id="control frames between fragments",
        ),
        pytest.param(
            "01 81 00000000 c3 89 81 00000000 ff 80 81 00000000 a9",
            [(PING, b"\xff"), (TEXT, "é")],
            id="a ping in the middle of a character",
        ),
        pytest.param(
            "81 81 00000000 61 82 81 01020304 63 01 81 00000000 63 80 81 01020304 65 81 80 00000000 82 81 00000000 65",
            [(TEXT, "a"), (BINARY, b"b"), (TEXT, "cd"), (TEXT, ""), (BINARY, b"e")],
            id="one message after another",
        ),
        pytest.param("01 81 00000000 61 88 80 00000000", [(CLOSE, 1005, "")], id="close before the last fragment"),
        pytest.param("88 80 37fa213d", [(CLOSE, 1005, "")], id="close without a code"),
        pytest.param("88 82 37fa213d 3412", [(CLOSE, 1000, "")], id="close without a reason"),
        pytest.param("88 85 37fa213d 34124344 52", [(CLOSE, 1000, "bye")], id="close with a reason"),
        pytest.param("88 86 00000000 03e9 e282ac21", [(CLOSE, 1001, "€!")], id="close with a reason that is not ASCII"),
        pytest.param(
            "88 82 00000000 03e8 81 81 00000000 61 88 80 00000000 c1 ffff", [(CLOSE, 1000, "")], id="data after close"
        ),
    ],
)
def test_valid(stream: str, expected: list[Event]) -> None:
    assert_reads(stream, expected)


@pytest.mark.parametrize(
    "text", ["Grüße! " * 9, "a" * 66 + "ÿ", "слово, " * 6, "言葉、a" * 7, "x" * 60 + "€", "😀ß" * 9]
)
def test_text_of_each_kind(text: str) -> None:
    """Whole, and in fragments that cut characters. A `str` of a wider kind than it needs would not be equal."""
    data = text.encode()
    for size in (len(data), 64, 7):
        assert_reads(fragmented(TEXT, cut(data, size)), [(TEXT, text)])


@pytest.mark.parametrize("size", [125, 126, 127, 254, 255, 256, 257])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_lengths_of_one_and_of_three_bytes(opcode: int, size: int) -> None:
    payload = bytes(65 + i % 26 for i in range(size))
    assert_reads(frame(opcode, payload), [(opcode, payload.decode() if opcode == TEXT else payload)])


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_control_frame_of_125_bytes(opcode: int) -> None:
    payload = bytes(range(125, 250))
    assert_reads(frame(opcode, payload), [(opcode, payload)])


def test_close_frame_of_125_bytes() -> None:
    assert_reads(frame(CLOSE, b"\x0f\xa0" + "é".encode() * 61 + b"!"), [(CLOSE, 4000, "é" * 61 + "!")])


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_code(code: int) -> None:
    assert_reads(f"88 83 00000000 {code:04x} 61", [(CLOSE, code, "a")])


def test_close_code_of_each_value() -> None:
    allowed = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    for code in range(1 << 16):
        expected = (CLOSE, code, "") if code in allowed else (FAIL, 1002, f"frame 1: close code {code} may not be sent")
        assert FrameReader().feed(frame(CLOSE, code.to_bytes(2, "big"))) == [expected]


# ---- What it may not -------------------------------------------------------------------------------------------------

RESERVED = "a reserved bit is set, and no extension that defines it was negotiated"
UNMASKED = "not masked, as every frame from a client must be"
LONG_CONTROL = "the payload of a control frame is over 125 bytes"
CONTROL_FRAGMENT = "a control frame must not be fragmented"
NO_MESSAGE = "a continuation frame, but no message has begun"
INTERRUPTED = "a new message, but the fragmented one before is not finished"


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        # Section 5.2: RSV1, RSV2, RSV3.
        ("c1 80 00000000", f"frame 1: {RESERVED}"),
        ("a1 80 00000000", f"frame 1: {RESERVED}"),
        ("91 80 00000000", f"frame 1: {RESERVED}"),
        ("f2 80 00000000", f"frame 1: {RESERVED}"),
        ("c9 80 00000000", f"frame 1: {RESERVED}"),
        ("a8 80 00000000", f"frame 1: {RESERVED}"),
        ("01 80 00000000 c0 80 00000000", f"frame 2: {RESERVED}"),
        ("01 80 00000000 90 80 00000000", f"frame 2: {RESERVED}"),
        # Section 5.2: opcodes.
        *((f"8{opcode:x} 80 00000000", f"frame 1: opcode 0x{opcode:x} is reserved") for opcode in range(0x3, 0x8)),
        *((f"8{opcode:x} 80 00000000", f"frame 1: opcode 0x{opcode:x} is reserved") for opcode in range(0xB, 0x10)),
        ("03 80 00000000", "frame 1: opcode 0x3 is reserved"),
        ("0b 80 00000000", "frame 1: opcode 0xb is reserved"),
        ("01 80 00000000 83 80 00000000", "frame 2: opcode 0x3 is reserved"),
        # Section 5.4: fragmentation.
        ("08 80 00000000", f"frame 1: {CONTROL_FRAGMENT}"),
        ("09 80 00000000", f"frame 1: {CONTROL_FRAGMENT}"),
        ("0a 80 00000000", f"frame 1: {CONTROL_FRAGMENT}"),
        ("80 80 00000000", f"frame 1: {NO_MESSAGE}"),
        ("00 81 00000000 61", f"frame 1: {NO_MESSAGE}"),
        ("01 80 00000000 01 80 00000000", f"frame 2: {INTERRUPTED}"),
        ("01 81 00000000 61 81 81 00000000 61", f"frame 2: {INTERRUPTED}"),
        ("02 81 00000000 61 82 81 00000000 61", f"frame 2: {INTERRUPTED}"),
        ("01 81 00000000 61 00 80 00000000 82 81 00000000 61", f"frame 3: {INTERRUPTED}"),
        # Section 5.1: masking.
        ("81 00", f"frame 1: {UNMASKED}"),
        ("81 05 48656c6c6f", f"frame 1: {UNMASKED}"),
        ("82 7e 0100", f"frame 1: {UNMASKED}"),
        ("89 00", f"frame 1: {UNMASKED}"),
        ("88 02 03e8", f"frame 1: {UNMASKED}"),
        ("89 7e", f"frame 1: {UNMASKED}"),
        ("01 81 00000000 61 80 01 61", f"frame 2: {UNMASKED}"),
        # Section 5.5: control frames.
        ("88 fe 007e 00000000", f"frame 1: {LONG_CONTROL}"),
        ("89 fe 007e 00000000", f"frame 1: {LONG_CONTROL}"),
        ("8a fe 0001 00000000", f"frame 1: {LONG_CONTROL}"),
        ("89 ff 0000000000010000 00000000", f"frame 1: {LONG_CONTROL}"),
        # Section 5.2: the shortest encoding, and the most significant bit.
        ("82 fe 0000 00000000", "frame 1: length 0 is not in its shortest encoding"),
        ("81 fe 0001 00000000 61", "frame 1: length 1 is not in its shortest encoding"),
        ("82 fe 007d 00000000", "frame 1: length 125 is not in its shortest encoding"),
        ("82 ff 0000000000000000 00000000", "frame 1: length 0 is not in its shortest encoding"),
        ("82 ff 000000000000007e 00000000", "frame 1: length 126 is not in its shortest encoding"),
        ("82 ff 000000000000ffff 00000000", "frame 1: length 65535 is not in its shortest encoding"),
        ("01 80 00000000 80 fe 007d 00000000", "frame 2: length 125 is not in its shortest encoding"),
        ("82 ff 8000000000000000 00000000", f"frame 1: length {2**63} has its most significant bit set"),
        ("82 ff ffffffffffffffff 00000000", f"frame 1: length {2**64 - 1} has its most significant bit set"),
        ("82 ff 8000000000000001 00000000", f"frame 1: length {2**63 + 1} has its most significant bit set"),
        # Sections 5.5.1 and 7.4: close frames.
        ("88 81 37fa213d 34", "frame 1: a close frame with a payload of one byte"),
        ("01 80 00000000 88 81 00000000 03", "frame 2: a close frame with a payload of one byte"),
        *(
            (f"88 82 00000000 {code:04x}", f"frame 1: close code {code} may not be sent")
            for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ),
        ("88 84 00000000 03ec c328", "frame 1: close code 1004 may not be sent"),
    ],
)
def test_protocol_error(stream: str, error: str) -> None:
    assert_reads(stream, [(FAIL, 1002, error)])
    assert_reads(stream + "81 81 00000000 61 88 80 00000000", [(FAIL, 1002, error)])
    assert_reads(stream, [(FAIL, 1002, error)], max_message_size=2**64 - 1, max_fragments=2**32 - 1)


def test_protocol_error_after_messages() -> None:
    message, ping = "81 81 00000000 61", "89 80 00000000"
    before: list[Event] = [(TEXT, "a"), (PING, b"")]
    assert_reads(message + ping + "c1", [*before, (FAIL, 1002, f"frame 3: {RESERVED}")])
    assert_reads(message + ping + "80 80", [*before, (FAIL, 1002, f"frame 3: {NO_MESSAGE}")])
    assert_reads("01 80 00000000 80 80 00000000 00", [(TEXT, ""), (FAIL, 1002, f"frame 3: {NO_MESSAGE}")])


# Bytes, and where the sequence starts that is not UTF-8 (RFC 3629 section 4).
NOT_UTF8 = [
    ("80", 0),
    ("61 bf", 1),
    ("c0 80", 0),
    ("c1 bf", 0),
    ("c3 28", 0),
    ("c3a9 e2 28 a1", 2),
    ("e2 82 28", 0),
    ("e0 9f bf", 0),
    ("ed a0 80", 0),
    ("e282ac ed bf bf", 3),
    ("f0 28", 0),
    ("f0 9f 28", 0),
    ("f0 9f 98 28", 0),
    ("f0 8f bf bf", 0),
    ("f4 90 80 80", 0),
    ("f09f9880 f5 80 80 80", 4),
    ("ff", 0),
    ("61 62 63 fe", 3),
]
UNFINISHED_UTF8 = [("c3", 0), ("61 e2", 1), ("e2 82", 0), ("c3a9 f0 9f", 2), ("f0 9f 98", 0)]


@pytest.mark.parametrize(("payload", "start"), NOT_UTF8 + UNFINISHED_UTF8)
def test_text_that_is_not_utf8(payload: str, start: int) -> None:
    data = bytes.fromhex(payload)
    for stream in (frame(TEXT, data), frame(TEXT, data) + frame(TEXT, b"")):
        assert_reads(stream, [(FAIL, 1007, f"frame 1: a text message is not UTF-8 at byte {start}")])
    # Past the width of a vector, behind ASCII and behind what is not.
    for before in ("a" * 70, "é" * 35):
        stream = frame(PING, b"") + frame(TEXT, before.encode() + data)
        error = f"frame 2: a text message is not UTF-8 at byte {70 + start}"
        assert_reads(stream, [(PING, b""), (FAIL, 1007, error)])


@pytest.mark.parametrize(("payload", "start"), NOT_UTF8)
def test_text_fails_before_the_rest_has_come(payload: str, start: int) -> None:
    """Section 8.1, in the middle of a frame, and of a message that is not the last frame's."""
    data = bytes.fromhex(payload)
    expected: list[Event] = [(FAIL, 1007, f"frame 1: a text message is not UTF-8 at byte {start}")]
    assert_reads(bytes.fromhex("81 fe 1000 00000000") + data, expected)
    assert_reads(frame(TEXT, data, fin=False), expected)
    assert_reads(frame(TEXT, data + b"abc", fin=False), expected)
    assert_reads(
        frame(TEXT, b"ab", fin=False) + frame(PING, b"p") + frame(CONTINUATION, data, fin=False),
        [(PING, b"p"), (FAIL, 1007, f"frame 3: a text message is not UTF-8 at byte {2 + start}")],
    )


@pytest.mark.parametrize(("payload", "start"), UNFINISHED_UTF8)
def test_text_that_ends_within_a_character(payload: str, start: int) -> None:
    stream = frame(TEXT, bytes.fromhex(payload), fin=False)
    assert_reads(stream, [])
    error = f"a text message is not UTF-8 at byte {start}"
    assert_reads(stream + frame(CONTINUATION, b""), [(FAIL, 1007, f"frame 2: {error}")])
    assert_reads(stream + frame(CONTINUATION, b"("), [(FAIL, 1007, f"frame 2: {error}")])
    assert_reads(stream + frame(CONTINUATION, b"", fin=False), [])
    # The next message owes nothing to this one.
    binary = bytes.fromhex(payload)
    assert_reads(frame(BINARY, binary) + frame(TEXT, b"a"), [(BINARY, binary), (TEXT, "a")])


@pytest.mark.parametrize(("payload", "start"), NOT_UTF8 + UNFINISHED_UTF8)
def test_close_reason_that_is_not_utf8(payload: str, start: int) -> None:
    stream = frame(CLOSE, b"\x03\xe8" + bytes.fromhex(payload))
    assert_reads(stream, [(FAIL, 1007, f"frame 1: a close reason is not UTF-8 at byte {start}")])


@pytest.mark.parametrize(
    "header", ["c1", "83", "08", "80", "81 00", "89 fe", "82 fe 007d", "82 ff 8000000000000000", "82 fe ffff"]
)
def test_header_is_refused_before_the_rest_has_come(header: str) -> None:
    [event] = FrameReader(max_message_size=65534).feed(bytes.fromhex(header))
    assert event[0] == FAIL


# ---- Limits ----------------------------------------------------------------------------------------------------------


def too_big(number: int, size: int, limit: int) -> Event:
    return FAIL, 1009, f"frame {number}: a message of {size} bytes or more is over max_message_size, {limit}"


def too_many(number: int, limit: int) -> Event:
    return FAIL, 1008, f"frame {number}: a message in more frames than max_fragments, {limit}"


@pytest.mark.parametrize(
    ("limit", "parts"),
    [(1, [1]), (1, [0, 1]), (1, [1, 0]), (5, [5]), (5, [2, 3]), (5, [0, 0, 4, 1]), (126, [126]), (130, [127, 3])],
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_max_message_size(opcode: int, limit: int, parts: list[int]) -> None:
    payloads = [b"x" * size for size in parts]
    message = b"".join(payloads)
    whole: Event = (opcode, message.decode() if opcode == TEXT else message)
    # Twice: the limit is for each message, not for all.
    assert_reads(fragmented(opcode, payloads) * 2, [whole] * 2, max_message_size=limit)
    over = fragmented(opcode, [*payloads[:-1], payloads[-1] + b"x"])
    assert_reads(over, [too_big(len(parts), limit + 1, limit)], max_message_size=limit)
    over = fragmented(opcode, [*payloads, b"x"])
    assert_reads(over, [too_big(len(parts) + 1, limit + 1, limit)], max_message_size=limit)


def test_max_message_size_bounds_what_is_announced() -> None:
    """Refused by the header alone, before a byte of the payload."""
    assert_reads("82 ff 0000000000100001", [too_big(1, 2**20 + 1, 2**20)])
    assert_reads("82 ff 7fffffffffffffff", [too_big(1, 2**63 - 1, 2**20)])
    assert_reads("82 ff 7fffffffffffffff 00000000 61", [], max_message_size=2**63 - 1)
    assert_reads("82 ff 7fffffffffffffff 00000000 61", [], max_message_size=2**64 - 1)
    assert_reads("81 ff 7fffffffffffffff", [too_big(1, 2**63 - 1, 2**63 - 2)], max_message_size=2**63 - 2)
    sum_over = "02 81 00000000 61 80 ff 7fffffffffffffff"
    assert_reads(sum_over, [too_big(2, 2**63, 2**63 - 1)], max_message_size=2**63 - 1)


def test_max_message_size_is_not_for_control_frames() -> None:
    stream = frame(TEXT, b"a", fin=False) + frame(PING, b"p" * 125) + frame(CONTINUATION, b"")
    assert_reads(stream, [(PING, b"p" * 125), (TEXT, "a")], max_message_size=1)


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
@pytest.mark.parametrize("payload", [b"", b"a"])
def test_max_fragments(limit: int, payload: bytes) -> None:
    message = fragmented(TEXT, [payload] * limit)
    whole: Event = (TEXT, payload.decode() * limit)
    assert_reads(message * 2, [whole] * 2, max_fragments=limit)
    error = too_many(limit + 1, limit)
    assert_reads(fragmented(TEXT, [payload] * (limit + 1)), [error], max_fragments=limit)
    assert_reads(fragmented(BINARY, [payload] * (limit + 3)), [error], max_fragments=limit)


def test_max_fragments_is_not_for_control_frames() -> None:
    stream = (frame(PING, b"") + frame(TEXT, b"a", fin=False) + frame(PING, b"")) + frame(PONG, b"") * 3
    expected: list[Event] = [(PING, b"")] * 2 + [(PONG, b"")] * 3
    assert_reads(stream + frame(CONTINUATION, b"b"), [*expected, (TEXT, "ab")], max_fragments=2)


def test_default_limits() -> None:
    reader = FrameReader()
    assert (reader.max_message_size, reader.max_fragments) == (1 << 20, 1 << 17)
    assert reader.feed(frame(BINARY, bytes(1 << 20))) == [(BINARY, bytes(1 << 20))]
    begun = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"", fin=False) * ((1 << 17) - 2)
    assert reader.feed(begun + frame(CONTINUATION, b"b")) == [(TEXT, "ab")]
    over = begun + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"b")
    assert FrameReader().feed(over) == [too_many((1 << 17) + 1, 1 << 17)]


@pytest.mark.parametrize("limits", [{"max_message_size": -1}, {"max_message_size": 2**64}, {"max_fragments": 2**32}])
def test_limits_out_of_range(limits: dict[str, int]) -> None:
    with pytest.raises(OverflowError):
        FrameReader(**limits)


# ---- What a server sends (section 5.2) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opcode", "size", "header"),
    [
        (TEXT, 0, "81 00"),
        (BINARY, 1, "82 01"),
        (TEXT, 125, "81 7d"),
        (TEXT, 126, "81 7e 007e"),
        (BINARY, 127, "82 7e 007f"),
        (BINARY, 256, "82 7e 0100"),
        (BINARY, 0xABCD, "82 7e abcd"),
        (BINARY, 0xFFFF, "82 7e ffff"),
        (BINARY, 0x10000, "82 7f 0000000000010000"),
        (TEXT, 0x1234567, "81 7f 0000000001234567"),
        (PING, 125, "89 7d"),
        (PONG, 0, "8a 00"),
        (CLOSE, 2, "88 02"),
    ],
)
def test_serialize(opcode: int, size: int, header: str) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    assert serialize(opcode, payload) == bytes.fromhex(header) + payload


def test_serialize_examples_of_section_5_7() -> None:
    assert serialize(TEXT, b"Hello") == bytes.fromhex("8105 48656c6c6f")
    assert serialize(PING, bytearray(b"Hello")) == bytes.fromhex("8905 48656c6c6f")
    assert serialize(BINARY, memoryview(bytes(256))) == bytes.fromhex("827e0100") + bytes(256)
    assert serialize(BINARY, memoryview(bytes(65536))) == bytes.fromhex("827f0000000000010000") + bytes(65536)

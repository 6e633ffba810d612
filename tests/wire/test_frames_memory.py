"""crest.wire.frames and the assembler in it: large messages, whose memory a chunk is, and what a reader holds. The RFC
is test_frames.py's.

tracemalloc sees every `str` and `bytes`, a reader's body too.
"""

import random
import sys
import tracemalloc
from collections.abc import Callable, Iterable

import pytest
from support.deliveries import cut
from support.reference import BINARY, CLOSE, CONTINUATION, FAIL, PING, TEXT, Event, fragmented, frame

from crest.wire.frames import FrameReader

Delivery = Callable[[FrameReader, bytes | bytearray], list[Event]]
DELIVERIES: dict[str, Delivery] = {
    "feed": FrameReader.feed,
    "feed_direct": FrameReader.feed_direct,
    "feed_direct, 4096 or more": lambda reader, chunk: reader.feed_direct(chunk, 4096),
}
UNPROVEN_ROOM = 1 << 20
# Objects that are not payload: a list and the tuples in it.
SLACK = 4096
# Bytes of a client's header with the longest length.
HEADER = 14

FILL = random.Random(6455).randbytes(1 << 16)
# Characters of one, two, three and four bytes: ten in all, so that a power of two cuts one.
MIXED = "aé€😀".encode()
PAYLOADS: dict[str, Callable[[int], bytes]] = {
    "binary": lambda size: (FILL * (size // len(FILL) + 1))[:size],
    "ASCII": lambda size: bytes(byte & 0x7F for byte in FILL) * (size // len(FILL)) + b"x" * (size % len(FILL)),
    "not ASCII": lambda size: b"x" * (size % len(MIXED)) + MIXED * (size // len(MIXED)),
    "not ASCII at the end": lambda size: b"x" * (size - 2) + "é".encode() if size > 1 else b"x" * size,
}


@pytest.fixture(params=DELIVERIES)
def deliver(request: pytest.FixtureRequest) -> Delivery:
    return DELIVERIES[request.param]


def read(deliver: Delivery, reader: FrameReader, chunks: Iterable[bytes]) -> list[Event]:
    return [event for chunk in chunks for event in deliver(reader, chunk)]


def message(kind: str, size: int) -> tuple[int, bytes, str | bytes]:
    """A message's opcode, its payload and what the handler is to get."""
    payload = PAYLOADS[kind](size)
    return (BINARY, payload, payload) if kind == "binary" else (TEXT, payload, payload.decode())


# ---- Large messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 2_500_001])
@pytest.mark.parametrize("kind", PAYLOADS)
def test_message_of_any_size(kind: str, size: int, deliver: Delivery) -> None:
    opcode, payload, expected = message(kind, size)
    # The frame after it shows that nothing of this one was left.
    stream = frame(opcode, payload) + frame(PING, b"next")
    for chunk_size in (len(stream), 1460, 4096, 65536, (1 << 20) + 7, *([1, 3] if size <= 65 else [])):
        reader = FrameReader(max_message_size=size)
        events = read(deliver, reader, cut(stream, chunk_size))
        assert events == [(opcode, expected), (PING, b"next")], chunk_size
        # Room that was not needed is given back.
        assert sys.getsizeof(events[0][1]) <= sys.getsizeof(expected), chunk_size


@pytest.mark.parametrize("sizes", [[1] * 3000, [1000] * 700, [0, 1 << 20, 0, 5], [5, 300_000, 1, 900_000], range(400)])
@pytest.mark.parametrize("kind", PAYLOADS)
def test_fragmented_message_grows(kind: str, sizes: list[int], deliver: Delivery) -> None:
    opcode, payload, expected = message(kind, sum(sizes))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    stream = fragmented(opcode, [payload[end - size : end] for end, size in zip(ends, sizes, strict=True)])
    for chunk_size in (len(stream), 1460, 65536):
        reader = FrameReader(max_message_size=len(payload))
        events = read(deliver, reader, cut(stream * 2, chunk_size))
        assert events == [(opcode, expected)] * 2, chunk_size
        assert sys.getsizeof(events[0][1]) <= sys.getsizeof(expected), chunk_size


def test_character_cut_by_a_chunk(deliver: Delivery) -> None:
    text = "aé€😀" * 600
    for chunk_size in range(1, 40):
        assert read(deliver, FrameReader(), cut(frame(TEXT, text.encode()), chunk_size)) == [(TEXT, text)], chunk_size


@pytest.mark.parametrize("place", [0, 1, 70_000, 150_000, 199_999])
def test_large_text_fails_where_it_stops_being_utf8(place: int, deliver: Delivery) -> None:
    for before in (b"x" * place, ("é" * (place // 2) + "x" * (place % 2)).encode()):
        stream = frame(TEXT, before + b"\xff" + b"x" * (200_000 - place))
        error = (FAIL, 1007, f"frame 1: a text message is not UTF-8 at byte {place}")
        for chunk_size in (len(stream), 1460, 65536):
            reader = FrameReader()
            chunks = cut(stream, chunk_size)
            bad = (HEADER + place) // chunk_size
            assert read(deliver, reader, chunks[:bad]) == [], chunk_size
            assert deliver(reader, chunks[bad]) == [error], chunk_size
            assert read(deliver, reader, chunks[bad + 1 :]) == [], chunk_size


# ---- Chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_chunk_may_be_any_bytes(kind: Callable[[bytes], bytes]) -> None:
    assert FrameReader().feed(kind(frame(TEXT, b"Hello"))) == [(TEXT, "Hello")]


@pytest.mark.parametrize("deliver", DELIVERIES.values(), ids=DELIVERIES)
def test_chunk_is_left_as_it_is_and_not_kept(deliver: Callable[[FrameReader, bytes], list[Event]]) -> None:
    """Its memory is the caller's: one buffer serves many connections."""
    stream = frame(BINARY, b"Hello") + frame(PING, b"ping") + frame(TEXT, b"World!")
    for size in range(1, len(stream) + 1):
        reader, buffer, events = FrameReader(), bytearray(size), []
        for chunk in cut(stream, size):
            buffer[:] = chunk
            events += deliver(reader, buffer)
            assert buffer == chunk
            buffer[:] = b"\xff" * len(buffer)
        assert events == [(BINARY, b"Hello"), (PING, b"ping"), (TEXT, "World!")]


def test_chunk_must_be_bytes() -> None:
    for chunk in ("text", None, 5, [129, 128]):
        with pytest.raises(TypeError):
            FrameReader().feed(chunk)
    with pytest.raises(BufferError, match="contiguous"):
        FrameReader().feed(memoryview(bytes(8))[::2])


# ---- Memory ----------------------------------------------------------------------------------------------------------


def traced(deliver: Delivery, reader: FrameReader, chunks: list[bytes]) -> tuple[int, int]:
    """Bytes allocated since, after the chunks were read and their events dropped; and the most that there were."""
    tracemalloc.start()
    try:
        for chunk in chunks:
            deliver(reader, chunk)
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def held_after(deliver: Delivery, chunks: list[bytes]) -> tuple[int, int]:
    """The same of the best of three readers: other threads of the process allocate as well."""
    tries = [traced(deliver, FrameReader(), chunks) for _ in range(3)]
    return min(held for held, _ in tries), max(peak for _, peak in tries)


@pytest.mark.parametrize("header", ["81 ff", "01 ff", "82 ff", "02 ff"])
@pytest.mark.parametrize("arrived", [0, 1, 1000])
def test_announced_length_is_not_believed(header: str, arrived: int, deliver: Delivery) -> None:
    announcement = bytes.fromhex(f"{header} 0000010000000000 00000000")
    reader = FrameReader(max_message_size=1 << 62)
    held, peak = traced(deliver, reader, [announcement, *[b"x"] * arrived])
    assert peak < UNPROVEN_ROOM + SLACK
    # A message that has begun is held until the reader goes: this measurement does see a body.
    assert held > UNPROVEN_ROOM // 2 or arrived == 0


@pytest.mark.parametrize(("arrived", "room"), [(1 << 20, 1 << 20), (17 << 16, 2 << 20), (33 << 16, 4 << 20)])
@pytest.mark.parametrize("header", ["81 ff", "02 ff"])
def test_room_doubles_as_bytes_arrive(header: str, arrived: int, room: int, deliver: Delivery) -> None:
    """Growing by less would copy a message again and again, growing by more would trust the announcement."""
    announcement = bytes.fromhex(f"{header} 0000010000000000 00000000")
    reader = FrameReader(max_message_size=1 << 62)
    _, peak = traced(deliver, reader, [announcement, *cut(bytes(arrived), 1 << 16)])
    assert room <= peak <= room + SLACK


def test_room_of_a_fragmented_message_is_within_the_limit(deliver: Delivery) -> None:
    limit = 100_000
    part = frame(CONTINUATION, b"x" * 1000, fin=False)
    chunks = cut(frame(BINARY, b"", fin=False) + part * 100, 1460)
    _, peak = traced(deliver, FrameReader(max_message_size=limit), chunks)
    assert limit <= peak <= limit + SLACK


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("parts", [1, 7])
def test_reader_between_messages_holds_nothing(kind: str, parts: int, deliver: Delivery) -> None:
    opcode, payload, _ = message(kind, 1 << 16)
    stream = fragmented(opcode, cut(payload, len(payload) // parts + 1)) + frame(PING, b"p" * 125)
    for chunk_size in (len(stream), 1460, 65530):
        held, peak = held_after(deliver, cut(stream, chunk_size) * 3)
        assert peak > len(payload)
        assert held < 512, chunk_size


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize(
    "violation",
    [b"\xc1", b"\x80\x00", frame(CONTINUATION, bytes(1 << 20)), frame(CLOSE, b"\x03")],
)
def test_failed_reader_holds_nothing(kind: str, violation: bytes, deliver: Delivery) -> None:
    opcode, payload, _ = message(kind, 1 << 16)
    chunks = [*cut(frame(opcode, payload, fin=False), 1460), violation, frame(CLOSE, b"\x03")]
    held, peak = held_after(deliver, chunks)
    assert peak > len(payload)
    assert held < 512


def test_unfinished_message_goes_with_its_reader() -> None:
    tracemalloc.start()
    try:
        for opcode in (TEXT, BINARY):
            reader = FrameReader()
            reader.feed(frame(opcode, b"x" * (1 << 16), fin=False))
            assert tracemalloc.get_traced_memory()[0] > 1 << 16
            del reader
            assert tracemalloc.get_traced_memory()[0] < SLACK
    finally:
        tracemalloc.stop()

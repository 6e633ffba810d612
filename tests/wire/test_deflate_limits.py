"""crest.wire.deflate: limits count what is inflated, and what a client sends for it."""

import tracemalloc
import zlib

import pytest
from support.compressor import KINDS, NOISE, TAIL, compressed, fail, fragments
from support.deliveries import assert_reads, cut, make_reader
from support.reference import BINARY, CONTINUATION, FAIL, RSV1, TEXT, frame


@pytest.mark.parametrize("limit", [0, 1, 100, 4095, 4096, 4097, 100_000])
@pytest.mark.parametrize("kind", KINDS)
def test_limit_is_on_what_is_inflated(kind: str, limit: int) -> None:
    inflated = fail(1009, f"a message of {limit + 1} bytes or more is over max_message_size, {limit}")
    for over in (0, 1, 5000):
        message = KINDS[kind](limit + over)
        # Stored, what is compressed is longer than the message.
        for payload in (compressed(message, level=0), compressed(message)):
            for stream in (frame(RSV1 | BINARY, payload), fragments(BINARY, payload, 0, 0, len(payload) // 2)):
                for chunk_size in (len(stream), 1000):
                    reader = make_reader(takeover=False, max_message_size=limit)
                    events = [event for chunk in cut(stream, chunk_size) for event in reader.feed(chunk)]
                    if not over:
                        assert events == [(BINARY, message)]
                    elif "compressed data of" in str(events[0][2]):  # it was announced, longer than it can be
                        assert events[0][:2] == (FAIL, 1009) and len(payload) > limit + limit // 8 + 64
                    else:
                        assert events[0][:2] == (FAIL, 1009)
                        assert str(events[0][2]).endswith(str(inflated[0][2]).removeprefix("frame 1"))


EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""A stored block of no bytes (RFC 1951 section 3.2.4)."""


def most_compressed(size: int, frames: int) -> int:
    """Bytes of compressed data that a message may have: nine bits for each byte, and a flush for each frame."""
    return size + size // 8 + size // 256 + 64 + 16 * frames


@pytest.mark.parametrize("limit", [0, 1, 1000, 1 << 20])
@pytest.mark.parametrize("takeover", [True, False])
def test_blocks_that_inflate_to_nothing_are_a_message_too_big(limit: int, takeover: bool) -> None:
    """In one frame it is refused when it is announced; in many, with the first frame that goes too far."""
    most = most_compressed(limit, 1)
    empty = (EMPTY_BLOCK * (most // 5 + 1))[: most // 5 * 5]
    reader = make_reader(takeover=takeover, max_message_size=limit)
    assert reader.feed(frame(RSV1 | BINARY, empty + EMPTY_BLOCK)[:14]) == fail(
        1009,
        f"compressed data of {len(empty) + 5} bytes or more is over what a message of max_message_size, {limit}, "
        "can need",
    )
    reader = make_reader(takeover=takeover, max_message_size=limit)
    assert reader.feed(frame(RSV1 | BINARY, empty)) == [(BINARY, b"")]
    first, *rest = cut(EMPTY_BLOCK * (limit + 64), 50)
    stream = frame(RSV1 | BINARY, first, fin=False)
    sent = 50
    for frames, part in enumerate(rest, 2):
        assert reader.feed(stream) == []
        sent += len(part)
        stream = frame(CONTINUATION, part, fin=False)
        if sent > most_compressed(limit, frames):
            break
    ((event, code, error),) = reader.feed(stream)
    assert (event, code) == (FAIL, 1009) and f"compressed data of {sent} bytes" in str(error)


@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY])
@pytest.mark.parametrize("memory_level", [1, 8])
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("size", [0, 1, 100, 1000, 100_000])
def test_whatever_a_client_makes_of_noise_is_short_enough(
    size: int, level: int, memory_level: int, strategy: int
) -> None:
    """Also when it flushes behind each frame, of one byte or of many. From 144 on a fixed code has nine bits a byte."""
    noise = bytes(144 + byte % 112 for byte in NOISE[:size])
    for part in (1, 7, 5000, 1 << 20):
        stream = zlib.compressobj(level=level, wbits=-15, memLevel=memory_level, strategy=strategy)
        parts = [stream.compress(each) + stream.flush(zlib.Z_SYNC_FLUSH) for each in cut(noise, part)[:3000]]
        message = noise[: part * 3000]
        frames = [
            frame(CONTINUATION if i else RSV1 | BINARY, each if i < len(parts) - 1 else each.removesuffix(TAIL),
                  fin=i == len(parts) - 1)
            for i, each in enumerate(parts)
        ]  # fmt: skip
        reader = make_reader(takeover=True, max_message_size=len(message))
        assert reader.feed(b"".join(frames)) == ([(BINARY, message)] if message else [])


@pytest.mark.parametrize("limit", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_largest_limits(limit: int) -> None:
    reader = make_reader(takeover=False, max_message_size=limit)
    assert reader.feed(frame(RSV1 | TEXT, compressed(b"Hello" * 5000))) == [(TEXT, "Hello" * 5000)]


def test_fragments_are_counted() -> None:
    stream = fragments(TEXT, compressed(b"Hello"), 0, 0, 0, 0)
    error = fail(1008, "a message in more frames than max_fragments, 4", 5)
    assert_reads(stream, error, takeover=False, max_fragments=4)
    assert_reads(stream, [(TEXT, "Hello")], takeover=False, max_fragments=5)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 GiB of zeros, and something behind it."""
    compress = zlib.compressobj(9, wbits=-15)
    parts = [compress.compress(bytes(1 << 24)) for _ in range(64)]
    return b"".join([*parts, compress.compress(b"end"), compress.flush(zlib.Z_SYNC_FLUSH)])[:-4]


@pytest.mark.parametrize("limit", [1 << 20, 1 << 22])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_bomb(bomb: bytes, opcode: int, limit: int) -> None:
    """A thousandfold: stopped a byte over the limit, with memory for no more than that."""
    stream = frame(RSV1 | opcode, bomb)
    error = fail(1009, f"a message of {limit + 1} bytes or more is over max_message_size, {limit}")
    for takeover in (False, True):
        for chunk_size in (len(stream), 16384, 1460):
            reader = make_reader(takeover=takeover, max_message_size=limit)
            tracemalloc.start()
            try:
                chunks = cut(stream, chunk_size)
                events = [event for chunk in chunks[:2000] for event in reader.feed(chunk)]
                peak = tracemalloc.get_traced_memory()[1] - sum(map(len, chunks))
            finally:
                tracemalloc.stop()
            assert events == error
            assert peak < limit + 100_000 + 50 * len(chunks)


def test_bomb_in_a_bomb(bomb: bytes) -> None:
    """Compressed twice, it is inflated once."""
    (event,) = make_reader(takeover=False).feed(frame(RSV1 | BINARY, compressed(bomb, level=9)))
    assert event == (BINARY, bomb)

"""crest.wire.deflate: which streams connections share, and the memory that they hold."""

import itertools
import threading
import tracemalloc
from collections.abc import Callable

import pytest
from support.compressor import NOISE, agreement, compressed
from support.reference import BINARY, CLOSE, CONTINUATION, FAIL, RSV1, TEXT, frame

from crest.wire.deflate import Codec, Deflater, Inflater
from crest.wire.frames import FrameReader


def test_deflaters_are_shared_unless_they_take_over() -> None:
    codec = Codec(level=1, memory_level=9)
    shared = codec.deflater(agreement(server_bits=12))
    assert (shared.window_bits, shared.level, shared.memory_level, shared.takeover) == (12, 1, 9, False)
    assert codec.deflater(agreement(client_resets=False, server_bits=12, client_bits=9)) is shared
    assert codec.deflater(agreement(server_bits=11)) is not shared
    own = codec.deflater(agreement(server_resets=False, server_bits=12))
    assert (own.window_bits, own.level, own.memory_level, own.takeover) == (12, 1, 9, True)
    assert codec.deflater(agreement(server_resets=False, server_bits=12)) is not own
    assert (codec.level, codec.memory_level) == (1, 9)


def test_inflaters() -> None:
    codec = Codec()
    for resets, bits in itertools.product([False, True], [8, 15]):
        inflater = codec.inflater(agreement(client_resets=resets, client_bits=bits))
        assert (inflater.window_bits, inflater.takeover) == (bits, not resets)


def held(action: Callable[[], object]) -> int:
    """Bytes that are still allocated after it, but for what it returns."""
    action()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_idle_connections_without_takeover_hold_no_stream() -> None:
    codec = Codec()
    readers = [FrameReader(inflater=codec.inflater(agreement())) for _ in range(100)]
    deflaters = [codec.deflater(agreement()) for _ in readers]
    message = frame(RSV1 | BINARY, compressed(NOISE))

    def exchange() -> None:
        for reader, deflater in zip(readers, deflaters, strict=True):
            assert reader.feed(message[:70_000]) == []
            assert len(reader.feed(message[70_000:])) == 1
            assert deflater.deflate(bytes(1000)) is not None

    assert held(exchange) < 2000


def test_messages_under_way_have_streams_and_give_them_back() -> None:
    codec = Codec()
    readers = [FrameReader(inflater=codec.inflater(agreement())) for _ in range(100)]
    message = frame(RSV1 | BINARY, compressed(b"Hello" * 100))

    def begin_and_end() -> None:
        for reader in readers:
            assert reader.feed(message[:-1]) == []
        assert tracemalloc.get_traced_memory()[0] > 100 * 7000 or not tracemalloc.is_tracing()
        for reader in readers:
            assert reader.feed(message[-1:]) == [(BINARY, b"Hello" * 100)]

    assert held(begin_and_end) < 8 * 45_000


@pytest.mark.parametrize(
    "end",
    [
        frame(CONTINUATION, b"\xff"),
        frame(CLOSE, b"\x03\xe8"),
        frame(CLOSE, b"\x03"),
        b"\xff",
        frame(CONTINUATION, NOISE),
    ],
)
def test_failed_reader_holds_nothing(end: bytes) -> None:
    codec = Codec()
    begun = frame(RSV1 | TEXT, compressed(b"x" * 100_000), fin=False)

    def fail_some() -> None:
        for _ in range(20):
            reader = FrameReader(inflater=codec.inflater(agreement()), max_message_size=200_000)
            assert reader.feed(begun) == []
            assert reader.feed(end)[0][0] in (FAIL, CLOSE)

    assert held(fail_some) < 2000


def test_unfinished_message_goes_with_its_reader() -> None:
    codec = Codec()
    for takeover in (False, True):

        def begin(takeover: bool = takeover) -> None:
            reader = FrameReader(inflater=codec.inflater(agreement(client_resets=not takeover)))
            assert reader.feed(frame(RSV1 | TEXT, compressed(b"x" * 100_000), fin=False)) == []

        assert held(begin) < 2000


@pytest.mark.parametrize(("bits", "memory_level"), [(9, 1), (12, 5), (15, 5), (15, 9)])
def test_memory_of_takeover(bits: int, memory_level: int) -> None:
    """What the documentation says, within 2 KiB: zlib's own need differs from one version to the next."""
    streams: list[object] = []

    def compress() -> None:
        deflater = Deflater(bits, 3, memory_level, takeover=True)
        deflater.deflate(b"Hello" * 100)
        streams[:] = [deflater]

    def inflate() -> None:
        reader = FrameReader(inflater=Inflater(Codec(), bits, takeover=True))
        reader.feed(frame(RSV1 | BINARY, compressed(NOISE, bits=bits)))
        streams[:] = [reader]

    def before() -> None:
        streams.clear()

    before()
    assert abs(held(compress) - (4 << bits) - (512 << memory_level) - 6 * 1024) < 2048
    before()
    assert abs(held(inflate) - (1 << bits) - 7 * 1024 - (1 << 14)) < 2048


def test_streams_are_made_when_they_are_needed() -> None:
    codec, made = Codec(), []

    def connect() -> None:
        takes_over = agreement(server_resets=False, client_resets=False)
        made[:] = [(codec.deflater(takes_over), codec.inflater(takes_over)) for _ in range(10)]

    assert held(connect) < 10 * 500


def test_a_codec_belongs_to_its_thread() -> None:
    codec = Codec()
    reader, deflater = FrameReader(inflater=codec.inflater(agreement())), codec.deflater(agreement())
    errors: list[str] = []

    def work() -> None:
        for action in (
            lambda: deflater.deflate(b"Hello" * 9),
            lambda: reader.feed(frame(RSV1 | TEXT, compressed(b"Hello"))),
        ):
            try:
                action()
            except RuntimeError as error:
                errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == ["a codec belongs to the thread that made it"] * 2
    assert deflater.deflate(b"Hello" * 9) is not None

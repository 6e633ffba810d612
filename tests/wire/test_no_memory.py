"""What crest.wire does when there is no memory: whichever allocation fails, nothing crashes, leaks or is half done.

CPython's own test module makes one allocation fail: the first of a call, then the second, and so on until all succeed.
"""

import gc
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from support.reference import BINARY, CLOSE, CONTINUATION, PING, RSV1, TEXT, frame

from crest.exceptions import HandshakeError
from crest.kernels.decoder import decode
from crest.wire.deflate import Codec, Deflater, Inflater
from crest.wire.extensions import Agreement
from crest.wire.frames import FrameReader, serialize
from crest.wire.head import HeadReader

_testcapi = pytest.importorskip("_testcapi", reason="this Python comes without the module that lets allocations fail")
pytestmark = pytest.mark.usefixtures("alone")

MOST = 2000
"""Allocations of one call."""

UNICODE = "grüß 😀 " * 1000
NOISE = bytes(range(256)) * 300


def compressed(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def fragments(opcode: int, payload: bytes, *, size: int = 3000) -> bytes:
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(parts) - 1
    return b"".join(frame(opcode if i == 0 else CONTINUATION, part, fin=i == last) for i, part in enumerate(parts))


STREAMS = {
    "short text": frame(TEXT, b"hello"),
    "text": frame(TEXT, UNICODE.encode()),
    "binary": frame(BINARY, NOISE),
    "fragmented text": fragments(TEXT, UNICODE.encode()),
    "fragmented ASCII": fragments(TEXT, b"ascii" * 5000),
    "fragmented binary": fragments(BINARY, NOISE),
    "compressed text": frame(RSV1 | TEXT, compressed(UNICODE.encode())),
    "compressed binary": fragments(RSV1 | BINARY, compressed(NOISE), size=100),
    "ping within a message": frame(TEXT, b"a", fin=False) + frame(PING, b"p" * 100) + frame(CONTINUATION, b"b"),
    "close": frame(CLOSE, b"\x03\xe8bye"),
    "bad close": frame(CLOSE, b"\x03\xe8\xff"),
    "bad opcode": frame(3, b""),
    "bad text": fragments(TEXT, b"ok" * 3000 + b"\xff"),
    "bad compressed text": frame(RSV1 | TEXT, compressed(b"\xff" * 100)),
    "bad compression": frame(RSV1 | TEXT, b"\xff" * 100),
    "too much": frame(BINARY, b"x" * 200_000),
    "two": frame(TEXT, UNICODE.encode()[:100]) + frame(BINARY, NOISE[:100]),
}


def each_failing(made: Callable[[], Any], call: Callable[[Any], Any]) -> list[tuple[Any, Any]]:
    """Call with an object that `made` makes and with the first allocation failing; with the next one and the second;
    and so on. Returns each object and its result, the last of which had all the memory; None where there was none."""
    found = []
    for failing in range(MOST):
        subject, result = made(), None
        try:
            _testcapi.set_nomemory(failing, failing + 1)
            try:
                result = call(subject)
            finally:
                _testcapi.remove_mem_hooks()
        except MemoryError:
            pass
        found.append((subject, result))
        if result is not None and not _fails_from(failing, made, call):
            return found
    raise AssertionError(f"more than {MOST} allocations")


def _fails_from(failing: int, made: Callable[[], Any], call: Callable[[Any], Any]) -> bool:
    """True if a call makes more than that many allocations. When one of them alone fails, it need not raise."""
    subject = made()
    try:
        _testcapi.set_nomemory(failing, 0)
        try:
            call(subject)
        finally:
            _testcapi.remove_mem_hooks()
    except MemoryError:
        return True
    return False


def blocks(work: Callable[[], object]) -> int:
    """Blocks of memory that are left over after work that is done often, each time."""
    for _ in range(3):
        work()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(10):
        work()
    gc.collect()
    return max(0, (sys.getallocatedblocks() - before) // 10)  # below 0: others have let go of some


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("way", [FrameReader.feed, FrameReader.feed_direct])
@pytest.mark.parametrize("chunk", [1 << 20, 1000])
def test_reader(name: str, takeover: bool, way: Callable[[FrameReader, bytes], list[Any]], chunk: int) -> None:
    stream, codec = STREAMS[name], Codec()
    chunks = [stream[at : at + chunk] for at in range(0, len(stream), chunk)]

    def made() -> FrameReader:
        return FrameReader(max_message_size=100_000, inflater=Inflater(codec, 15, takeover=takeover))

    def read(reader: FrameReader) -> list[Any]:
        events: list[Any] = []
        for each in chunks:  # comprehensions and `extend` leak by themselves when there is no memory, in CPython 3.11
            events.append(way(reader, each))
        return events

    right = read(made())
    found = each_failing(made, read)
    assert found[-1][1] == right
    for reader, result in found:
        assert result in (None, right), "all, or an exception"
        way(reader, frame(TEXT, b"more"))  # in the middle of whatever it was
    assert read(made()) == right, "what the readers share is as it was"

    def work() -> None:
        each_failing(made, read)

    assert blocks(work) == 0


@pytest.mark.parametrize("size", [100, 100_000])
@pytest.mark.parametrize("takeover", [True, False])
def test_deflater(size: int, takeover: bool) -> None:
    data = (UNICODE.encode() * 20)[:size]

    def made() -> Deflater:
        return Deflater(15, 3, 5, takeover=takeover)

    right = made().deflate(data)
    assert right is not None
    for deflater, result in each_failing(made, lambda deflater: deflater.deflate(data)):
        assert result in (None, right)
        for _ in range(2):  # whatever it was in the middle of, the next message refers to nothing before it
            again = deflater.deflate(data)
            if result is None or not takeover:
                assert again is not None
                assert zlib.decompressobj(wbits=-15).decompress(again + b"\x00\x00\xff\xff") == data
                break
    assert blocks(lambda: each_failing(made, lambda deflater: deflater.deflate(data))) == 0


def test_codec() -> None:
    agreed = Agreement(True, True, 15, 15, "")
    for work in (Codec.deflater, Codec.inflater):
        found = each_failing(Codec, lambda codec, work=work: work(codec, agreed))  # type: ignore[misc]
        assert found[-1][1] is not None
        assert blocks(lambda work=work: each_failing(Codec, lambda codec: work(codec, agreed))) == 0  # type: ignore[misc]
    assert blocks(lambda: each_failing(lambda: None, lambda _: Codec())) == 0


HEAD = b"GET /ws?a=%20b HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="without memory, these CPythons end what raises by a SystemError, or never"
)
@pytest.mark.parametrize("chunk", [1 << 20, 30])
@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"Host", b"Ho st"), HEAD.replace(b"HTTP/1.1", b"HTTP/1.7")])
def test_head(head: bytes, chunk: int) -> None:
    def read(reader: HeadReader) -> object:
        found = None
        try:
            for at in range(0, len(head), chunk):
                found = reader.feed(head[at : at + chunk])
        except HandshakeError as error:
            return error.status
        assert found is not None
        return found.raw, found.method, found.target, dict(found.headers), reader.rest

    right = read(HeadReader())
    found = each_failing(HeadReader, read)
    assert found[-1][1] == right
    assert all(result in (None, right) for _, result in found)
    assert blocks(lambda: each_failing(HeadReader, read)) == 0


def test_decoder_and_serializer() -> None:
    for call, right in (
        (lambda _: decode(UNICODE.encode()), UNICODE),
        (lambda _: serialize(TEXT, b"Hello"), b"\x81\x05Hello"),
    ):
        found = each_failing(lambda: None, call)
        assert found[-1][1] == right and all(result in (None, right) for _, result in found)
        assert blocks(lambda call=call: each_failing(lambda: None, call)) == 0  # type: ignore[misc]

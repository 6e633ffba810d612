"""The frame reader and writer side by side with those of other libraries, and with the oracle. No sockets.

    pytest benches/bench_frames.py --benchmark-columns=min,median,iqr,ops

Each group is one job. In every row of it a server's reader takes the same chunks and gives the same messages, as `str`
and `bytes`, which is checked. "websockets" is its sans-I/O `Protocol` with its C extension; what its connections do
beyond, joining fragments and decoding text, is done here. A reader goes on from round to round, as on a connection.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from pytest_benchmark.fixture import BenchmarkFixture
from support import reference
from support.reference import BINARY, TEXT
from websockets.frames import Frame as WebsocketsFrame
from websockets.frames import Opcode as WebsocketsOpcode
from websockets.protocol import Protocol, Side
from wsproto.frame_protocol import FrameProtocol

from crest.wire.frames import FrameReader, serialize

KIB = 1024
SEGMENT = 1460
"""Payload bytes of a TCP segment on Ethernet."""

Message = str | bytes
Read = Callable[[list[bytes]], list[Message]]


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def jobs() -> dict[str, tuple[list[bytes], list[Message]]]:
    """For each job the chunks and the messages in them."""
    short = "The quick brown fox jumps over the lazy dog, and then once more."
    text = ("視野無限廣窗外有藍天。Ξεσκεπάζω 😀" * KIB)[: 64 * KIB // 3]
    binary = bytes(range(256)) * 4 * KIB
    parts = cut(binary[: 256 * 64], 64)
    short_frame, binary_frame = reference.frame(TEXT, short.encode()), reference.frame(BINARY, binary)
    text_frame = reference.frame(TEXT, text.encode())
    return {
        "1000 text frames of 64 bytes": ([short_frame * 1000], [short] * 1000),
        "1000 text frames of 64 bytes, chunks of 1460": (cut(short_frame * 1000, SEGMENT), [short] * 1000),
        "64 KiB of text that is not ASCII": ([text_frame], [text]),
        "64 KiB of text that is not ASCII, chunks of 1460": (cut(text_frame, SEGMENT), [text]),
        "256 fragments of 64 bytes": ([reference.fragmented(BINARY, parts)], [b"".join(parts)]),
        "1 MiB binary": ([binary_frame], [binary]),
        "1 MiB binary, chunks of 1460": (cut(binary_frame, SEGMENT), [binary]),
    }


JOBS = jobs()


def read_with_crest() -> Read:
    reader = FrameReader()
    return lambda chunks: [event[1] for chunk in chunks for event in reader.feed(chunk)]


def read_with_websockets() -> Read:
    protocol = Protocol(Side.SERVER)

    def frames(chunks: list[bytes]) -> Iterator[Any]:
        for chunk in chunks:
            protocol.receive_data(chunk)
            yield from protocol.events_received()

    def read(chunks: list[bytes]) -> list[Message]:
        messages: list[Message] = []
        parts: list[bytes] = []
        is_text = False
        for frame in frames(chunks):
            if not parts:
                is_text = frame.opcode is WebsocketsOpcode.TEXT
            parts.append(frame.data)
            if frame.fin:
                payload = parts[0] if len(parts) == 1 else b"".join(parts)
                messages.append(payload.decode() if is_text else payload)
                parts.clear()
        return messages

    return read


def read_with_wsproto() -> Read:
    protocol = FrameProtocol(client=False, extensions=[])

    def read(chunks: list[bytes]) -> list[Message]:
        messages: list[Message] = []
        parts: list[Any] = []
        for chunk in chunks:
            protocol.receive_bytes(chunk)
            for frame in protocol.received_frames():
                parts.append(frame.payload)
                if frame.message_finished:
                    messages.append(parts[0] if len(parts) == 1 else type(parts[0])().join(parts))
                    parts.clear()
        return messages

    return read


def read_with_oracle() -> Read:
    return lambda chunks: [event[1] for event in reference.parse(b"".join(chunks))]


READERS = {
    "crest": read_with_crest,
    "websockets": read_with_websockets,
    "wsproto": read_with_wsproto,
    "oracle": read_with_oracle,
}


def measure(benchmark: BenchmarkFixture, group: str, size: int, call: Callable[..., Any], *arguments: Any) -> Any:
    benchmark.group = group
    benchmark.extra_info["bytes"] = size
    result = benchmark(call, *arguments)
    if benchmark.stats is not None:
        benchmark.extra_info["gigabytes_per_second"] = round(size / benchmark.stats.stats.median / 1e9, 2)
    return result


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("job", JOBS)
def test_read(benchmark: BenchmarkFixture, job: str, reader: str) -> None:
    chunks, messages = JOBS[job]
    size = sum(len(chunk) for chunk in chunks)
    assert measure(benchmark, f"read {job}", size, READERS[reader](), chunks) == messages


WSPROTO = FrameProtocol(client=False, extensions=[])
WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "crest": lambda payload: serialize(BINARY, payload),
    "websockets": lambda payload: WebsocketsFrame(WebsocketsOpcode.BINARY, payload).serialize(mask=False),
    "wsproto": lambda payload: WSPROTO.send_data(payload),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("size", [64, KIB, 64 * KIB, KIB * KIB])
def test_serialize(benchmark: BenchmarkFixture, size: int, writer: str) -> None:
    payload = bytes(size)
    found = measure(benchmark, f"serialize {size:>7} bytes", size, WRITERS[writer], payload)
    assert found == serialize(BINARY, payload)

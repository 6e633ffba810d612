"""What a client's side compresses, on Python's zlib: messages, payloads and frames; and how a reader refuses them."""

import itertools
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

from crest.wire.extensions import Agreement
from support.reference import CONTINUATION, FAIL, RSV1, Event, frame

TAIL = b"\x00\x00\xff\xff"
NOISE = random.Random(7692).randbytes(1 << 17)
CHAT = [
    json.dumps(
        {"type": "message", "room": f"room {i % 3}", "from": f"user {i * i}", "text": "naïve " + "hello " * (i % 7)}
    )
    for i in range(40)
]
KINDS: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "noise": lambda size: (NOISE * (size // len(NOISE) + 1))[:size],
    "hexadecimal": lambda size: (NOISE.hex().encode() * (size // len(NOISE) + 1))[:size],
    "JSON": lambda size: ("".join(CHAT) * (size // 2000 + 1)).encode("ascii", "replace")[:size],
}


def agreement(
    server_resets: bool = True, client_resets: bool = True, server_bits: int = 15, client_bits: int = 15
) -> Agreement:
    return Agreement(server_resets, client_resets, server_bits, client_bits, "")


class Compressor:
    """A client's, on Python's zlib."""

    def __init__(self, takeover: bool = True, bits: int = 15, **options: int) -> None:
        self.takeover = takeover
        self.options = {"wbits": -bits, **options}
        self.stream = zlib.compressobj(**self.options)

    def __call__(self, data: bytes) -> bytes:
        if not self.takeover:
            self.stream = zlib.compressobj(**self.options)
        return (self.stream.compress(data) + self.stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def compressed(data: bytes, **options: Any) -> bytes:
    return Compressor(**options)(data)


def inflated(payload: bytes, bits: int = 15) -> bytes:
    return zlib.decompressobj(-bits).decompress(payload + TAIL)


def fragments(opcode: int, payload: bytes, *ends: int) -> bytes:
    """A compressed message whose payload is cut at these places."""
    places = list(itertools.pairwise([0, *ends, len(payload)]))
    last = len(places) - 1
    return b"".join(
        frame(CONTINUATION if i else RSV1 | opcode, payload[start:end], i == last)
        for i, (start, end) in enumerate(places)
    )


def fail(code: int, text: str, number: int = 1) -> list[Event]:
    return [(FAIL, code, f"frame {number}: {text}")]

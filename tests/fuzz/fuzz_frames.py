"""Fuzzes the frame reader: mutated streams in random chunks, crest.wire.frames against the oracle.

python tests/fuzz/fuzz_frames.py [--seconds N] [--seed S] [--case N]
"""

import itertools
import random
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import campaign
from support import reference
from support.deliveries import make_reader, without_details
from support.reference import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, Event

from crest.wire.meter import Meter, Rates

TEXTS = ["", "a", "Hello", "é", "€", "😀", "aé€😀", "\0", "\ud7ff\ue000", "\U0010ffff", "x" * 63, "é" * 64, "€" * 50]
SIZES = [0, 1, 2, 3, 4, 5, 31, 64, 124, 125, 126, 127, 200, 1000]
LARGE_SIZES = [65535, 65536, 70000]
LIMITS = [0, 1, 5, 125, 126, 1000, 65535, 65536, 1 << 20, (1 << 63) - 1, (1 << 64) - 1]
FRAGMENT_LIMITS = [1, 2, 3, 5, 1 << 17, (1 << 32) - 1]
RATES = [(125, 1), (1000, 5), (500, 1000), (16_000, 20)]
"""A second, and at once; such that a millisecond's are exact in binary."""
UNLIMITED = (None, None)
CLOSE_CODES = [0, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535]
# Bytes that decide something: in a header, a length, a close code or UTF-8.
TELLING = bytes.fromhex("00 01 02 03 08 09 0a 7d 7e 7f 80 81 82 88 89 8a 8b c1 fd fe ff bf c0 c3 e0 ed f0 f4 f5 a0 90")


@dataclass
class Case:
    """What a client sends, how it is cut and what a server lets in."""

    stream: bytes
    chunks: list[bytes]
    # For each chunk the `least` of feed_direct, or None for feed.
    least: list[int | None]
    max_message_size: int
    max_fragments: int
    # Whether messages may be compressed (None: not), and take over their context.
    takeover: bool | None
    # Messages and bytes a second, and at once.
    rates: tuple[tuple[int, int] | None, tuple[int, int] | None]
    # By the clock, in milliseconds; then for each chunk how many later it comes, and whether nobody read meanwhile.
    begin: int
    pauses: list[tuple[int, bool]]

    def meter(self, content_first: bool) -> reference.Meter:
        """The oracle's."""
        starts = itertools.accumulate((len(chunk) for chunk in self.chunks), initial=0)
        arrivals = [(start, *pause) for start, pause in zip(starts, self.pauses, strict=False)]
        return reference.Meter(self.rates, arrivals, content_first)


class Compressor:
    """A client's: of any settings and in any form that a message may have, and some that it should not."""

    def __init__(self, rng: random.Random, takeover: bool) -> None:
        self.rng = rng
        self.takeover = takeover
        self.stream = self.start()

    def start(self) -> "zlib._Compress":
        level, bits, memory_level = self.rng.choice([0, 1, 6, 9]), self.rng.choice([9, 15]), self.rng.choice([1, 8])
        return zlib.compressobj(level, zlib.DEFLATED, -bits, memory_level)

    def __call__(self, data: bytes) -> bytes:
        if not self.takeover:
            self.stream = self.start()
        payload = b""
        for part in cut(self.rng, data) if self.rng.random() < 0.2 else [data]:
            flush = self.rng.choice([zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH])
            payload += self.stream.compress(part) + self.stream.flush(flush)
        if self.rng.random() < 0.1:
            payload += self.stream.flush(zlib.Z_FINISH) + self.rng.choice([b"", b"\0"])
            self.stream = self.start()
            return payload
        payload += self.stream.flush(zlib.Z_SYNC_FLUSH)
        return payload if self.rng.random() < 0.05 else payload.removesuffix(b"\x00\x00\xff\xff")


def payload(rng: random.Random, opcode: int) -> bytes:
    if opcode == CLOSE:
        code = rng.choice([1000, 1001, 3000, *CLOSE_CODES])
        return rng.choice([b"", code.to_bytes(2, "big") + rng.choice(TEXTS).encode()[:123]])
    if opcode == TEXT:
        return "".join(rng.choices(TEXTS, k=rng.choice([0, 1, 1, 2, 5, 20]))).encode()
    if opcode == BINARY and rng.random() < 0.02:
        return rng.randbytes(rng.choice(LARGE_SIZES))
    return rng.randbytes(rng.choice(SIZES[:10] if opcode in (PING, PONG) else SIZES))


def frames(rng: random.Random, takeover: bool | None) -> list[bytes]:
    """The frames of a few messages, fragmented or not, and control frames in between; mostly valid."""
    found = []
    compressor = Compressor(rng, bool(takeover))

    def add(opcode: int, data: bytes, fin: bool = True) -> None:
        found.append(reference.frame(opcode, data, fin, rng.choice([rng.randbytes(4), bytes(4)])))

    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        opcode = rng.choice([TEXT, TEXT, BINARY, PING, PONG])
        data = payload(rng, opcode)
        if takeover is not None and opcode in (TEXT, BINARY) and rng.random() < 0.7:
            opcode, data = RSV1 | opcode, compressor(data)
        if opcode in (PING, PONG) or rng.random() < 0.5:
            add(opcode, data)
            continue
        ends = [0, *sorted(rng.choices(range(len(data) + 1), k=rng.choice([0, 1, 2, 5]))), len(data)]
        for i, (start, end) in enumerate(itertools.pairwise(ends)):
            add(CONTINUATION if i else opcode, data[start:end], i == len(ends) - 2)
            if rng.random() < 0.2:
                control = rng.choice([PING, PONG])
                add(control, payload(rng, control))
    if rng.random() < 0.3:
        add(CLOSE, payload(rng, CLOSE))
    return found


def mutate(rng: random.Random, found: list[bytes]) -> bytes:
    """The stream of these frames, with a few faults, near the start of a frame more often than elsewhere."""
    faults = rng.choice([0, 0, 1, 1, 2, 4])
    if faults and rng.random() < 0.3:
        at = rng.randrange(len(found))
        found = rng.choice(
            [found[:at] + found[at + 1 :], [*found[:at], found[at], *found[at:]], found[at:] + found[:at]]
        )
    starts = [0, *itertools.accumulate(len(frame) for frame in found)]
    stream = bytearray(b"".join(found))
    for _ in range(faults):
        if not stream:
            break
        near = rng.choice(starts) + rng.choice([0, 0, 1, 1, 2, 3, 9])
        at = near if rng.random() < 0.7 and near < len(stream) else rng.randrange(len(stream))
        fault = rng.randrange(6)
        if fault == 0:
            stream[at] ^= 1 << rng.randrange(8)
        elif fault == 1:
            stream[at] = rng.choice(TELLING)
        elif fault == 2:
            del stream[at : at + rng.choice([1, 1, 2, 8, 100])]
        elif fault == 3:
            stream[at:at] = bytes(rng.choices(TELLING, k=rng.choice([1, 1, 2, 8])))
        elif fault == 4:
            del stream[at:]
        else:
            stream[at : at + 8] = rng.choice([rng.randbytes(8), b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7)])
    return bytes(stream)


def cut(rng: random.Random, stream: bytes) -> list[bytes]:
    size = rng.choice([1, 2, 3, 7, 1460, len(stream) + 1, 0])
    if size == 0 or len(stream) > 5000 > 100 * size:
        ends = sorted(rng.choices(range(len(stream) + 1), k=rng.choice([1, 2, 5, 20])))
        return [stream[start:end] for start, end in itertools.pairwise([0, *ends, len(stream)])]
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def make_case(rng: random.Random) -> Case:
    takeover = rng.choice([None, False, True])
    stream = mutate(rng, frames(rng, takeover))
    chunks = cut(rng, stream)
    least = rng.choice([[None], [1], [2], [64], [4096], [None, 1, 5]])
    return Case(
        stream,
        chunks,
        rng.choices(least, k=len(chunks)),
        rng.choice([1 << 20, 1 << 20, *LIMITS]),
        rng.choice([1 << 17, 1 << 17, *FRAGMENT_LIMITS]),
        takeover,
        (rng.choice([None, *RATES]), rng.choice([None, *RATES])) if rng.random() < 0.3 else UNLIMITED,
        rng.choice([0, 2**32 - 20]),
        [(rng.choice([0, 0, 1, 7, 1000]), rng.random() < 0.1) for _ in chunks],
    )


def check(case: Case) -> list[Event]:
    """Read a case both ways and return its events.

    Raises:
        AssertionError: They differ, at the end or at the one place in between that is looked at.
    """
    options = {
        "max_message_size": case.max_message_size,
        "max_fragments": case.max_fragments,
        "takeover": case.takeover,
    }
    now = case.begin
    meter = None if case.rates == UNLIMITED else Meter(Rates(*case.rates), now)
    reader = make_reader(**options, meter=meter)
    events: list[Event] = []

    def compare(count: int) -> None:
        """After so many chunks."""
        stream = b"".join(case.chunks[:count])
        expected = []
        for content_first in (True, False) if meter else (True,):
            expected.append(reference.parse(stream, **options, meter=case.meter(content_first)))
            if events == expected[-1]:
                return
        raise AssertionError(f"after {count} chunks\ncrest:  {events}\noracle: {expected}\n{case}")

    for i, (chunk, least, (pause, nobody_read)) in enumerate(zip(case.chunks, case.least, case.pauses, strict=True)):
        if i == len(case.chunks) // 2:
            compare(i)
        now = (now + pause) % 2**32
        if meter:
            (meter.excuse if nobody_read else meter.refill)(now)
        events += without_details(reader.feed(chunk) if least is None else reader.feed_direct(chunk, least))
    compare(len(case.chunks))
    return events


def check_numbered(seed: int, number: int) -> list[Event]:
    return campaign.check_numbered(lambda rng: check(make_case(rng)), __file__, seed, number)


if __name__ == "__main__":
    campaign.run(check_numbered, campaign.parser(__doc__).parse_args())

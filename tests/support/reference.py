"""The oracle: crest's kernels and wire once more, in plain Python, as short as the specifications let it be.

Tests compare the compiled code with this, never this with itself. It imports nothing of crest.
"""

from collections.abc import Callable, Iterable

from support.inflation import Incomplete, Inflation

# ---- Masking (RFC 6455 section 5.3) ----------------------------------------------------------------------------------


def unmask(payload: bytes, masking_key: bytes, offset: int = 0) -> bytes:
    """XOR each byte with the byte of the key that is its own place's; `offset` bytes came before."""
    return bytes(byte ^ masking_key[(offset + i) % 4] for i, byte in enumerate(payload))


# ---- UTF-8 (RFC 3629 section 4) --------------------------------------------------------------------------------------

TAIL = range(0x80, 0xC0)
# The grammar's rows: the lead byte, then each byte that must follow.
SEQUENCES = [
    (range(0x80),),
    (range(0xC2, 0xE0), TAIL),
    (range(0xE0, 0xE1), range(0xA0, 0xC0), TAIL),
    (range(0xE1, 0xED), TAIL, TAIL),
    (range(0xED, 0xEE), range(0x80, 0xA0), TAIL),
    (range(0xEE, 0xF0), TAIL, TAIL),
    (range(0xF0, 0xF1), range(0x90, 0xC0), TAIL, TAIL),
    (range(0xF1, 0xF4), TAIL, TAIL, TAIL),
    (range(0xF4, 0xF5), range(0x80, 0x90), TAIL, TAIL),
]


class Utf8Validator:
    """Takes text byte by byte.

    Attributes:
        failed: nothing that follows could make the bytes so far valid.
        start: where the sequence begins that is unfinished, or that failed.
    """

    def __init__(self) -> None:
        self.failed = False
        self.start = 0
        self.size = 0
        self.expected: tuple[range, ...] = ()

    def feed(self, chunk: bytes) -> bool:
        for byte in chunk:
            if self.failed:
                break
            if not self.expected:
                self.start = self.size
                self.expected = next((row for row in SEQUENCES if byte in row[0]), (range(0),))
            self.failed = byte not in self.expected[0]
            self.expected = self.expected[1:]
            self.size += 1
        return not self.failed

    def finish(self) -> bool:
        return not self.failed and not self.expected


def utf8_is_valid(text: bytes) -> bool:
    """Whether `text` is valid UTF-8 as a whole."""
    validator = Utf8Validator()
    return validator.feed(text) and validator.finish()


# ---- Frames (RFC 6455 sections 5 and 7) ------------------------------------------------------------------------------

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1 = 0x40
FAIL = -2

Event = tuple[int, str] | tuple[int, bytes] | tuple[int, int, str]


class Failed(Exception):
    """The client broke a rule: a close code, and what is wrong."""


class Meter:
    """What a client may send (`max_message_rate`, `max_byte_rate`): two buckets of tokens, full at first.

    A frame's content may fail too, in the bytes for which there are tokens left. Which failure is first depends on how
    much is read at a time.

    Args:
        rates: of messages and of bytes: a second, and at once; None: any number.
        arrivals: of each chunk where it begins in the stream, the milliseconds since the one before, and whether nobody
            read in that time.
        content_first: which failure is first.
    """

    def __init__(
        self,
        rates: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None),
        arrivals: Iterable[tuple[int, int, bool]] = (),
        content_first: bool = True,
    ) -> None:
        self.rates = [(0.0, float("inf")) if rate is None else rate for rate in rates]
        self.levels = [burst for _, burst in self.rates]
        self.arrivals = iter([*arrivals, (1 << 63, 0, False)])
        self.next = next(self.arrivals)
        self.content_first = content_first

    def read_to(self, end: int) -> None:
        """The bytes before `end` are read, so their chunks have come."""
        while self.next[0] < end:
            _, gone, nobody_read = self.next
            for which, (rate, burst) in enumerate(self.rates):
                level = self.levels[which] + rate * gone / 1000
                self.levels[which] = level if nobody_read else max(self.levels[which], min(level, burst))
            self.next = next(self.arrivals)

    def take_frame(self, opcode: int, fin: bool, length: int, end: int) -> None:
        """A header that ends there; the first empty fragment of a message, or the last, is none of its own."""
        self.read_to(end)
        if opcode == CLOSE:
            return
        if opcode in (TEXT, BINARY, PING) or (opcode == CONTINUATION and not length and not fin):
            self.take(0, 1)
        self.take(1, 6 if length < 126 else 8 if length < 65536 else 14)

    def take_payload(self, start: int, end: int) -> int:
        """Bytes of a payload; returns for how many there are tokens."""
        at = start
        while at < end:
            self.read_to(at + 1)
            stop = min(end, self.next[0])
            if self.levels[1] < stop - at:
                return at - start + int(self.levels[1]) if self.content_first else 0
            self.take(1, stop - at)
            at = stop
        return end - start

    def take(self, which: int, count: int) -> None:
        if self.levels[which] < count:
            raise self.refusal(which)
        self.levels[which] -= count

    def refusal(self, which: int) -> Failed:
        name, (rate, burst) = ["message", "byte"][which], self.rates[which]
        return Failed(1008, f"over max_{name}_rate: {rate:.15g} {name}s a second, {burst:.15g} at once")


class Message:
    """What data frames add up to.

    Attributes:
        compressed: the payload, if it is (RFC 7692 section 7.2.2).
        announced: bytes of that, by the headers of the frames so far.
        inflation: what comes of that, as far as it has come.
        history: what blocks of it may refer to.
    """

    def __init__(self, opcode: int, compressed: bool, history: bytes, max_message_size: int) -> None:
        self.opcode = opcode
        self.compressed = b"" if compressed else None
        self.announced = 0
        self.inflation = Inflation(b"", history, 0)
        self.history = history
        self.max_message_size = max_message_size
        self.payload = b""
        self.fragments = 0
        self.validator = Utf8Validator()

    def extend(self, payload: bytes) -> None:
        if self.compressed is None:
            return self.check_payload(payload)
        self.compressed += payload
        self.inflation = Inflation(self.compressed, self.history, self.max_message_size + 1)
        self.check_payload(bytes(self.inflation.out[len(self.payload) :]))
        if self.inflation.invalid:
            raise Failed(1007, "compressed data is not valid")

    def check_payload(self, payload: bytes) -> None:
        self.payload += payload
        if self.opcode == TEXT and not self.validator.feed(payload):
            raise Failed(1007, f"a text message is not UTF-8 at byte {self.validator.start}")
        self.check_size(len(self.payload))

    def check_size(self, size: int) -> None:
        if size > self.max_message_size:
            raise Failed(1009, f"a message of {size} bytes or more is over max_message_size, {self.max_message_size}")

    def check_compressed_size(self, size: int) -> None:
        self.announced += size
        limit = self.max_message_size
        if self.announced > limit + limit // 8 + limit // 256 + 64 + 16 * (self.fragments + 1):
            error = f"compressed data of {self.announced} bytes or more is over what a message of max_message_size"
            raise Failed(1009, f"{error}, {limit}, can need")

    def finish(self) -> Event:
        if self.compressed is not None and not self.inflation.complete:
            size = len(self.payload)
            self.extend(b"\x00\x00\xff\xff")
            if not self.inflation.complete or len(self.payload) > size:
                raise Failed(1007, "a compressed message ends within a block")
        if self.opcode == BINARY:
            return BINARY, self.payload
        if not self.validator.finish():
            raise Failed(1007, f"a text message is not UTF-8 at byte {self.validator.start}")
        return TEXT, self.payload.decode()


class Frames:
    """All that a client has sent so far, read frame by frame."""

    def __init__(
        self, stream: bytes, max_message_size: int, max_fragments: int, takeover: bool | None, meter: Meter
    ) -> None:
        self.stream = stream
        self.at = 0
        self.max_message_size = max_message_size
        self.max_fragments = max_fragments
        self.takeover = takeover
        self.meter = meter
        self.history = b""
        self.message: Message | None = None

    def read(self, size: int) -> bytes:
        if size > len(self.stream) - self.at:
            raise Incomplete
        self.at += size
        return self.stream[self.at - size : self.at]

    def read_frame(self) -> Event | None:
        fin, opcode, compressed = self.read_first_byte()
        length = self.read_length(opcode)
        if opcode >= CLOSE:
            masking_key = self.read(4)
            self.meter.take_frame(opcode, fin, length, self.at)
            if opcode != CLOSE:
                self.read_payload(length)
            return parse_control(opcode, unmask(self.read(length), masking_key))
        if self.message is None:
            self.message = Message(opcode, compressed, self.history, self.max_message_size)
        self.check_limits(length)
        masking_key = self.read(4)
        self.meter.take_frame(opcode, fin, length, self.at)
        self.message.fragments += 1
        # As much of the payload as has come: text fails at the first byte that can not be UTF-8.
        self.read_payload(length, lambda payload: self.message.extend(unmask(payload, masking_key)))
        self.read(length)
        if not fin:
            return None
        event = self.message.finish()
        if self.takeover and self.message.compressed is not None:
            self.history += self.message.payload
        self.message = None
        return event

    def read_payload(self, length: int, read: Callable[[bytes], None] = lambda payload: None) -> None:
        """Have what has come of a payload read, as far as it may."""
        payload = self.stream[self.at : self.at + length]
        allowed = self.meter.take_payload(self.at, self.at + len(payload))
        read(payload[:allowed])
        if allowed < len(payload):
            raise self.meter.refusal(1)

    def read_first_byte(self) -> tuple[bool, int, bool]:
        byte = self.read(1)[0]
        fin, rsv, opcode = byte >> 7 == 1, byte >> 4 & 7, byte & 15
        if rsv == 4 and self.takeover is not None:
            if opcode not in (TEXT, BINARY):
                raise Failed(1002, "RSV1 is set, but not on the first frame of a message")
        elif rsv:
            raise Failed(1002, "a reserved bit is set, and no extension that defines it was negotiated")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise Failed(1002, f"opcode {opcode:#x} is reserved")
        if opcode >= CLOSE and not fin:
            raise Failed(1002, "a control frame must not be fragmented")
        if opcode == CONTINUATION and self.message is None:
            raise Failed(1002, "a continuation frame, but no message has begun")
        if opcode in (TEXT, BINARY) and self.message is not None:
            raise Failed(1002, "a new message, but the fragmented one before is not finished")
        return fin, opcode, rsv == 4

    def read_length(self, opcode: int) -> int:
        byte = self.read(1)[0]
        length = byte & 127
        if byte < 128:
            raise Failed(1002, "not masked, as every frame from a client must be")
        if length < 126:
            return length
        if opcode >= CLOSE:
            raise Failed(1002, "the payload of a control frame is over 125 bytes")
        extended = int.from_bytes(self.read(2 if length == 126 else 8), "big")
        if extended >= 2**63:
            raise Failed(1002, f"length {extended} has its most significant bit set")
        if extended < (126 if length == 126 else 2**16):
            raise Failed(1002, f"length {extended} is not in its shortest encoding")
        return extended

    def check_limits(self, length: int) -> None:
        if self.message.compressed is None:
            self.message.check_size(len(self.message.payload) + length)
        else:
            self.message.check_compressed_size(length)
        if self.message.fragments + 1 > self.max_fragments:
            raise Failed(1008, f"a message in more frames than max_fragments, {self.max_fragments}")


def parse_control(opcode: int, payload: bytes) -> Event:
    if opcode != CLOSE:
        return opcode, payload
    if not payload:
        return CLOSE, 1005, ""
    if len(payload) == 1:
        raise Failed(1002, "a close frame with a payload of one byte")
    code, reason = int.from_bytes(payload[:2], "big"), payload[2:]
    if code < 1000 or code in (1004, 1005, 1006) or 1015 <= code < 3000 or code >= 5000:
        raise Failed(1002, f"close code {code} may not be sent")
    validator = Utf8Validator()
    if not (validator.feed(reason) and validator.finish()):
        raise Failed(1007, f"a close reason is not UTF-8 at byte {validator.start}")
    return CLOSE, code, reason.decode()


def parse(
    stream: bytes,
    max_message_size: int = 1 << 20,
    max_fragments: int = 1 << 17,
    takeover: bool | None = None,
    meter: Meter | None = None,
) -> list[Event]:
    """The events that the bytes so far make, as `FrameReader.feed` returns them; `takeover` says that messages may be
    compressed, and whether with context takeover."""
    frames = Frames(stream, max_message_size, max_fragments, takeover, meter or Meter())
    events: list[Event] = []
    number = 0
    while not events or events[-1][0] not in (CLOSE, FAIL):
        number += 1
        try:
            event = frames.read_frame()
        except Incomplete:
            break
        except Failed as failed:
            close_code, error = failed.args
            event = FAIL, close_code, f"frame {number}: {error}"
        if event is not None:
            events.append(event)
    return events


def frame(opcode: int, payload: bytes, fin: bool = True, masking_key: bytes = bytes.fromhex("37fa213d")) -> bytes:
    """A frame as a client sends it; `opcode` may have RSV1."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    # Masked as one large number: tests make megabytes of frames.
    mask = (masking_key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    return bytes([fin << 7 | opcode]) + length + masking_key + masked


def fragmented(opcode: int, payloads: list[bytes]) -> bytes:
    """A message in as many frames as there are payloads."""
    last = len(payloads) - 1
    return b"".join(frame(CONTINUATION if i else opcode, part, i == last) for i, part in enumerate(payloads))

"""The oracle: crest's kernels and wire once more, in plain Python, as short as the specifications let it be.

Tests compare the compiled code with this, never this with itself. It imports nothing of crest. `tests/conftest.py` puts
this folder on `sys.path`, so a test says `import reference`.
"""

# ---- Masking (RFC 6455 section 5.3) ----------------------------------------------------------------------------------


def unmask(payload: bytes, masking_key: bytes, offset: int = 0) -> bytes:
    """XOR each byte with the byte of the key that is its own place's; `offset` bytes came before."""
    return bytes(byte ^ masking_key[(offset + i) % 4] for i, byte in enumerate(payload))


# ---- UTF-8 (RFC 3629 section 4) --------------------------------------------------------------------------------------

TAIL = range(0x80, 0xC0)

# The grammar's rows: the lead byte, then each byte that must follow.
SEQUENCES = [
    (range(0x00, 0x80),),
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

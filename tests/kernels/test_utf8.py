"""crest.kernels.utf8: every variant of the kernel against CPython's decoder, and streaming against the oracle."""

import itertools
import random

import pytest
from kernels.texts import BOUNDARIES, LEADS, SAMPLES, SECONDS, TAILS, mutations
from support import reference

from crest.kernels import utf8


def encode(code_point: int) -> bytes:
    """UTF-8's arithmetic for any number, surrogates and numbers above U+10FFFF included."""
    if code_point < 0x80:
        return bytes([code_point])
    if code_point < 0x800:
        return bytes([0xC0 | code_point >> 6, 0x80 | code_point & 0x3F])
    if code_point < 0x10000:
        return bytes([0xE0 | code_point >> 12, 0x80 | code_point >> 6 & 0x3F, 0x80 | code_point & 0x3F])
    high, low = code_point >> 12, code_point & 0xFFF
    return bytes([0xF0 | high >> 6, 0x80 | high & 0x3F, 0x80 | low >> 6, 0x80 | low & 0x3F])


def decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.fixture(params=utf8.variants())
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_oracle_agrees_with_the_decoder() -> None:
    for data in itertools.chain(map(bytes, itertools.product(LEADS, SECONDS, TAILS, TAILS)), mutations(2000)):
        assert reference.utf8_is_valid(data) is decodes(data), data


class TestWhole:
    @pytest.mark.parametrize("size", [0, 1, 2])
    def test_every_short_string(self, variant: str, size: int) -> None:
        for data in map(bytes, itertools.product(range(256), repeat=size)):
            expected = decodes(data)
            assert utf8.is_valid_with(variant, data) is expected, data
            # long enough for the vectors of every variant
            assert utf8.is_valid_with(variant, b"x" * 31 + data + b"x" * 40) is expected, data

    def test_every_class_of_sequence(self, variant: str) -> None:
        for data in map(bytes, itertools.product(LEADS, SECONDS, TAILS, TAILS)):
            assert utf8.is_valid_with(variant, data) is decodes(data), data
            padded = b"y" * 30 + data + b"y" * 60
            assert utf8.is_valid_with(variant, padded) is decodes(padded), data

    def test_every_code_point_at_a_boundary(self, variant: str) -> None:
        for code_point in {near for edge in [*BOUNDARIES, 0x1FFFFF] for near in (edge - 1, edge, edge + 1)}:
            if 0 <= code_point < 0x200000:
                data = encode(code_point)
                expected = code_point <= 0x10FFFF and not 0xD800 <= code_point <= 0xDFFF
                assert utf8.is_valid_with(variant, data) is expected, hex(code_point)
                assert utf8.is_valid_with(variant, data * 64) is expected, hex(code_point)

    def test_every_surrogate(self, variant: str) -> None:
        for code_point in range(0xD800, 0xE000):
            assert not utf8.is_valid_with(variant, b"z" * 40 + encode(code_point) + b"z" * 40), hex(code_point)

    @pytest.mark.parametrize("code_point", [0x7F, 0xC1, 0x20AC, 0xFFFF])
    def test_overlong_forms(self, variant: str, code_point: int) -> None:
        two = bytes([0xC0 | code_point >> 6 & 0x1F, 0x80 | code_point & 0x3F])
        three = bytes([0xE0 | code_point >> 12, 0x80 | code_point >> 6 & 0x3F, 0x80 | code_point & 0x3F])
        four = bytes([0xF0, 0x80 | code_point >> 12, 0x80 | code_point >> 6 & 0x3F, 0x80 | code_point & 0x3F])
        for data in (two, three, four):
            if len(data) > len(encode(code_point)):
                for padding in (0, 40):
                    assert not utf8.is_valid_with(variant, data + b"z" * padding), data

    @pytest.mark.parametrize("sequence", ["é", "語", "😀"])
    def test_every_place(self, variant: str, sequence: str) -> None:
        """Whole, truncated, broken, and continued too far, at every place around the blocks' boundaries."""
        whole = sequence.encode()
        candidates = [whole, whole + b"\x80"]
        candidates += [whole[:cut] for cut in range(1, len(whole))]
        for at, bad in itertools.product(range(len(whole)), (b"a", b"\xff", whole[:1])):
            candidates.append(whole[:at] + bad + whole[at + 1 :])
        for candidate in candidates:
            for before, after in itertools.product(range(140), (0, 1, 2, 3, 70)):
                for filler in (b"a", "é".encode()):
                    data = filler * before + candidate + filler * after
                    assert utf8.is_valid_with(variant, data) is decodes(data), (candidate, before, after)

    def test_every_size_and_alignment(self, variant: str) -> None:
        for sample in SAMPLES:
            text = sample * (300 // len(sample) + 2)
            for start, size in itertools.product(range(16), range(301)):
                expected = decodes(text[start : start + size])
                assert utf8.is_valid_with(variant, memoryview(text)[start : start + size]) is expected, (start, size)

    def test_mutations(self, variant: str) -> None:
        for data in mutations(20_000):
            assert utf8.is_valid_with(variant, data) is decodes(data), data

    def test_is_valid_is_the_fastest_variant(self) -> None:
        assert utf8.variants()[0] == "scalar"
        assert utf8.selected() == utf8.variants()[-1]
        for data in mutations(500):
            assert utf8.is_valid(data) is decodes(data), data


def test_is_ascii() -> None:
    for size in range(301):
        assert utf8.is_ascii(b"\x7f" * size)
    for size in (1, 7, 8, 9, 63, 64, 255, 256, 257, 300, 600):
        for at in range(size):
            data = bytearray(size)
            data[at] = 0x80
            assert not utf8.is_ascii(data), (size, at)


def test_valid_prefix() -> None:
    for data in itertools.chain(mutations(5000), map(bytes, itertools.product(LEADS, SECONDS, TAILS, TAILS))):
        try:
            data.decode()
            expected = len(data)
        except UnicodeDecodeError as error:
            expected = error.start
        assert utf8.valid_prefix(data) == expected, data


class TestStream:
    @staticmethod
    def check(variant: str, chunks: list[bytes]) -> None:
        """Chunk by chunk, the validator must say what the oracle says, and where."""
        validator, oracle = utf8.Validator(variant), reference.Utf8Validator()
        for chunk in chunks:
            assert validator.feed(chunk) is oracle.feed(chunk), chunks
            assert validator.fault == (oracle.start if oracle.failed else None), chunks
        assert validator.finish() is oracle.finish(), chunks

    def test_every_split_in_two(self, variant: str) -> None:
        for sample in SAMPLES:
            for cut in range(len(sample) + 1):
                self.check(variant, [sample[:cut], sample[cut:]])
                self.check(variant, [sample[:cut], sample[cut:] + b"\xed\xa0\x80"])

    def test_every_split_of_short_strings(self, variant: str) -> None:
        texts = ["aé語😀".encode(), b"\xf0\x9f\x98", b"\xed\xa0\x80!", b"\xe0\x9f\x80", b"a\xf4\x90\x80\x80"]
        for text in [*texts, b"\xc3\xa9\xa9"]:
            for cuts in itertools.product([False, True], repeat=len(text) - 1):
                places = [0, *(at for at, cut in enumerate(cuts, 1) if cut), len(text)]
                self.check(variant, [text[start:end] for start, end in itertools.pairwise(places)])

    def test_every_class_of_sequence_byte_by_byte(self, variant: str) -> None:
        for data in map(bytes, itertools.product(LEADS, SECONDS, TAILS)):
            self.check(variant, [data[at : at + 1] for at in range(3)])
            self.check(variant, [data[:1], data[1:] + b"a" * 70])

    def test_mutations_in_random_chunks(self, variant: str) -> None:
        chance = random.Random(8)
        for data in mutations(3000):
            places = sorted(chance.choices(range(len(data) + 1), k=chance.randrange(5)))
            self.check(variant, [data[start:end] for start, end in itertools.pairwise([0, *places, len(data)])])

    @pytest.mark.parametrize(
        "hopeless",
        [b"\x80", b"\xc0", b"\xc1", b"\xf5", b"\xff", b"\xe0\x9f", b"\xed\xa0", b"\xf0\x8f", b"\xf4\x90", b"\xe2\x82A"],
    )
    def test_fails_at_the_first_hopeless_byte(self, variant: str, hopeless: bytes) -> None:
        for filler in (b"", b"text " * 20):
            assert not utf8.Validator(variant).feed(filler + hopeless)
            validator = utf8.Validator(variant)
            assert validator.feed(filler + hopeless[:-1])
            assert not validator.feed(hopeless[-1:])
            assert validator.fault == len(filler)

    def test_failure_stays(self, variant: str) -> None:
        validator = utf8.Validator(variant)
        assert not validator.feed(b"ab\xff")
        assert not validator.feed(b"")
        assert not validator.feed(b"valid")
        assert not validator.finish()
        assert validator.fault == 2

    def test_unfinished_is_no_failure(self) -> None:
        validator = utf8.Validator()
        assert validator.finish()
        assert validator.feed(b"\xf0\x9f\x98")
        assert not validator.finish()
        assert validator.fault is None
        assert validator.feed(b"")
        assert validator.feed(b"\x80")
        assert validator.finish()


def test_wrong_arguments() -> None:
    for call in (utf8.is_valid, utf8.is_ascii, utf8.valid_prefix, utf8.Validator().feed):
        with pytest.raises(TypeError, match="bytes-like object is required, not 'str'"):
            call("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no variant 'mmx' on this CPU, only scalar"):
        utf8.is_valid_with("mmx", b"")
    with pytest.raises(ValueError, match="no variant 'mmx' on this CPU, only scalar"):
        utf8.Validator(variant="mmx")
    with pytest.raises(TypeError):
        utf8.Validator(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [bytes, bytearray, memoryview])
def test_any_buffer(data: type) -> None:
    assert utf8.is_valid(data(SAMPLES[1]))
    assert utf8.Validator().feed(data(SAMPLES[1]))


def test_buffers_are_released() -> None:
    data = bytearray(b"text")
    validator = utf8.Validator()
    validator.feed(data)
    utf8.is_valid(data)
    utf8.valid_prefix(data)
    data.clear()  # BufferError, if one were still held

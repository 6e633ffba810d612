"""crest.kernels.decoder: every variant against CPython's decoder: text, kind of str, and where a fault is."""

import itertools
import random
import sys
import tracemalloc

import pytest
from kernels.texts import BOUNDARIES, LEADS, SAMPLES, SECONDS, TAILS, mutations

from crest.kernels import decoder

SURROGATES = range(0xD800, 0xE000)

# Characters for each kind of str, of every length in UTF-8 that its units can hold.
ONE_BYTE, TWO_BYTES, FOUR_BYTES = "aé", "aéшあ", "aéшあ😀"


@pytest.fixture(params=decoder.variants())
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check(variant: str, data: bytes) -> None:
    try:
        expected = data.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(UnicodeDecodeError) as caught:
            decoder.decode_with(variant, data)
        assert caught.value.start == error.start, data
    else:
        check_text(variant, data, expected)


def check_text(variant: str, data: bytes, expected: str) -> None:
    text = decoder.decode_with(variant, data)
    assert text == expected, data
    assert kind(text) == kind(expected), data


def kind(text: str) -> tuple[int, bool]:
    """What sets the kinds of str apart: size and flag. Of twice the text, as CPython has letters with their UTF-8."""
    return sys.getsizeof(text + text), text.isascii()


class TestValid:
    @pytest.mark.parametrize("before", [*range(68), 127, 128, 129])
    def test_every_code_point(self, variant: str, before: int) -> None:
        """At every place of a block, once all of each kind."""
        for limit in (0x80, 0x100, 0x800, 0x10000):
            expected = "x" * before + "".join(map(chr, range(min(limit, SURROGATES.start))))
            expected += "".join(map(chr, range(SURROGATES.stop, limit)))
            check_text(variant, expected.encode(), expected)

    def test_every_code_point_above_the_basic_plane(self, variant: str) -> None:
        for plane in range(0x10000, 0x110000, 0x10000):
            for before in (0, 1, 2, 3):
                expected = "x" * before + "".join(map(chr, range(plane, plane + 0x10000)))
                check_text(variant, expected.encode(), expected)

    def test_every_code_point_alone(self, variant: str) -> None:
        for code_point in itertools.chain(range(SURROGATES.start), range(SURROGATES.stop, 0x11000)):
            assert decoder.decode_with(variant, chr(code_point).encode()) == chr(code_point)

    @pytest.mark.parametrize("filler", "aéш語😀")
    def test_every_place(self, variant: str, filler: str) -> None:
        """What decides the kind, at each place around the boundaries of blocks and close to both ends."""
        for code_point in BOUNDARIES:
            for before, after in itertools.product(range(140), (0, 1, 2, 3, 9, 70)):
                expected = filler * before + chr(code_point) + filler * after
                check_text(variant, expected.encode(), expected)

    @pytest.mark.parametrize("letters", [ONE_BYTE, TWO_BYTES, FOUR_BYTES, "é", "ш", "語", "😀", "шa", "語a", "😀a"])
    def test_every_pattern_of_lengths(self, variant: str, letters: str) -> None:
        """Leads lie in a block in every way there is, and the text ends in every way."""
        for size in range(6):
            for characters in itertools.product(letters, repeat=size):
                expected = "".join(characters)
                check_text(variant, expected.encode(), expected)
        chance = random.Random(letters)
        for size in range(400):
            expected = "".join(chance.choices(letters, k=size))
            check_text(variant, expected.encode(), expected)

    def test_large(self, variant: str) -> None:
        chance = random.Random(6455)
        for letters in (ONE_BYTE, TWO_BYTES, FOUR_BYTES):
            for size in (1 << 16, 1 << 20):
                expected = "".join(chance.choices(letters, k=size)) + letters[-1]
                check_text(variant, expected.encode(), expected)

    def test_what_was_decoded_is_an_ordinary_str(self, variant: str) -> None:
        for word in ("", "a", "é", "ш", "語", "😀", "word", "größer", "слово", "言葉", "😀😃"):
            text = decoder.decode_with(variant, word.encode())
            assert type(text) is str
            assert {word: 1}[text] == 1  # its hash
            assert text + "!" == f"{word}!"
            assert text.encode() == word.encode()


class TestAny:
    @pytest.mark.parametrize("size", [0, 1, 2])
    def test_every_short_sequence(self, variant: str, size: int) -> None:
        for data in map(bytes, itertools.product(range(256), repeat=size)):
            check(variant, data)
            check(variant, b"x" * 62 + data + "é".encode() * 40)

    def test_every_sequence_of_three_bytes_with_a_lead_for_three(self, variant: str) -> None:
        """With any other lead, they are a shorter sequence and something behind it."""
        for data in map(bytes, itertools.product(range(0xE0, 0xF0), range(0x70, 0xD0), range(0x70, 0xD0))):
            check(variant, data)

    def test_every_class_of_sequence(self, variant: str) -> None:
        for data in map(bytes, itertools.product(LEADS, SECONDS, TAILS, TAILS)):
            check(variant, data)
            check(variant, "語".encode() * 21 + data + b"y" * 60)

    def test_every_size_and_alignment(self, variant: str) -> None:
        for sample in SAMPLES:
            text = sample * (200 // len(sample) + 2)
            for start, size in itertools.product(range(16), range(201)):
                check(variant, text[start : start + size])

    def test_mutations(self, variant: str) -> None:
        for data in mutations(20_000):
            check(variant, data)


def test_decode_is_the_fastest_variant() -> None:
    assert decoder.variants()[0] == "scalar"
    assert decoder.selected() == decoder.variants()[-1]
    for sample in SAMPLES:
        assert decoder.decode(sample) == sample.decode()


@pytest.mark.parametrize("before", ["", "a" * 100, "é" * 50])
def test_error(before: str) -> None:
    data = before.encode() + b"\xe2\x82("
    with pytest.raises(UnicodeDecodeError, match="an invalid or unfinished sequence") as caught:
        decoder.decode(data)
    error = caught.value
    assert (error.encoding, error.object, error.start, error.end) == ("utf-8", data, len(data) - 3, len(data) - 2)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="bytes-like object is required, not 'str'"):
        decoder.decode("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no variant 'mmx' on this CPU, only scalar"):
        decoder.decode_with("mmx", b"")
    with pytest.raises(TypeError):
        decoder.decode_with(None, b"")  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [bytes, bytearray, memoryview])
def test_any_buffer(data: type) -> None:
    assert decoder.decode(data(SAMPLES[1])) == SAMPLES[1].decode()
    with pytest.raises(UnicodeDecodeError):
        decoder.decode(data(b"\xff"))


def test_buffers_are_released() -> None:
    data = bytearray("é".encode())
    decoder.decode(data)
    data[:1] = b"\xff"
    with pytest.raises(UnicodeDecodeError):
        decoder.decode(data)
    data.clear()  # BufferError, if one were still held


def test_nothing_is_allocated_but_the_text(variant: str) -> None:
    expected = FOUR_BYTES * 10_000
    data = expected.encode()
    tracemalloc.start()
    try:
        text = decoder.decode_with(variant, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text == expected
    assert sys.getsizeof(text) <= peak < sys.getsizeof(text) + 1000

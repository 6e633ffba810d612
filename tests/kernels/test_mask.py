"""crest.kernels.mask: every variant of the kernel against the oracle."""

import random

import pytest
from support import reference

from crest.kernels import mask

KEY = bytes.fromhex("37fa213d")
PAYLOAD = random.Random(6455).randbytes(400)


def bits_of(payload: bytes) -> int:
    seen = 0
    for byte in payload:
        seen |= byte
    return seen


@pytest.fixture(params=mask.variants())
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_specification_example() -> None:
    # RFC 6455 section 5.7: a single-frame masked text message.
    assert mask.unmask(bytes.fromhex("7f9f4d5158"), KEY) == b"Hello"


def test_every_size_and_offset(variant: str) -> None:
    for size in range(301):
        for offset in range(4):
            expected = reference.unmask(PAYLOAD[:size], KEY, offset)
            result = mask.unmask_with(variant, PAYLOAD[:size], KEY, offset)
            assert result == (expected, bits_of(expected)), (size, offset)


def test_every_alignment(variant: str) -> None:
    view = memoryview(PAYLOAD)
    for alignment in range(16):
        for size in (*range(20), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300):
            expected = reference.unmask(PAYLOAD[alignment : alignment + size], KEY)
            assert mask.unmask_with(variant, view[alignment : alignment + size], KEY)[0] == expected, (alignment, size)


def test_every_bit_reaches_the_or(variant: str) -> None:
    """A single byte decides whether a payload is ASCII, wherever it is."""
    for size in (1, 3, 5, 8, 13, 16, 31, 33, 64, 65, 100, 128, 129, 200, 300):
        for at in range(size):
            payload = bytearray(size)
            payload[at] = 0x80 | at & 0x7F
            masked = reference.unmask(bytes(payload), KEY)
            assert mask.unmask_with(variant, masked, KEY) == (bytes(payload), payload[at]), (size, at)


def test_selected_variant_is_the_fastest() -> None:
    assert mask.variants()[0] == "scalar"
    assert mask.selected() == mask.variants()[-1]


def test_unmask_is_the_selected_variant() -> None:
    for size in range(301):
        assert mask.unmask(PAYLOAD[:size], KEY, 3) == mask.unmask_with(mask.selected(), PAYLOAD[:size], KEY, 3)[0]


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 5, 2**31 + 1, 2**32 + 2, 2**62 + 3])
def test_offset_counts_modulo_four(variant: str, offset: int) -> None:
    assert mask.unmask_with(variant, PAYLOAD, KEY, offset)[0] == reference.unmask(PAYLOAD, KEY, offset % 4)


def test_cut_anywhere() -> None:
    """Unmasking in two parts is unmasking as a whole: that is what the offset is for."""
    expected = reference.unmask(PAYLOAD[:150], KEY)
    for cut in range(151):
        assert mask.unmask(PAYLOAD[:cut], KEY) + mask.unmask(PAYLOAD[cut:150], KEY, cut) == expected, cut


@pytest.mark.parametrize("data", [bytes, bytearray, memoryview])
def test_any_buffer(data: type) -> None:
    assert mask.unmask(data(PAYLOAD), KEY) == reference.unmask(PAYLOAD, KEY)


def test_source_is_left_alone() -> None:
    source = bytearray(PAYLOAD)
    mask.unmask(source, KEY)
    assert source == PAYLOAD
    source.clear()  # BufferError, if the buffer were still held


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_key_of_wrong_length(key: bytes) -> None:
    with pytest.raises(ValueError, match=f"a masking key has 4 bytes, not {len(key)}"):
        mask.unmask(b"payload", key)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"key.*expected bytes, got str"):
        mask.unmask(b"payload", "abcd")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes-like object is required, not 'str'"):
        mask.unmask("payload", KEY)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        mask.unmask(b"payload", KEY, "1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="an offset can not be negative: -1"):
        mask.unmask(b"payload", KEY, -1)
    with pytest.raises(ValueError, match="no variant 'mmx' on this CPU, only scalar"):
        mask.unmask_with("mmx", b"payload", KEY)

"""crest.wire.masking: a client's frames, against RFC 6455 sections 5.2, 5.3 and 10.3."""

from collections.abc import Callable

import pytest
from support.reference import BINARY, CLOSE, PING, RSV1, TEXT, frame

from crest.wire.frames import FrameReader
from crest.wire.masking import Masker


def counting(size: int) -> bytes:
    return bytes(i & 255 for i in range(size))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 127, 0xFFFF, 0x10000, 100_001])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, TEXT | RSV1])
def test_a_frame_is_masked_with_the_shortest_header(size: int, opcode: int) -> None:
    payload = bytes(i * 7 & 255 for i in range(size))
    masker = Masker(counting)
    for number in range(3):
        key = bytes(range(4 * number, 4 * number + 4))
        assert masker.serialize(opcode, payload) == frame(opcode, payload, masking_key=key)


def test_the_example_of_the_rfc() -> None:
    """Section 5.7: a single-frame masked text message."""
    key = bytes.fromhex("37fa213d")
    sent = Masker(lambda size: key * (size // 4)).serialize(TEXT, b"Hello")
    assert sent == bytes.fromhex("818537fa213d7f9f4d5158")


def test_any_bytes_like_payload_will_do() -> None:
    for payload in (bytearray(b"ab"), memoryview(b"xaby")[1:3], b"ab"):
        assert FrameReader().feed(Masker().serialize(BINARY, payload)) == [(BINARY, b"ab")]
    with pytest.raises(TypeError):
        Masker().serialize(TEXT, "ab")  # type: ignore[arg-type]


def test_control_frames() -> None:
    masker = Masker()
    assert FrameReader().feed(masker.serialize(PING, b"x" * 125) + masker.serialize(CLOSE, b"\x03\xe8bye")) == [
        (PING, b"x" * 125),
        (CLOSE, 1000, "bye"),
    ]


# ---- Keys (section 10.3) ---------------------------------------------------------------------------------------------


def test_no_key_is_used_twice() -> None:
    """By chance two of so many keys would be the same once in 500 runs; three pairs never are."""
    masker = Masker()
    keys = [masker.serialize(PING, b"")[2:] for _ in range(4000)]
    assert {len(key) for key in keys} == {4}
    assert len(set(keys)) >= len(keys) - 3
    assert keys != [Masker().serialize(PING, b"")[2:]] * 4000


def test_all_entropy_is_used_once_in_its_order() -> None:
    drawn = bytearray()

    def entropy(size: int) -> bytes:
        batch = b"".join((len(drawn) + at).to_bytes(4, "big") for at in range(0, size, 4))
        drawn.extend(batch)
        return batch

    masker = Masker(entropy)
    keys = b"".join(masker.serialize(PING, b"")[2:] for _ in range(1000))
    assert drawn.startswith(keys) and len(drawn) - len(keys) < 1024


def fails(size: int) -> bytes:
    raise OSError("no entropy")


@pytest.mark.parametrize(
    ("entropy", "error"),
    [(fails, OSError), (lambda size: b"", ValueError), (lambda size: b"abc", ValueError), (bytearray, ValueError)],
)
def test_without_entropy_there_is_no_frame(entropy: Callable[[int], bytes], error: type[Exception]) -> None:
    given = [bytes(1024)]
    masker = Masker(lambda size: given.pop() if given else entropy(size))
    for _ in range(256):
        masker.serialize(PING, b"")
    for _ in range(3):  # and none with an old key
        with pytest.raises(error):
            masker.serialize(PING, b"")
    given.append(b"abcd" * 256)
    assert masker.serialize(PING, b"") == b"\x89\x80abcd"

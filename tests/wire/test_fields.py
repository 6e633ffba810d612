"""crest.wire.fields: header fields of an application, against RFC 9110 section 5."""

import pytest

from crest.wire.fields import extra_fields


class Shouting(str):
    """Text that says something else when it is formatted."""

    def __str__(self) -> str:
        return "x\r\nEvil: 1"

    def __format__(self, spec: str) -> str:
        return "x\r\nEvil: 1"


def test_fields_keep_their_order_and_repeat() -> None:
    assert extra_fields([("Set-Cookie", "a=1"), (b"X-B", b"\xff"), ("Set-Cookie", "b")]) == (
        b"Set-Cookie: a=1\r\nX-B: \xff\r\nSet-Cookie: b\r\n"
    )
    assert extra_fields(()) == b""


def test_any_iterable_of_pairs_will_do() -> None:
    assert extra_fields({"a": "b", "c": ""}.items()) == b"a: b\r\nc: \r\n"
    assert extra_fields([[b"a", b"b"]]) == b"a: b\r\n"  # type: ignore[list-item]  # as ASGI has them


def test_text_is_latin_1() -> None:
    assert extra_fields([("a", "\xe9 \t b")]) == b"a: \xe9 \t b\r\n"


def test_a_subclass_says_what_was_checked() -> None:
    assert extra_fields([(Shouting("a"), Shouting("b"))]) == b"a: b\r\n"


@pytest.mark.parametrize("name", ["", " a", "a ", "a:", "a b", "a\r\nb", "a\n", "\xe9", "(", "a\0"])
def test_a_name_is_a_token(name: str) -> None:
    for each in (name, name.encode("latin-1")):
        with pytest.raises(ValueError, match="not a header name"):
            extra_fields([(each, "b")])


@pytest.mark.parametrize("value", ["\r", "\n", "a\r\nb: c", "a\r\n b", "\0", "\x7f", "\x1b", "a\n"])
def test_a_value_has_no_control_characters(value: str) -> None:
    for each in (value, value.encode("latin-1")):
        with pytest.raises(ValueError, match="the header a has a value that HTTP does not allow"):
            extra_fields([("a", each)])


def test_a_value_beyond_latin_1_is_refused() -> None:
    with pytest.raises(ValueError, match="a value that HTTP does not allow"):
        extra_fields([("a", "\u0100")])


@pytest.mark.parametrize(
    "name",
    ["Upgrade", "CONNECTION", "Content-Length", "transfer-encoding", "Host"]
    + [f"Sec-WebSocket-{each}" for each in ("Accept", "Extensions", "Key", "Protocol", "Version", "Anything")],
)
def test_the_handshake_has_these_itself(name: str) -> None:
    with pytest.raises(ValueError, match=f"the opening handshake sets the header {name} itself"):
        extra_fields([(name, "a")])
    with pytest.raises(ValueError, match="itself"):
        extra_fields([(name.lower().encode(), b"a")])
    assert extra_fields([(f"X-{name}", "a")]) == f"X-{name}: a\r\n".encode()


@pytest.mark.parametrize("field", ["ab", b"ab", ("a",), ("a", "b", "c"), None, 1, ["a"]])
def test_a_field_is_a_pair(field: object) -> None:
    with pytest.raises(TypeError, match="a header is a pair of name and value"):
        extra_fields([field])  # type: ignore[list-item]


@pytest.mark.parametrize("value", [None, 1, bytearray(b"a"), ["a"]])
def test_names_and_values_are_text_or_bytes(value: object) -> None:
    for field in (("a", value), (value, "a")):
        with pytest.raises(TypeError, match="are str or bytes, not"):
            extra_fields([field])  # type: ignore[list-item]

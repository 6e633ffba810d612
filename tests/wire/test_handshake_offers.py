"""crest.wire.handshake: what a client offers, by the grammars of both headers."""

from enum import StrEnum

import pytest
from support.upgrading import ANSWER, EXTENSIONS, PROTOCOL, accept, refused, request

from crest.exceptions import HandshakeError
from crest.wire.extensions import Deflate
from crest.wire.handshake import check, parse_extensions, parse_subprotocols

# --- subprotocols


class Version(StrEnum):
    """Text, but of a type of its own."""

    ONE = "v1"


def test_what_is_chosen_is_what_the_client_has_sent() -> None:
    chosen = check(request(PROTOCOL + b"v1")).choose([Version.ONE])
    assert (chosen, type(chosen)) == ("v1", str)
    assert check(request()).choose(["a"]) is None


def test_the_server_prefers() -> None:
    assert accept(request(PROTOCOL + b"a, b,c"), ["c", "b"])[1] == "c"
    assert accept(request(PROTOCOL + b"a", PROTOCOL + b"b"), ("x", "b", "a"))[1] == "b"


def test_none_in_common_opens_without() -> None:
    response, subprotocol, _ = accept(request(PROTOCOL + b"a, b"), ["A", "c"])
    assert subprotocol is None
    assert b"Protocol:" not in response


def test_none_offered_opens_without() -> None:
    assert accept(request(), ["a"]) == (ANSWER + b"\r\n", None, None)


def test_subprotocol_lists() -> None:
    assert parse_subprotocols("a") == ["a"]
    assert parse_subprotocols(",b\t, , a.1~,") == ["b", "a.1~"]
    assert parse_subprotocols(",".join(["a"] * 10_000)) == ["a"] * 10_000


@pytest.mark.parametrize(
    "value",
    [b"", b",", b" , ,\t", b"a b", b"a;b", b'"a"', b"a/b", b"a, (b)", b"\xff", b"a, caf\xc3\xa9", b"a=b", b"{}"],
)
def test_malformed_subprotocols_are_400(value: bytes) -> None:
    error = refused(request(PROTOCOL + value))
    assert error.status == 400
    assert error.reason.startswith("Sec-WebSocket-Protocol ")
    assert error.reason.isascii()


@pytest.mark.parametrize(
    "value",
    ["," * 1_000_000, " " * 1_000_000, "a" + " " * 1_000_000 + "b", "a," * 500_000 + "@", "a" * 1_000_000 + "@"],
)
def test_pathological_subprotocols_are_refused_in_linear_time(value: str) -> None:
    with pytest.raises(HandshakeError):
        parse_subprotocols(value)


# --- extensions


@pytest.mark.parametrize(
    ("value", "offers"),
    [
        ("permessage-deflate", [("permessage-deflate", [])]),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
            [
                ("permessage-deflate", [("client_max_window_bits", None), ("server_max_window_bits", "10")]),
                ("permessage-deflate", []),
            ],
        ),
        ('a;b="c"', [("a", [("b", "c")])]),
        (r'a; b="\c\1"', [("a", [("b", "c1")])]),
        ("\ta ;\tb = c , ,d,", [("a", [("b", "c")]), ("d", [])]),
        ("foo;a;a=1;a", [("foo", [("a", None), ("a", "1"), ("a", None)])]),
        ("__proto__; constructor", [("__proto__", [("constructor", None)])]),
    ],
)
def test_parse_extensions(value: str, offers: list[object]) -> None:
    assert parse_extensions(value) == offers


@pytest.mark.parametrize(
    "value",
    [
        "", " ", ",", " , ,", "a b", "a;", "a;;b", ";b",
        ";b, a", "a; b=", "a; =c", "a; b=c d", "a; b=c=d", "a=b", 'a; b=""',
        'a; b="c', 'a; b=c"', 'a; b="c d"', 'a; b="c,d"', 'a; b="c;d"', 'a; b="c\\"', 'a; b="c\\,d"', 'a; b="\\""',
        'a; b=" c"', 'a; b="c "', 'a; b="\t"', 'a; b="c\\ "',
        'a; b="', 'a; b="c"d', 'a; "b"', '"a"', "caf\xe9", "a; b=\xff", "a; b\x00", "a\n",
    ],
)  # fmt: skip
def test_malformed_extensions_are_400(value: str) -> None:
    with pytest.raises(HandshakeError, match=r"^Sec-WebSocket-Extensions ") as caught:
        parse_extensions(value)
    assert caught.value.status == 400


def test_extensions_are_declined() -> None:
    head = request(EXTENSIONS + b"permessage-deflate; client_max_window_bits", EXTENSIONS + b"x-foo")
    assert accept(head) == (ANSWER + b"\r\n", None, None)
    assert accept(request(EXTENSIONS + b"x-foo"), deflate=Deflate()) == (ANSWER + b"\r\n", None, None)


def test_compression_is_accepted() -> None:
    """The first offer that can be met, in whichever of several headers it is."""
    offers = [
        b"x-foo, permessage-deflate; server_max_window_bits=8",
        b'permessage-deflate; server_max_window_bits="10"',
    ]
    head = request(PROTOCOL + b"a", *[EXTENSIONS + value for value in offers])
    response, subprotocol, compression = accept(head, ["a"], Deflate(client_no_context_takeover=False))
    assert compression is not None
    assert compression.response == "permessage-deflate; server_max_window_bits=10"
    lines = [EXTENSIONS + compression.response.encode(), PROTOCOL + b"a", b"", b""]
    assert (response, subprotocol) == (ANSWER + b"\r\n".join(lines), "a")


def test_compression_that_is_not_offered() -> None:
    assert accept(request(), deflate=Deflate()) == (ANSWER + b"\r\n", None, None)


@pytest.mark.parametrize("values", [(b"",), (b"a;",), (b"a", b"b c"), (b"\xff",), (b"permessage-deflate", b"a;")])
def test_malformed_extensions_are_refused(values: tuple[bytes, ...]) -> None:
    assert refused(request(*[EXTENSIONS + value for value in values])).status == 400


@pytest.mark.parametrize(
    "value",
    [
        "," * 1_000_000,
        'a;b="' + "\\" * 1_000_001 + '"',
        'a;b="' + "\\a" * 500_000,
        "a;b=" + '"' * 1_000_000,
        "a" + ";b" * 500_000 + "@",
        "a;b" + " " * 1_000_000 + "c",
        "a;b=" + "c" * 1_000_000 + "\xff",
    ],
)
def test_pathological_extensions_are_refused_in_linear_time(value: str) -> None:
    with pytest.raises(HandshakeError):
        parse_extensions(value)

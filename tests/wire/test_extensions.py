"""crest.wire.extensions: permessage-deflate negotiated (RFC 7692 sections 5 and 7.1), against rules and websockets."""

import dataclasses
import itertools
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from crest.exceptions import UpgradeError
from crest.wire.extensions import Agreement, Deflate, conclude, negotiate, offer
from crest.wire.handshake import parse_extensions

PLAIN = Deflate(server_no_context_takeover=False, client_no_context_takeover=False)
"""Asks for nothing."""


def agree(offer: str, options: Deflate = PLAIN) -> str | None:
    """What the response says to the value of a request's header."""
    agreed = negotiate(parse_extensions(offer), options)
    return agreed and agreed.response


# ---- Options ---------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    options = Deflate()
    assert (options.server_no_context_takeover, options.client_no_context_takeover) == (True, True)
    assert (options.server_max_window_bits, options.client_max_window_bits) == (15, 15)
    assert (options.level, options.memory_level, options.threshold) == (3, 5, 128)


def test_options_are_a_value() -> None:
    assert Deflate(level=9) == Deflate(level=9) != Deflate()
    assert len({Deflate(), Deflate(), Deflate(threshold=0)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Deflate().level = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("server_max_window_bits", 9, 15),
        ("client_max_window_bits", 9, 15),
        ("level", 1, 9),
        ("memory_level", 1, 9),
        ("threshold", 0, (1 << 63) - 1),
    ],
)
def test_range_of_an_option(name: str, least: int, most: int) -> None:
    for value in (least, most):
        assert getattr(Deflate(**{name: value}), name) == value
    with pytest.raises(ValueError, match=f"{name} must be at least {least}, not {least - 1}"):
        Deflate(**{name: least - 1})
    with pytest.raises(ValueError, match=f"{name} must be at most {most}, not {most + 1}"):
        Deflate(**{name: most + 1})


@pytest.mark.parametrize("field", dataclasses.fields(Deflate), ids=lambda field: field.name)
def test_type_of_an_option(field: dataclasses.Field[Any]) -> None:
    with pytest.raises(TypeError, match=f"{field.name} must be (int|bool), not str"):
        Deflate(**{field.name: "10"})  # type: ignore[arg-type]


def test_options_are_named() -> None:
    with pytest.raises(TypeError):
        Deflate(True)  # type: ignore[misc]


# ---- Negotiation -----------------------------------------------------------------------------------------------------


def test_agreement() -> None:
    agreed = negotiate(parse_extensions("permessage-deflate; client_max_window_bits=10"), Deflate())
    response = "permessage-deflate; client_no_context_takeover; client_max_window_bits=10"
    assert agreed == Agreement(True, True, 15, 10, response)


@pytest.mark.parametrize(
    ("offer", "options", "response"),
    [
        ("permessage-deflate", {}, ""),
        ("permessage-deflate; client_max_window_bits", {}, ""),
        ("permessage-deflate; client_max_window_bits=15", {}, ""),
        # Section 7.1.1: a client asks, and gets it. The server does it unasked, and tells nobody; or has clients do it.
        ("permessage-deflate; server_no_context_takeover", {}, "; server_no_context_takeover"),
        ("permessage-deflate", {"server_no_context_takeover": True}, ""),
        ("permessage-deflate; client_no_context_takeover", {}, "; client_no_context_takeover"),
        ("permessage-deflate", {"client_no_context_takeover": True}, "; client_no_context_takeover"),
        # Section 7.1.2.1: the response has the same or a smaller value; a smaller window without an offer needs none.
        ("permessage-deflate; server_max_window_bits=12", {}, "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=15", {}, "; server_max_window_bits=15"),
        ("permessage-deflate", {"server_max_window_bits": 9}, ""),
        (
            "permessage-deflate; server_max_window_bits=12",
            {"server_max_window_bits": 10},
            "; server_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_max_window_bits=10",
            {"server_max_window_bits": 12},
            "; server_max_window_bits=10",
        ),
        # Section 7.1.2.2: likewise, but only where the offer has the parameter.
        ("permessage-deflate; client_max_window_bits=8", {}, "; client_max_window_bits=8"),
        ("permessage-deflate; client_max_window_bits", {"client_max_window_bits": 9}, "; client_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits=12", {"client_max_window_bits": 9}, "; client_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits=8", {"client_max_window_bits": 9}, "; client_max_window_bits=8"),
        (
            "permessage-deflate; client_max_window_bits=9; server_no_context_takeover; server_max_window_bits=9; "
            "client_no_context_takeover",
            {},
            "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; "
            "client_max_window_bits=9",
        ),
    ],
)
def test_accepted(offer: str, options: dict[str, Any], response: str) -> None:
    assert agree(offer, dataclasses.replace(PLAIN, **options)) == "permessage-deflate" + response


@pytest.mark.parametrize(
    ("params", "options"),
    [
        # Section 7: an unknown parameter, one twice, a value that it can not have.
        ("unknown", {}),
        ("unknown=1", {}),
        ("Server_No_Context_Takeover", {}),
        ("server_no_context_takeover; server_no_context_takeover", {}),
        ("client_max_window_bits; client_max_window_bits", {}),
        ("client_max_window_bits; client_max_window_bits=10", {}),
        ("server_max_window_bits=10; server_max_window_bits=10", {}),
        ("server_no_context_takeover=1", {}),
        ("server_no_context_takeover=true", {}),
        ("client_no_context_takeover=15", {}),
        ("server_max_window_bits", {}),
        *[
            (f"{side}_max_window_bits={value}", {})
            for side in ("server", "client")
            for value in ("0", "7", "16", "08", "010", "1", "150", "-9", "+9", "9.0", "0x9", "a", "9a", "1e1")
        ],
        # What this server can not do: zlib has no such window to compress with, ...
        ("server_max_window_bits=8", {}),
        # ... and a client that is not known to understand it can not be asked for a smaller one.
        ("server_no_context_takeover", {"client_max_window_bits": 14}),
    ],
)
def test_declined(params: str, options: dict[str, Any]) -> None:
    wanted = dataclasses.replace(PLAIN, **options)
    assert agree(f"permessage-deflate; {params}", wanted) is None
    # The next offer has its turn.
    behind = f"permessage-deflate; {params}, permessage-deflate; client_max_window_bits"
    assert agree(behind, wanted) == agree("permessage-deflate; client_max_window_bits", wanted) is not None


@pytest.mark.parametrize("offer", ["x-webkit-deflate-frame", "Permessage-Deflate", "permessage-bzip2; a=1, foo"])
def test_another_extension_is_declined(offer: str) -> None:
    assert agree(offer) is None
    assert agree(f"{offer}, permessage-deflate") == "permessage-deflate"


def test_a_value_may_be_quoted() -> None:
    """RFC 6455 section 9.1."""
    offer = r'permessage-deflate; server_max_window_bits="1\0"; client_max_window_bits="9"'
    assert agree(offer) == "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9"


def test_the_first_offer_wins() -> None:
    offer = "foo, permessage-deflate; server_max_window_bits=11, permessage-deflate"
    assert agree(offer) == "permessage-deflate; server_max_window_bits=11"


BITS = [None, 9, 12, 15]


@pytest.mark.parametrize("wanted", [*itertools.product([False, True], [False, True], [9, 11, 15], [9, 11, 15])])
def test_a_response_has_nothing_that_was_not_offered(wanted: tuple[bool, bool, int, int]) -> None:
    """But for client_no_context_takeover, where the server wants it: some clients fail at what they did not offer."""
    names = [field.name for field in dataclasses.fields(Deflate)][:4]
    options = Deflate(**dict(zip(names, wanted, strict=True)))
    for offered in itertools.product([False, True], [False, True], BITS, [*BITS, True]):
        offer = ClientPerMessageDeflateFactory(*offered).get_request_params()
        agreed = negotiate([("permessage-deflate", offer)], options)
        if agreed is not None:
            ((_, params),) = parse_extensions(agreed.response)
            surplus = {name for name, _ in params} - {name for name, _ in offer}
            assert surplus <= ({"client_no_context_takeover"} if wanted[1] else set())


@pytest.mark.parametrize("wanted", [*itertools.product([False, True], [False, True], [9, 11, 15], [9, 11, 15])])
def test_websockets_understands_each_agreement(wanted: tuple[bool, bool, int, int]) -> None:
    """Every combination of parameters on both sides: another implementation of the client's side, which fails what the
    RFC has it fail, comes to the same parameters."""
    names = [field.name for field in dataclasses.fields(Deflate)][:4]
    options = Deflate(**dict(zip(names, wanted, strict=True)))
    for offered in itertools.product([False, True], [False, True], BITS, [*BITS, True]):
        client = ClientPerMessageDeflateFactory(*offered)
        agreed = negotiate([("permessage-deflate", client.get_request_params())], options)
        if agreed is None:
            assert offered[3] is None and options.client_max_window_bits < 15
            continue
        ((name, params),) = parse_extensions(agreed.response)
        extension = client.process_response_params(params, [])
        assert name == client.name
        # It may keep more of what the server sends than that will refer to.
        assert extension.remote_no_context_takeover <= agreed.server_no_context_takeover
        assert extension.remote_max_window_bits >= agreed.server_max_window_bits
        assert extension.local_no_context_takeover == agreed.client_no_context_takeover
        assert extension.local_max_window_bits == agreed.client_max_window_bits


# ---- The client's side -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "client_max_window_bits"),
        ({"server_no_context_takeover": True}, "server_no_context_takeover; client_max_window_bits"),
        ({"client_no_context_takeover": True}, "client_no_context_takeover; client_max_window_bits"),
        ({"server_max_window_bits": 9}, "server_max_window_bits=9; client_max_window_bits"),
        ({"client_max_window_bits": 9}, "client_max_window_bits=9"),
    ],
)
def test_what_a_client_offers(options: dict[str, Any], words: str) -> None:
    value = offer(dataclasses.replace(PLAIN, **options))
    assert value == f"permessage-deflate; {words}"
    assert agree(value) is not None


def concluded(response: str, **options: Any) -> Agreement | None:
    """What a client takes a response for."""
    return conclude(parse_extensions(response), dataclasses.replace(PLAIN, **options), response)


@pytest.mark.parametrize(
    ("params", "options", "agreed"),
    [
        ("", {}, (False, False, 15, 15)),
        ("; server_no_context_takeover", {}, (True, False, 15, 15)),
        ("; client_no_context_takeover", {}, (False, True, 15, 15)),
        ("", {"client_no_context_takeover": True}, (False, True, 15, 15)),
        ("; server_no_context_takeover", {"server_no_context_takeover": True}, (True, False, 15, 15)),
        ("; server_max_window_bits=8", {}, (False, False, 8, 15)),
        ("; server_max_window_bits=10", {"server_max_window_bits": 10}, (False, False, 10, 15)),
        ("; server_max_window_bits=8", {"server_max_window_bits": 10}, (False, False, 8, 15)),
        ("; client_max_window_bits=8", {}, (False, False, 15, 8)),
        ("; client_max_window_bits=15", {}, (False, False, 15, 15)),
        ("; client_max_window_bits=9", {"client_max_window_bits": 10}, (False, False, 15, 9)),
        ("", {"client_max_window_bits": 10}, (False, False, 15, 10)),
        ('; client_max_window_bits="9"', {}, (False, False, 15, 9)),
    ],
)
def test_what_a_client_concludes(params: str, options: dict[str, Any], agreed: tuple[bool, bool, int, int]) -> None:
    response = f"permessage-deflate{params}"
    assert concluded(response, **options) == Agreement(*agreed, response)


@pytest.mark.parametrize(
    ("params", "options", "words"),
    [
        # Section 7.1: a parameter that no response may have, with such a value, or twice.
        ("; unknown", {}, "with 'unknown', which no response may have"),
        ("; server_no_context_takeover=1", {}, "with 'server_no_context_takeover=1', which"),
        ("; server_max_window_bits", {}, "with 'server_max_window_bits', which"),
        ("; client_max_window_bits", {}, "with 'client_max_window_bits', which"),
        ("; client_max_window_bits=16", {}, "with 'client_max_window_bits=16', which"),
        ("; server_max_window_bits=7", {}, "with 'server_max_window_bits=7', which"),
        ("; client_no_context_takeover; client_no_context_takeover", {}, "a parameter twice"),
        # Sections 7.1.1.1 and 7.1.2: less than was asked for.
        ("", {"server_no_context_takeover": True}, "without server_no_context_takeover, which was asked for"),
        ("", {"server_max_window_bits": 10}, "the server has a window of 15 bits, over 10"),
        ("; server_max_window_bits=11", {"server_max_window_bits": 10}, "a window of 11 bits, over 10"),
        ("; client_max_window_bits=11", {"client_max_window_bits": 10}, "allows a window of 11 bits, over 10"),
        # Section 5: an extension twice, or another one.
        (", permessage-deflate", {}, "accepts permessage-deflate twice"),
        (", x-foo", {}, "was not offered: 'x-foo'"),
    ],
)
def test_a_response_that_a_client_fails_for(params: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UpgradeError, match=words):
        concluded(f"permessage-deflate{params}", **options)


def test_without_an_offer_nothing_may_be_accepted() -> None:
    assert conclude([], None, "") is None
    assert conclude([], PLAIN, "") is None
    with pytest.raises(UpgradeError, match="was not offered: 'permessage-deflate'"):
        conclude(parse_extensions("permessage-deflate"), None, "permessage-deflate")


@pytest.mark.parametrize("mine", [*itertools.product((False, True), (False, True), (9, 12, 15), (9, 12, 15))])
@pytest.mark.parametrize("theirs", [*itertools.product((False, True), (False, True), (9, 15), (9, 15))])
def test_a_client_understands_each_agreement_of_a_server(
    mine: tuple[bool, bool, int, int], theirs: tuple[bool, bool, int, int]
) -> None:
    """What either side compresses, the other one can read: it keeps its context, and its window is wide enough."""
    names = [each.name for each in dataclasses.fields(Deflate)]
    wanted = Deflate(**dict(zip(names, mine, strict=False)))  # type: ignore[arg-type]
    agreed = negotiate(parse_extensions(offer(wanted)), Deflate(**dict(zip(names, theirs, strict=False))))  # type: ignore[arg-type]
    assert agreed is not None
    found = conclude(parse_extensions(agreed.response), wanted, agreed.response)
    assert found is not None
    assert agreed.server_no_context_takeover >= found.server_no_context_takeover
    assert found.client_no_context_takeover >= agreed.client_no_context_takeover
    assert agreed.server_max_window_bits <= found.server_max_window_bits
    assert found.client_max_window_bits <= agreed.client_max_window_bits

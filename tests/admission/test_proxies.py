"""crest.admission.proxies: who the client is, and what of a header is believed."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from support.client import request

from crest import HandshakeError
from crest.admission.proxies import TrustedProxies, key_of, parse_forwarded, parse_node, plain_address
from crest.wire.head import parse_head

PROXY = ("10.0.0.1", 5000)


def client(
    peer: tuple[str, int] | None, trusted: Any = ("10.0.0.0/8",), header: Any = "X-Forwarded-For", **values: str
) -> Any:
    """Who the client is, of a request with these headers (`_` is `-`)."""
    fields = {"Host": "test", **{name.replace("_", "-"): value for name, value in values.items()}}
    return TrustedProxies(trusted, header).client(peer, parse_head(request("/", fields)))


# ---- X-Forwarded-For -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.7", ("192.0.2.7", 0)),
        ("192.0.2.7:4711", ("192.0.2.7", 4711)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:DB8::1]:4711", ("2001:db8::1", 4711)),
        ("::ffff:192.0.2.7", ("192.0.2.7", 0)),
        ("198.51.100.1, 192.0.2.7", ("192.0.2.7", 0)),  # the left one anybody could have sent
        ("192.0.2.7, 10.1.1.1,10.2.2.2", ("192.0.2.7", 0)),
        ("10.3.3.3, 10.1.1.1", ("10.3.3.3", 0)),
        ("192.0.2.7, unknown, 10.2.2.2", ("10.2.2.2", 0)),
        ("192.0.2.7, ", PROXY),
        ("unknown", PROXY),
        ("<script>", PROXY),
        ("999.0.0.1", PROXY),
        ("192.0.2.7\xb2", PROXY),
        ("", PROXY),
    ],
)
def test_the_last_address_before_the_proxies_is_the_clients(value: str, expected: tuple[str, int]) -> None:
    assert client(PROXY, X_Forwarded_For=value) == expected


def test_without_the_header_it_is_the_proxy() -> None:
    assert client(PROXY) == PROXY


def test_several_lines_are_one_list() -> None:
    head = request("/", {"Host": "test", "X-Forwarded-For": "198.51.100.1", "x-forwarded-for": "192.0.2.7"})
    assert TrustedProxies(["10.0.0.0/8"]).client(PROXY, parse_head(head)) == ("192.0.2.7", 0)


@pytest.mark.parametrize("peer", [("192.0.2.1", 1), ("2001:db8::2", 1), ("11.0.0.1", 1), None])
def test_nobody_else_is_believed(peer: tuple[str, int] | None) -> None:
    assert client(peer, X_Forwarded_For="198.51.100.1", Forwarded="for=198.51.100.1") == peer


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "10.255.255.255", "fe80::1%eth0"])
def test_a_trusted_address_is_one_however_it_is_written(peer: str) -> None:
    assert client((peer, 1), ["10.0.0.0/8", "fe80::/64"], X_Forwarded_For="192.0.2.7") == ("192.0.2.7", 0)


def test_peers_of_a_unix_socket_are_trusted_by_name() -> None:
    assert client(None, ["unix"], X_Forwarded_For="192.0.2.7") == ("192.0.2.7", 0)
    assert client(None, ["unix"]) is None


# ---- Forwarded -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.7", ("192.0.2.7", 0)),
        ('For="192.0.2.7:4711";proto=https;by=203.0.113.4', ("192.0.2.7", 4711)),
        ('for="[2001:db8::1]:4711"', ("2001:db8::1", 4711)),
        ('for="[2001:db8::1]:_port"', ("2001:db8::1", 0)),
        (r'for="192.0.2\.7"', ("192.0.2.7", 0)),
        ('for=198.51.100.1, for="192.0.2.7" , for=10.1.1.1', ("192.0.2.7", 0)),
        ('host="a,for=198.51.100.1";for=192.0.2.7', ("192.0.2.7", 0)),
        ("for=192.0.2.7,proto=https", PROXY),
        ("for=192.0.2.7,for=_hidden", PROXY),
        ("for=unknown", PROXY),
    ],
)
def test_forwarded_is_read_where_the_proxies_write_it(value: str, expected: tuple[str, int]) -> None:
    assert client(PROXY, header="Forwarded", Forwarded=value, X_Forwarded_For="198.51.100.9") == expected
    assert client(PROXY, Forwarded=value) == PROXY


@pytest.mark.parametrize(
    "value",
    ['for=", for=192.0.2.7', "for", "for=a b", "for=192.0.2.7:80", 'for="a"b', "=a", ";", "for=a;;for=b", "\xff"],
)
def test_a_malformed_forwarded_is_refused(value: str) -> None:
    with pytest.raises(HandshakeError, match="Forwarded is malformed") as raised:
        client(PROXY, header="Forwarded", Forwarded=value)
    assert raised.value.status == 400
    assert client(("192.0.2.1", 1), header="Forwarded", Forwarded=value) == ("192.0.2.1", 1)


def test_a_long_forwarded_is_read_in_time_that_grows_with_it() -> None:
    assert len(parse_forwarded(",".join(["for=192.0.2.7"] * 100_000))) == 100_000
    with pytest.raises(HandshakeError):
        parse_forwarded('for="' + "\\a" * 1_000_000)


def test_a_node_without_an_address_is_none() -> None:
    assert parse_node("_hidden") is parse_node("") is parse_node("[::1") is parse_node("1.2.3.4:99999999") is None
    assert parse_node("\u0661.2.3.4") is parse_node("1.2.3.4:\u0661") is None


@pytest.mark.parametrize("host", ["192.0.2.7", "[2001:db8::1]"])
def test_a_port_that_can_not_be_is_not_known(host: str) -> None:
    """The address is: without it the client would be taken for the proxy."""
    address = host.strip("[]")
    for port, expected in (("65535", 65535), ("65536", 0), ("99999", 0), ("00080", 80)):
        assert parse_node(f"{host}:{port}") == (address, expected)
    assert client(PROXY, X_Forwarded_For=f"{host}:65536") == (address, 0)


def test_a_translated_address_is_the_ipv4_address() -> None:
    """RFC 6052 section 2.4 has this example; the bits before must all be those of the prefix."""
    assert str(plain_address("64:ff9b::192.0.2.33")) == "192.0.2.33"
    for other in ("64:ff9b:0:0:0:1:c000:221", "64:ff9b:1::c000:221", "65:ff9b::c000:221"):
        assert plain_address(other) == ip_address(other)


# ---- Addresses to count by -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7%eth0", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("64:ff9b:1::192.0.2.7", "64:ff9b:1::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_clients_are_counted_by_address_or_network(host: str, key: str) -> None:
    assert key_of((host, 1)) == key


# ---- Arguments -------------------------------------------------------------------------------------------------------


def test_addresses_and_networks_as_str_and_as_objects() -> None:
    for entry in ("10.0.0.1", "10.0.0.0/8", ip_address("10.0.0.1"), ip_network("10.0.0.0/8")):
        assert client(PROXY, [entry], X_Forwarded_For="192.0.2.7") == ("192.0.2.7", 0)
    assert not TrustedProxies(())
    assert TrustedProxies(["unix"])


@pytest.mark.parametrize("wrong", ["localhost", "10.0.0.1/8", "10.0.0.300", ""])
def test_what_is_no_address(wrong: str) -> None:
    with pytest.raises(ValueError, match="not an address or network of trusted proxies"):
        TrustedProxies([wrong])


@pytest.mark.parametrize("wrong", [1, None, b"10.0.0.1"])
def test_an_address_is_not_of_any_type(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a trusted proxy must be an address or a network"):
        TrustedProxies([wrong])


def test_one_str_is_no_sequence_of_addresses() -> None:
    with pytest.raises(TypeError, match=r"must be a sequence of addresses, not '10\.0\.0\.1'"):
        TrustedProxies("10.0.0.1")


@pytest.mark.parametrize("wrong", ["X-Real-IP", "forwarded", None])
def test_another_header_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="forwarded_header must be"):
        TrustedProxies(["10.0.0.1"], wrong)

"""The client's address behind proxies: X-Forwarded-For, or Forwarded (RFC 7239), as far as they can be believed.

Each proxy appends the address that it got the request from. Read from the right, the first address that is not a
proxy's is the client's; anything to the left of it the client may have made up. It may also have made up the header
that the proxies do not write: they hand on the client's own. So one of the two headers is read, and the other never.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

from crest.exceptions import HandshakeError
from crest.options import MOST_PORT
from crest.wire.head import RequestHead, shown

Client = tuple[str, int]  # address and port
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNIX: Final = "unix"
"""Among trusted proxies: peers without an address, which are those of a Unix socket."""

UNKNOWN_PORT: Final = 0

IPV6_HOST_BITS: Final = 64
"""Bits that one network of IPv6 leaves to the hosts in it (RFC 4291 section 2.5.1): a client can choose them all."""

NAT64: Final = int(IPv6Address("64:ff9b::")) >> 32
"""The first 96 bits of addresses that translators make of IPv4 addresses (RFC 6052 section 2.1). The last 32 bits are
the IPv4 address: all of IPv4 is one network of 64 bits there."""

# node of RFC 7239 section 6, and as X-Forwarded-For has it: an IPv6 address without brackets, too.
_PORT = r"(?::(?:(?P<{}>[0-9]{{1,5}})|_[\w.\-]+))?"
_NODE = re.compile(
    rf"\[(?P<v6>[0-9A-Fa-f:.]+)\]{_PORT.format('v6port')}|(?P<v4>[0-9.]+){_PORT.format('v4port')}"
    r"|(?P<bare>[0-9A-Fa-f:.]+)",
    re.ASCII,
)

# forwarded-pair of RFC 7239 section 4, and what follows it.
_PAIR = re.compile(
    r"[ \t]*+(?P<name>[!#$%&'*+\-.^`|~\w]++)=(?:(?P<token>[!#$%&'*+\-.^`|~\w]++)|\"(?P<quoted>(?:[^\"\\]|\\.)*+)\")"
    r"[ \t]*+(?P<next>[;,]|$)",
    re.ASCII,
)


class TrustedProxies:
    """The proxies in front of a server, whose word on the client's address is taken.

    Args:
        trusted: Addresses and networks, "192.0.2.7" or "10.0.0.0/8" or objects of `ipaddress`; "unix" for the peers of
            Unix sockets.
        header: What those proxies write.

    Raises:
        TypeError, ValueError: One is neither address nor network; no such header.
    """

    __slots__ = ("_header", "_networks", "_unix")

    def __init__(
        self,
        trusted: Iterable[str | Address | Network],
        header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For",
    ) -> None:
        if isinstance(trusted, str) or not isinstance(trusted, Iterable):
            raise TypeError(f"trusted_proxies must be a sequence of addresses, not {trusted!r}")
        if header not in ("X-Forwarded-For", "Forwarded"):
            raise ValueError(f"forwarded_header must be 'X-Forwarded-For' or 'Forwarded', not {header!r}")
        entries = list(trusted)
        self._unix = UNIX in entries
        self._networks = [_network(each) for each in entries if each != UNIX]
        self._header = header

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def client(self, peer: Client | None, head: RequestHead) -> Client | None:
        """Find address and port of the client, as far as they can be known: the last ones before the trusted proxies.

        Args:
            peer: Where the connection comes from; None if that has no address.
            head: The request.

        Returns:
            The port is 0 if the proxy did not say.

        Raises:
            HandshakeError: 400, a trusted proxy's Forwarded is malformed.
        """
        if not self.trusts(peer):
            return peer
        client = peer
        for node in self._nodes(head):
            found = parse_node(node)
            if found is None:  # "unknown", or hidden: what is known is the proxy that says so
                return client
            client = found
            if not self.trusts(client):
                return client
        return client

    def trusts(self, peer: Client | None) -> bool:
        """True if this is one of them; None is a peer without an address."""
        if peer is None:
            return self._unix
        address = plain_address(peer[0])
        return address is not None and any(address in network for network in self._networks)

    def _nodes(self, head: RequestHead) -> Iterator[str]:
        """Iterate over the addresses that the proxies wrote, the nearest proxy's first."""
        value = head.joined(self._header.encode())
        if not value:
            return iter(())
        if self._header == "Forwarded":
            return reversed(parse_forwarded(value))
        return (each.strip(" \t") for each in reversed(value.split(",")))


def plain_address(host: str) -> Address | None:
    """Find the address that a peer is counted and trusted by, without a zone.

    That is the IPv4 address where one is mapped into IPv6 (RFC 4291 section 2.5.5.2) or translated (NAT64).
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if int(address) >> 32 == NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def key_of(client: Client) -> str:
    """Name what a client is counted by: its address; for IPv6 its network, where it has 2**64 addresses."""
    host = client[0]
    if ":" not in host and "%" not in host:
        return host  # IPv4 has one form, and parsing it is nearly half of what accepting with TLS took (benches/tls.py)
    address = plain_address(host)
    if address is None or address.version == 4:
        return host if address is None else str(address)
    network = int(address) >> IPV6_HOST_BITS << IPV6_HOST_BITS
    return f"{IPv6Address(network)}/{IPV6_HOST_BITS}"


def parse_node(text: str) -> Client | None:
    """Find the address and port in a node; None if there is no address in it.

    A port over 65535 follows the grammar of RFC 7239 section 6, but is none. So the port is unknown, and the address
    counts: without it the client would be taken for the proxy.
    """
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    address = plain_address(match["v6"] or match["v4"] or match["bare"])
    port = int(match["v6port"] or match["v4port"] or UNKNOWN_PORT)
    return None if address is None else (str(address), port if port <= MOST_PORT else UNKNOWN_PORT)


def parse_forwarded(value: str) -> list[str]:
    """List the `for` of each element of a Forwarded header (RFC 7239 section 4), in order; "" where there is none.

    Raises:
        HandshakeError: 400, it is malformed. An unclosed quote of the client's, say, would swallow what proxies wrote.
    """
    nodes = [""]
    at = 0
    while at < len(value):
        match = _PAIR.match(value, at)
        if match is None:
            raise HandshakeError(400, f"Forwarded is malformed: {shown(value)}")
        if match["name"].lower() == "for":
            nodes[-1] = match["token"] or re.sub(r"\\(.)", r"\1", match["quoted"] or "")
        if match["next"] == ",":
            nodes.append("")
        at = match.end()
    return nodes


def _network(entry: object) -> Network:
    if not isinstance(entry, str | IPv4Address | IPv6Address | IPv4Network | IPv6Network):
        raise TypeError(f"a trusted proxy must be an address or a network, not {type(entry).__name__}")
    try:
        return ip_network(entry)
    except ValueError as error:
        raise ValueError(f"not an address or network of trusted proxies: {error}") from None

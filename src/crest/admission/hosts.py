"""The hosts that a server answers for: the one that the client addressed, against those that the App lists.

A page can have any name. Its owner can let that name mean 127.0.0.1, or any address that the user's browser reaches
(DNS rebinding). To the browser, page and server have one origin then, whatever `origins` says. Only the host of the
page's requests tells: it is the page's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final

from crest.admission.decision import Refusal
from crest.admission.origins import DEFAULT_PORTS, parse_authority
from crest.wire.handshake import check_host
from crest.wire.head import RequestHead, authority_of, shown

ANY_SUBDOMAIN: Final = "*."

_LISTED: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]++(?:\.[a-z0-9_-]++)*+|\[[0-9a-f:.]+\]")


class Hosts:
    """The hosts that a server answers for.

    Args:
        allowed: "example.com" or "127.0.0.1", at any port; "example.com:8000" at that port; "*.example.com" for all
            names below that one, not itself; "[::1]" or "::1". The port of a request that has none is the default one.

    Raises:
        TypeError, ValueError: It is none of these.
    """

    __slots__ = ("_below", "_named")

    def __init__(self, allowed: Iterable[str]) -> None:
        if isinstance(allowed, str | bytes) or not isinstance(allowed, Iterable):
            raise TypeError(f"hosts must be a sequence of names, not {allowed!r}")
        self._named: defaultdict[str, set[int | None]] = defaultdict(set)
        self._below: defaultdict[str, set[int | None]] = defaultdict(set)
        for entry in allowed:
            name, port = _parse_listed(entry)
            if name.startswith(ANY_SUBDOMAIN):
                self._below[name.removeprefix(ANY_SUBDOMAIN)].add(port)
            else:
                self._named[name].add(port)

    def allow(self, host: str, scheme: str) -> bool:
        """True if requests for this host are answered.

        Args:
            host: The Host header.
            scheme: Over which the request came, "http" or "https".
        """
        found = _parse(host)
        if found is None:
            return False
        name, port = found
        # As in origins.py: over plain HTTP a proxy may have ended TLS, and only the client knows.
        default = {DEFAULT_PORTS[scheme], DEFAULT_PORTS["https"]}
        ports = {None, *(default if port is None else (port,))}
        if ports & self._named.get(name, set()):
            return True
        while not name.startswith("[") and "." in name:
            name = name.partition(".")[2]
            if ports & self._below.get(name, set()):
                return True
        return False

    def check(self, head: RequestHead, scheme: str) -> None:
        """Refuse a request for another host, or, as HTTP/1.0 allows, for none.

        The host of an absolute target counts in place of the header's (RFC 9112 section 3.2.2).

        Raises:
            Refusal: 421, the request is misdirected (RFC 9110 section 7.4).
            HandshakeError: 400, Host is malformed, or missing in a request of HTTP/1.1.
        """
        check_host(head)
        host = authority_of(head.target)
        if host is None:
            host = head.joined(b"Host")
        if host is None:
            raise Refusal("host", 421, "this server answers for the App's hosts, and the request has no Host")
        if not self.allow(host, scheme):
            raise Refusal("host", 421, f"this server has no host {shown(host)}: it is not among the App's hosts")


def _parse(text: str) -> tuple[str, int | None] | None:
    """Split a host from its port, and write it in the one way that each host has here. None: it is no host."""
    authority = parse_authority(text.removesuffix(":"))
    if authority is None:
        return None
    host, port = authority
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1])}]", port
        except ValueError:
            return None
    return host.removesuffix("."), port


def _parse_listed(entry: object) -> tuple[str, int | None]:
    if not isinstance(entry, str):
        raise TypeError(f"a host must be str, not {type(entry).__name__}")
    found = _parse(entry) or _parse(f"[{entry}]")
    if found is None or _LISTED.fullmatch(found[0]) is None:
        raise ValueError(
            f"a host looks like 'example.com', '*.example.com', 'localhost:8000' or '[::1]', not {entry!r}"
        )
    return found

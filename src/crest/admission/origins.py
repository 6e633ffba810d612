"""The pages that may open a WebSocket: the Origin header (RFC 6454 section 7) against what the server allows.

Browsers let every page connect to every WebSocket, with the cookies of the user that looks at it. They leave it to the
server to refuse (RFC 6455 section 10.2). A client that is no browser sends no Origin, or any that it likes. So this
protects users of browsers from other pages, and is no authentication.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from crest.options import MOST_PORT

SAME: Final = "same"
ANY: Final = "*"
NULL: Final = "null"
"""What browsers send for pages without an origin of their own: files, sandboxed frames, some redirects. Any page can
make itself one, so it is as good as any origin."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
PAGES: Final = {"ws": "http", "wss": "https"}
"""The scheme that a page of the same server has. Some clients that are no browsers make Origin of a WebSocket's own
address (Starscream, on iOS)."""

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*)://(?P<authority>[^/?#@\s,]*)")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{1,5}))?")

Origin = tuple[str, str, int | None]  # scheme, host and port
Allowed = str | re.Pattern[str]


class Origins:
    """The origins that a server allows.

    Args:
        allowed: "same": the server's own; "*": any; "https://example.com": one, of any scheme ("file://"); "null"; a
            compiled pattern that must match the whole header as it was sent; or a sequence of those.

    Raises:
        TypeError, ValueError: It is none of these.
    """

    __slots__ = ("_any", "_listed", "_null", "_patterns", "_same")

    def __init__(self, allowed: Allowed | Sequence[Allowed]) -> None:
        entries: Sequence[object] = [allowed] if issubclass(type(allowed), str | re.Pattern) else _listed(allowed)
        self._any = ANY in entries
        self._same = SAME in entries
        self._null = NULL in entries
        self._patterns = [_checked_pattern(each) for each in entries if isinstance(each, re.Pattern)]
        self._listed = {_parse_listed(each) for each in entries if each not in (ANY, SAME, NULL, *self._patterns)}

    def allow(self, origin: str, host: str, scheme: str) -> bool:
        """True if a page of this origin may connect.

        Args:
            origin: The Origin header.
            host: The Host header of the same request.
            scheme: Over which the request came, "http" or "https".
        """
        if self._any or (self._null and origin == NULL):
            return True
        if self._patterns and any(each.fullmatch(origin) for each in self._patterns):
            return True
        found = _parse(origin)
        if found is None:
            return False
        return found in self._listed or (self._same and _is_same(found, host, scheme))


def _is_same(origin: Origin, host: str, scheme: str) -> bool:
    """True if it is the origin of the server itself, as far as the server can tell.

    Over plain HTTP an https origin counts as well: a proxy that ends TLS does not tell, and only a party that controls
    the host can serve pages from it. The other way round, a page that came in the clear, where anyone could have
    altered it, does not count for a server that ends TLS itself. Names of the loopback interface are one host: they all
    mean the client's own machine.
    """
    page_scheme, page_host, page_port = origin
    page_scheme = PAGES.get(page_scheme, page_scheme)
    if page_scheme != "https" and (page_scheme != "http" or scheme == "https"):
        return False
    authority = parse_authority(host)
    if authority is None:
        return False
    name, port = authority
    if port is None:  # the default of the client's scheme, which, behind such a proxy, only Origin tells
        port = DEFAULT_PORTS[page_scheme]
    return port == page_port and (name == page_host or {name, page_host} <= LOOPBACK)


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """Split a host from its port (RFC 3986 section 3.2), in small letters; None if there is no such port."""
    match = _AUTHORITY.fullmatch(text.lower())
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    return None if port is not None and port > MOST_PORT else (match["host"], port)


def _parse(origin: str) -> Origin | None:
    """Split an origin into scheme, host and port, the default port included; None if it is no origin."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme = match["scheme"]
    if not match["authority"]:
        return None if scheme in DEFAULT_PORTS else (scheme, "", None)  # as "file://", which has no host
    authority = parse_authority(match["authority"])
    if authority is None:
        return None
    host, port = authority
    return scheme, host, DEFAULT_PORTS.get(scheme) if port is None else port


def _listed(allowed: object) -> Sequence[object]:
    if not isinstance(allowed, Sequence | set | frozenset) or isinstance(allowed, bytes):
        # Not None either: what was left out by mistake must not open the door.
        raise TypeError(f"origins must be 'same', '*', or a sequence of origins, not {type(allowed).__name__}")
    return list(allowed)


def _checked_pattern(pattern: re.Pattern[str]) -> re.Pattern[str]:
    if not isinstance(pattern.pattern, str):
        raise TypeError(f"a pattern of origins must be one of str, not of {type(pattern.pattern).__name__}")
    return pattern


def _parse_listed(entry: object) -> Origin:
    if not isinstance(entry, str) or not issubclass(type(entry), str):
        raise TypeError(f"an origin must be str or a compiled pattern of str, not {type(entry).__name__}")
    origin = _parse(entry)
    if origin is None:
        raise ValueError(f"an origin looks like 'https://example.com' or 'http://localhost:3000', not {entry!r}")
    return origin

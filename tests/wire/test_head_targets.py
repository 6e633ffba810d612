"""crest.wire.head: request targets, their paths, routes and authorities (RFC 9112 section 3)."""

import re

import pytest

from crest.exceptions import HandshakeError
from crest.wire.head import authority_of, path_of, route_of, split_target


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/ws", "/ws"),
        ("/ws?a=/b", "/ws"),
        ("/ws#x?y", "/ws"),
        ("/ws/", "/ws/"),
        ("//host/ws", "//host/ws"),
        ("/a%20b", "/a b"),
        ("/caf%C3%A9", "/café"),
        ("/%ff%FE", "/��"),
        ("/%zz%", "/%zz%"),
        ("/a%2fb", "/a/b"),
        ("/%2e%2e/x", "/../x"),
        ("/%252e", "/%2e"),
        ("/a%3fb?c", "/a?b"),
        ("/a%23b#c", "/a#b"),
        ("/http://x", "/http://x"),
        ("http://host/ws", "/ws"),
        ("HTTP://user@host:80/a%20b?c", "/a b"),
        ("http://host", "/"),
        ("http://host?a=/b", "/"),
        ("http://host#a/b", "/"),
        ("*", ""),
        ("host:80", ""),
        ("", ""),
        ("://host/ws", ""),
    ],
)
def test_path_of(target: str, path: str) -> None:
    assert path_of(target) == path


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/a%20b?x=1?y&z=#f?g", ("/a%20b", "x=1?y&z=")),
        ("/a?", ("/a", "")),
        ("/?a/b", ("/", "a/b")),
        ("http://host/ws?a=1#b", ("/ws", "a=1")),
        ("http://host?a=/b", ("/", "a=/b")),
        ("*", ("", "")),
    ],
)
def test_split_target(target: str, parts: tuple[str, str]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize("target", ["/", "/a%20b?x=1", "http://host", "http://host/ws", "/%23"])
def test_a_route(target: str) -> None:
    assert route_of(target) == path_of(target)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("*", "has no path"),
        ("host:80", "has no path"),
        ("/ws#", "has a fragment, which no request may have: '/ws#'"),
        ("/ws?a#b", "has a fragment"),
        ("/#/ws", "has a fragment"),
        ("http://host/ws#x", "has a fragment"),
        ("http://host#x", "has a fragment"),
    ],
)
def test_no_route(target: str, why: str) -> None:
    with pytest.raises(HandshakeError, match=re.escape(why)) as caught:
        route_of(target)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        ("/ws", None),
        ("/ws?to=http://host/", None),
        ("*", None),
        ("host:80", None),
        ("://host/", None),
        ("http://host", "host"),
        ("http://host:80/ws", "host:80"),
        ("HTTP://[::1]:80?a=/b", "[::1]:80"),
        ("http://a@host#x", "a@host"),
        ("http:///ws", ""),
    ],
)
def test_the_authority_of_a_target(target: str, authority: str | None) -> None:
    assert authority_of(target) == authority

"""crest.origins: which origins are allowed, and what a list of them may have."""

import re
from typing import Any

import pytest

from crest.origins import Origins

SAME = [
    ("http://chat.example", "chat.example"),
    ("http://chat.example", "chat.example:80"),
    ("http://CHAT.example", "Chat.Example"),
    ("http://chat.example:8000", "chat.example:8000"),
    ("http://[2001:db8::1]:8000", "[2001:DB8::1]:8000"),
    ("https://chat.example", "chat.example"),  # a proxy ends TLS
    ("https://chat.example", "chat.example:443"),
    ("https://chat.example:8443", "chat.example:8443"),
    ("http://127.0.0.1:8000", "localhost:8000"),
    ("http://localhost:8000", "[::1]:8000"),
]
OTHERS = [
    ("http://evil.example", "chat.example"),
    ("http://chat.example.evil.example", "chat.example"),
    ("http://evil.example:8000", "chat.example:8000"),
    ("http://chat.example:8000", "chat.example"),
    ("http://chat.example", "chat.example:8000"),
    ("https://chat.example", "chat.example:80"),
    ("http://localhost:3000", "localhost:8000"),
    ("http://localhost.evil.example:8000", "localhost:8000"),
    ("http://localhost", "chat.example"),
    ("ftp://chat.example", "chat.example"),
    ("chrome-extension://chat.example", "chat.example"),
    ("http://chat.example", ""),
    ("http://chat.example:65536", "chat.example:65536"),
    ("http://chat.example", "chat.example:65616"),  # 80 in 16 bits
]
NO_ORIGINS = [
    "",
    "null",
    "NULL",
    "chat.example",
    "http://",
    "http:chat.example",
    "http://chat.example/",
    "http://user@chat.example",
    "http://evil.example@chat.example",
    "http://chat.example:",
    "http://chat.example:80:80",
    "http://chat.example:65536",
    "http://chat.example:99999",
    "http://chat.example:\xb2",
    "http://chat.example, http://chat.example",
    "http://chat.example http://chat.example",
    "http://chat.example,http://chat.example",
    "http://chat.example#",
    "http://[chat.example]",
    "http://chat.example\xff",
]


@pytest.mark.parametrize(("origin", "host"), SAME)
def test_the_servers_own_pages_may_connect(origin: str, host: str) -> None:
    assert Origins("same").allow(origin, host, "http")
    assert not Origins(()).allow(origin, host, "http")


@pytest.mark.parametrize(("origin", "host"), OTHERS)
def test_pages_of_others_may_not(origin: str, host: str) -> None:
    assert not Origins("same").allow(origin, host, "http")


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_what_is_no_origin_is_nobodys(origin: str) -> None:
    assert not Origins(["same", "http://chat.example", re.compile(r"http://chat\.example")]).allow(
        origin, "chat.example", "http"
    )
    assert Origins("*").allow(origin, "chat.example", "http")


def test_the_last_port_is_one() -> None:
    assert Origins("same").allow("http://chat.example:65535", "chat.example:65535", "http")


def test_a_page_that_came_in_the_clear_may_not_connect_to_a_server_with_tls() -> None:
    assert Origins("same").allow("https://chat.example", "chat.example", "https")
    assert not Origins("same").allow("http://chat.example", "chat.example", "https")
    assert not Origins("same").allow("http://chat.example:443", "chat.example:443", "https")


@pytest.mark.parametrize("origin", ["https://chat.example", "https://chat.example:443", "HTTPS://Chat.Example"])
def test_a_listed_origin_is_compared_as_origins_are(origin: str) -> None:
    for allowed in ("https://chat.example", "https://CHAT.example:443"):
        assert Origins([allowed]).allow(origin, "api.example", "http")
        assert Origins(allowed).allow(origin, "api.example", "http")


@pytest.mark.parametrize(
    "origin", ["http://chat.example", "https://chat.example:8443", "https://a.chat.example", "https://api.example"]
)
def test_a_list_has_only_what_is_in_it(origin: str) -> None:
    assert not Origins(["https://chat.example"]).allow(origin, "api.example", "http")


def test_a_list_may_have_the_servers_own_and_null() -> None:
    origins = Origins(["same", "null", "app://desktop"])
    assert origins.allow("http://chat.example", "chat.example", "http")
    assert origins.allow("null", "chat.example", "http")
    assert origins.allow("app://desktop", "chat.example", "http")
    assert not origins.allow("app://other", "chat.example", "http")


def test_a_pattern_matches_a_whole_origin() -> None:
    for origins in (
        Origins(re.compile(r"https://\w+\.chat\.example")),
        Origins([re.compile(r"https://\w+\.chat\.example")]),
    ):
        assert origins.allow("https://a.chat.example", "api.example", "http")
        assert not origins.allow("https://a.chat.example.evil.example", "api.example", "http")
        assert not origins.allow("https://chat.example", "api.example", "http")


@pytest.mark.parametrize("wrong", [None, 1, b"*", {"same": 1}, object()])
def test_origins_are_a_sequence(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"origins must be 'same', .* not {type(wrong).__name__}"):
        Origins(wrong)


@pytest.mark.parametrize("wrong", [None, 1, b"https://chat.example"])
def test_an_origin_is_a_str(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"an origin must be str .* not {type(wrong).__name__}"):
        Origins([wrong])


@pytest.mark.parametrize(
    "wrong",
    ["chat.example", "https://chat.example/", "https://*.chat.example:x", "https://chat.example:65536", "", "self"],
)
def test_what_no_browser_sends_can_not_be_listed(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"an origin looks like 'https://example\.com'"):
        Origins([wrong])

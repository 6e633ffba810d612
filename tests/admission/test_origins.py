"""crest.admission.origins: which origins are allowed, and what a list of them may have."""

import re
from typing import Any

import pytest

from crest.admission.origins import Origins

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
    ("ws://chat.example", "chat.example"),  # some clients that are no browsers
    ("WS://chat.example:8000", "chat.example:8000"),
    ("wss://chat.example", "chat.example"),
    ("wss://chat.example:8443", "chat.example:8443"),
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
    ("file://chat.example", "chat.example"),
    ("file://", "chat.example"),
    ("file://", ""),
    ("ws://evil.example", "chat.example"),
    ("ws://chat.example", "chat.example:443"),
    ("wss://chat.example", "chat.example:80"),
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
    "https://",
    "ws://",
    "wss://",
    "://",
    "file:///",
    "file:",
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
    assert Origins("same").allow("wss://chat.example", "chat.example", "https")
    assert not Origins("same").allow("ws://chat.example", "chat.example", "https")
    assert not Origins("same").allow("ws://chat.example:443", "chat.example:443", "https")


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


@pytest.mark.parametrize(
    "listed",
    ["file://", "wss://chat.example", "capacitor://localhost", "chrome-extension://abc", "tauri://localhost:1"],
)
def test_a_list_takes_any_scheme(listed: str) -> None:
    for allowed in (listed, [listed], ["same", listed.upper()]):
        origins = Origins(allowed)
        assert origins.allow(listed, "api.example", "https")
        assert not origins.allow(listed + "x", "api.example", "https")
        assert not origins.allow("x" + listed, "api.example", "https")
        assert not origins.allow("null", "api.example", "https")


def test_a_listed_scheme_is_itself() -> None:
    assert not Origins(["https://chat.example"]).allow("wss://chat.example", "api.example", "http")
    assert not Origins(["wss://chat.example"]).allow("https://chat.example", "api.example", "http")
    assert Origins(["wss://chat.example:443"]).allow("wss://chat.example", "api.example", "http")
    assert Origins(["ws://chat.example"]).allow("ws://chat.example:80", "api.example", "http")


@pytest.mark.parametrize("origin", ["file://", "file:///a/b", "null", "my app", "", "http://CHAT.example/", "a,b"])
def test_a_pattern_is_asked_about_whatever_was_sent(origin: str) -> None:
    assert Origins(re.compile(re.escape(origin))).allow(origin, "chat.example", "http")
    assert not Origins(re.compile(re.escape(origin) + "x")).allow(origin, "chat.example", "http")


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


def test_a_pattern_is_of_str() -> None:
    for wrong in (re.compile(b"https://chat"), ["same", re.compile(b"https://chat")]):
        with pytest.raises(TypeError, match="a pattern of origins must be one of str, not of bytes"):
            Origins(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    ["chat.example", "https://chat.example/", "https://*.chat.example:x", "https://chat.example:65536", "", "self"]
    + ["http://", "wss://", "file:///", "file:", "://chat.example"],
)
def test_what_no_browser_sends_can_not_be_listed(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"an origin looks like 'https://example\.com'"):
        Origins([wrong])

"""crest.admission.hosts: which hosts a server answers for, and what a request for another one gets."""

import logging
from typing import Any

import pytest
from support.certificates import Pair
from support.client import Answer, Server, handshake, request, tcp, upgraded
from support.events import on_each_loop

from crest import App, WebSocketServer
from crest.admission.hosts import Hosts

ALLOWED = [
    ("example.com", "example.com"),
    ("example.com", "EXAMPLE.com:8000"),
    ("Example.COM.", "example.com"),
    ("example.com", "example.com.:80"),
    ("example.com", "example.com:"),
    ("example.com:8000", "example.com:8000"),
    ("example.com:80", "example.com"),
    ("example.com:443", "example.com"),  # a proxy ends TLS
    ("*.example.com", "a.example.com"),
    ("*.example.com", "a.b.example.com:8000"),
    ("*.example.com:8000", "a.b.example.com:8000"),
    ("*.b.example.com", "a.b.example.com"),
    ("localhost", "localhost:8000"),
    ("127.0.0.1", "127.0.0.1:8000"),
    ("[::1]", "[::1]:8000"),
    ("::1", "[0:0:0:0:0:0:0:1]"),
    ("[2001:DB8:0::1]:8000", "[2001:db8::1]:8000"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("a_b", "a_b"),
]
REFUSED = [
    ("example.com", "evil.example"),
    ("example.com", "a.example.com"),
    ("example.com", "example.com.evil.example"),
    ("example.com", "aexample.com"),
    ("example.com", ""),
    ("example.com", "example.com:65536"),
    ("example.com", "example.com:80:80"),
    ("example.com", "example.com,example.com"),
    ("example.com", "example.com.."),
    ("example.com", "user@example.com"),
    ("example.com:8000", "example.com"),
    ("example.com:8000", "example.com:8001"),
    ("example.com:65535", "example.com:131071"),  # the same in 16 bits
    ("*.example.com", "example.com"),
    ("*.example.com", "aexample.com"),
    ("*.example.com:8000", "a.example.com"),
    ("*.0.0.1", "[::127.0.0.1]"),
    ("localhost", "127.0.0.1"),
    ("127.0.0.1", "127.0.0.1.evil.example"),
    ("::1", "[::2]"),
    ("::1", "[::1"),
    ("::1", "[::1%eth0]"),
]


@pytest.mark.parametrize(("allowed", "host"), ALLOWED)
def test_a_host_that_is_listed(allowed: str, host: str) -> None:
    assert Hosts(["other.example", allowed]).allow(host, "http")
    assert not Hosts(["other.example"]).allow(host, "http")


@pytest.mark.parametrize(("allowed", "host"), REFUSED)
def test_a_host_that_is_not_listed(allowed: str, host: str) -> None:
    assert not Hosts([allowed]).allow(host, "http")


def test_the_default_port_is_that_of_the_scheme() -> None:
    assert Hosts(["example.com:443"]).allow("example.com", "https")
    assert not Hosts(["example.com:80"]).allow("example.com", "https")


def test_without_any_nothing_is_served() -> None:
    assert not Hosts([]).allow("example.com", "http")


@pytest.mark.parametrize("wrong", ["example.com", b"example.com", 1])
def test_hosts_are_a_sequence(wrong: Any) -> None:
    with pytest.raises(TypeError, match="hosts must be a sequence of names"):
        App(hosts=wrong)


@pytest.mark.parametrize("wrong", [None, 1, b"example.com"])
def test_a_host_is_a_str(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"a host must be str, not {type(wrong).__name__}"):
        App(hosts=[wrong])


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "*",
        "*.",
        "*.*.com",
        "a.*",
        "http://a",
        "a/b",
        "a b",
        "a..b",
        ".a",
        "u@a",
        "b\xfccher.example",
        "a:x",
        "a:65536",
    ]
    + ["[::1", "[a]", "[::1]x", "a:\uff18"],
)
def test_what_no_request_can_be_for_can_not_be_listed(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"a host looks like 'example\.com'"):
        App(hosts=[wrong])


# ---- What a request gets ---------------------------------------------------------------------------------------------


def served(**options: Any) -> tuple[App, WebSocketServer]:
    app, ws = App(hosts=["example.com", "*.example.net:8000"], **options), WebSocketServer()
    WebSocketServer("/page")
    app.get("/page")(lambda request: "page")
    return app, ws


async def answer_to(server: Server, data: bytes) -> Answer:
    async with tcp(server) as client:
        await client.send(data)
        return await client.answer()


@on_each_loop
async def test_requests_for_the_hosts_are_answered(direct: bool) -> None:
    app, _ = served()
    async with app.listening(direct=direct) as server:
        for host in ("example.com", f"example.com:{server.port}", "a.example.net:8000"):
            assert (await answer_to(server, request("/page", {"Host": host}))).body == b"page"
            async with upgraded(server, changed={"Host": host}) as client:
                await client.round_trip()
    assert app.refused == {}


@on_each_loop
async def test_requests_for_others_get_421(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A page that was rebound to this server's address is of the same origin, and still gets nothing."""
    app, ws = served()
    evil = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening(direct=direct) as server:
            for data in [request(path, evil) for path in ("/page", "/ws", "/other")] + [handshake("/ws", {**evil})]:
                answer = await answer_to(server, data)
                assert (answer.status, answer.headers["connection"]) == (421, "close")
                assert answer.body == b"this server has no host 'evil.example:8000': it is not among the App's hosts\n"
    assert app.refused == {"host": 3}
    assert ws.refused == {"host": 1}
    assert any("421, this server has no host 'evil.example:8000'" in message for message in caplog.messages)


@on_each_loop
async def test_the_host_of_an_absolute_target_counts() -> None:
    """RFC 9112 section 3.2.2: whatever Host says."""
    app, _ = served()
    async with app.listening() as server:
        for target, host, status in (
            ("http://example.com/page", "evil.example", 200),
            ("http://evil.example/page", "example.com", 421),
            ("http://example.com@evil.example/page", "example.com", 421),
            ("http://evil.example?http://example.com", "example.com", 421),
            ("http:///page", "example.com", 421),
        ):
            assert (await answer_to(server, request(target, {"Host": host}))).status == status


@on_each_loop
async def test_without_a_host_it_is_400() -> None:
    app, ws = served()
    async with app.listening() as server:
        assert (await answer_to(server, b"GET /page HTTP/1.1\r\n\r\n")).status == 400
        assert (await answer_to(server, b"GET /ws HTTP/1.1\r\nHost: example.com\r\nHost: a\r\n\r\n")).status == 400
        assert (await answer_to(server, handshake("/ws", {"Host": None}))).status == 400
    assert ws.refused == {"handshake": 1} and app.refused == {}


@on_each_loop
async def test_over_tls(pair: Pair, direct: bool) -> None:
    app = App(hosts=["example.com:443", "example.com:8443"])
    app.get("/")(lambda request: "page")
    async with app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct) as server:
        for host, status in (("example.com", 200), ("example.com:8443", 200), ("example.com:80", 421)):
            async with tcp(server, tls=pair.client()) as client:
                await client.send(request("/", {"Host": host}))
                assert (await client.answer()).status == status
